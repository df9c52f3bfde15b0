"""The state machines of RFC 3261 section 17 with the Accepted state of RFC 6026, as tables.

A pair that is not in the table means: the event changes nothing.
"""

from __future__ import annotations

from enum import IntEnum


class Uas(IntEnum):
    """States of a server transaction."""

    TRYING = 0
    PROCEEDING = 1
    COMPLETED = 2
    CONFIRMED = 3
    ACCEPTED = 4
    TERMINATED = 5


class Uac(IntEnum):
    """States of a client transaction (a branch). CALLING is also the Trying state of a non-INVITE one."""

    CALLING = 0
    PROCEEDING = 1
    COMPLETED = 2
    ACCEPTED = 3
    TERMINATED = 4


class Event(IntEnum):
    """What drives them. For a server transaction: replies sent; for a client transaction: replies received."""

    PROVISIONAL = 0
    SUCCESS = 1
    FAILURE = 2
    ACK = 3
    TIMEOUT = 4
    TRANSPORT_ERROR = 5


UAS_INVITE: dict[tuple[int, int], Uas] = {
    (Uas.TRYING, Event.PROVISIONAL): Uas.PROCEEDING,  # 17.2.1: an INVITE is Proceeding from the start; Trying: no 100 was sent
    (Uas.TRYING, Event.SUCCESS): Uas.ACCEPTED,  # RFC 6026 7.1
    (Uas.TRYING, Event.FAILURE): Uas.COMPLETED,  # 17.2.1
    (Uas.PROCEEDING, Event.PROVISIONAL): Uas.PROCEEDING,  # 17.2.1
    (Uas.PROCEEDING, Event.SUCCESS): Uas.ACCEPTED,  # RFC 6026 7.1
    (Uas.PROCEEDING, Event.FAILURE): Uas.COMPLETED,  # 17.2.1
    (Uas.COMPLETED, Event.ACK): Uas.CONFIRMED,  # 17.2.1
    (Uas.COMPLETED, Event.TIMEOUT): Uas.TERMINATED,  # 17.2.1, timer H
    (Uas.CONFIRMED, Event.TIMEOUT): Uas.TERMINATED,  # 17.2.1, timer I
    (Uas.ACCEPTED, Event.SUCCESS): Uas.ACCEPTED,  # RFC 6026 7.1: further 2xx pass
    (Uas.ACCEPTED, Event.ACK): Uas.ACCEPTED,  # RFC 6026 7.1; it ends the retransmission of our own 2xx (13.3.1.4)
    (Uas.ACCEPTED, Event.TIMEOUT): Uas.TERMINATED,  # RFC 6026 7.1, timer L
}

UAS_NON_INVITE: dict[tuple[int, int], Uas] = {
    (Uas.TRYING, Event.PROVISIONAL): Uas.PROCEEDING,  # 17.2.2
    (Uas.TRYING, Event.SUCCESS): Uas.COMPLETED,  # 17.2.2
    (Uas.TRYING, Event.FAILURE): Uas.COMPLETED,  # 17.2.2
    (Uas.PROCEEDING, Event.PROVISIONAL): Uas.PROCEEDING,  # 17.2.2
    (Uas.PROCEEDING, Event.SUCCESS): Uas.COMPLETED,  # 17.2.2
    (Uas.PROCEEDING, Event.FAILURE): Uas.COMPLETED,  # 17.2.2
    (Uas.COMPLETED, Event.TIMEOUT): Uas.TERMINATED,  # 17.2.2, timer J
}

UAC_INVITE: dict[tuple[int, int], Uac] = {
    (Uac.CALLING, Event.PROVISIONAL): Uac.PROCEEDING,  # 17.1.1.2
    (Uac.CALLING, Event.SUCCESS): Uac.ACCEPTED,  # RFC 6026 7.2
    (Uac.CALLING, Event.FAILURE): Uac.COMPLETED,  # 17.1.1.2
    (Uac.CALLING, Event.TIMEOUT): Uac.COMPLETED,  # 17.1.1.2, timer B; kept to acknowledge a late reply
    (Uac.CALLING, Event.TRANSPORT_ERROR): Uac.TERMINATED,  # 17.1.4
    (Uac.PROCEEDING, Event.PROVISIONAL): Uac.PROCEEDING,  # 17.1.1.2
    (Uac.PROCEEDING, Event.SUCCESS): Uac.ACCEPTED,  # RFC 6026 7.2
    (Uac.PROCEEDING, Event.FAILURE): Uac.COMPLETED,  # 17.1.1.2
    (Uac.PROCEEDING, Event.TIMEOUT): Uac.COMPLETED,  # 16.8, timer C: cancelled, its 487 is still to be acknowledged
    (Uac.COMPLETED, Event.FAILURE): Uac.COMPLETED,  # 17.1.1.2: acknowledged again
    (Uac.ACCEPTED, Event.SUCCESS): Uac.ACCEPTED,  # RFC 6026 7.2: passed on again
}

UAC_NON_INVITE: dict[tuple[int, int], Uac] = {
    (Uac.CALLING, Event.PROVISIONAL): Uac.PROCEEDING,  # 17.1.2.2
    (Uac.CALLING, Event.SUCCESS): Uac.COMPLETED,  # 17.1.2.2
    (Uac.CALLING, Event.FAILURE): Uac.COMPLETED,  # 17.1.2.2
    (Uac.CALLING, Event.TIMEOUT): Uac.COMPLETED,  # 17.1.2.2, timer F
    (Uac.CALLING, Event.TRANSPORT_ERROR): Uac.TERMINATED,  # 17.1.4
    (Uac.PROCEEDING, Event.PROVISIONAL): Uac.PROCEEDING,  # 17.1.2.2
    (Uac.PROCEEDING, Event.SUCCESS): Uac.COMPLETED,  # 17.1.2.2
    (Uac.PROCEEDING, Event.FAILURE): Uac.COMPLETED,  # 17.1.2.2
    (Uac.PROCEEDING, Event.TIMEOUT): Uac.COMPLETED,  # 17.1.2.2, timer F
}


def event_of(code: int) -> Event:
    """The event that a reply with status ``code`` is."""
    if code < 200:
        return Event.PROVISIONAL
    return Event.SUCCESS if code < 300 else Event.FAILURE
