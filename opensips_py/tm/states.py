"""The state machines of RFC 3261 section 17 with the Accepted state of RFC 6026, as tables.

Everything that says which state follows which lives in this file; ``docs/reference/transactions.md`` is drawn from it.
A pair of state and event that is not in a table means: the event changes no state, and is counted (statistic
``tm:ignored_events``). Most of them are what the network repeats or brings late. After the final reply nothing
goes upstream for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar


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
    NEXT_SERVER = 6
    """The request could not be sent, and its target's name has another server."""
    RELEASED = 7
    """The script has ended, and has neither answered nor relayed."""
    ENDED_HERE = 8
    """The final reply to a request made here has come, or has been made up."""
    GIVEN_UP = 9
    """The branch is ended here whatever becomes of it, or what it waits for will not come."""


State = TypeVar("State", Uas, Uac)

OURS = "ours"
_RELEASED = "the script has neither answered nor relayed"
_ENDED_HERE = "a request made here: its final reply goes to nobody upstream"
_GIVEN_UP = "ended here, or a wait for branches that is over"
_NOBODY = "nobody has answered"


@dataclass(frozen=True, slots=True)
class Transition(Generic[State]):
    """One arrow of a state diagram."""

    state: State
    event: Event
    next: State
    rfc: str
    """Where it stands: RFC and section; :data:`OURS` where no RFC has such an event."""
    note: str = ""
    """What the section leaves open, or is worth knowing."""


@dataclass(frozen=True, slots=True)
class Machine(Generic[State]):
    """One state machine."""

    title: str
    start: State
    transitions: tuple[Transition[State], ...]

    def table(self) -> dict[tuple[int, int], State]:
        """State and event to the next state."""
        return {(t.state, t.event): t.next for t in self.transitions}


UAS_INVITE_MACHINE = Machine(
    "INVITE server transaction",
    Uas.TRYING,
    (
        Transition(Uas.TRYING, Event.PROVISIONAL, Uas.PROCEEDING, "RFC 3261 17.2.1", "Trying: no 100 has been sent yet"),
        Transition(Uas.TRYING, Event.SUCCESS, Uas.ACCEPTED, "RFC 6026 7.1"),
        Transition(Uas.TRYING, Event.FAILURE, Uas.COMPLETED, "RFC 3261 17.2.1"),
        Transition(Uas.PROCEEDING, Event.PROVISIONAL, Uas.PROCEEDING, "RFC 3261 17.2.1"),
        Transition(Uas.PROCEEDING, Event.SUCCESS, Uas.ACCEPTED, "RFC 6026 7.1"),
        Transition(Uas.PROCEEDING, Event.FAILURE, Uas.COMPLETED, "RFC 3261 17.2.1"),
        Transition(Uas.TRYING, Event.RELEASED, Uas.TERMINATED, OURS, _RELEASED),
        Transition(Uas.TRYING, Event.ENDED_HERE, Uas.CONFIRMED, OURS, _ENDED_HERE),
        Transition(Uas.TRYING, Event.TIMEOUT, Uas.TERMINATED, OURS, _NOBODY),
        Transition(Uas.PROCEEDING, Event.RELEASED, Uas.TERMINATED, OURS, _RELEASED),
        Transition(Uas.PROCEEDING, Event.ENDED_HERE, Uas.CONFIRMED, OURS, _ENDED_HERE),
        Transition(Uas.PROCEEDING, Event.TIMEOUT, Uas.TERMINATED, OURS, _NOBODY),
        Transition(Uas.COMPLETED, Event.SUCCESS, Uas.COMPLETED, "RFC 3261 16.7", "a 2xx passes after all"),
        Transition(Uas.COMPLETED, Event.ACK, Uas.CONFIRMED, "RFC 3261 17.2.1"),
        Transition(Uas.COMPLETED, Event.TIMEOUT, Uas.TERMINATED, "RFC 3261 17.2.1", "timer H"),
        Transition(Uas.CONFIRMED, Event.SUCCESS, Uas.CONFIRMED, "RFC 3261 16.7", "a 2xx passes after all"),
        Transition(Uas.CONFIRMED, Event.ENDED_HERE, Uas.CONFIRMED, OURS, "a further 2xx to a request made here"),
        Transition(Uas.CONFIRMED, Event.TIMEOUT, Uas.TERMINATED, "RFC 3261 17.2.1", "timer I"),
        Transition(Uas.ACCEPTED, Event.SUCCESS, Uas.ACCEPTED, "RFC 6026 7.1", "further 2xx pass"),
        Transition(Uas.ACCEPTED, Event.ACK, Uas.ACCEPTED, "RFC 3261 13.3.1.4", "ends the retransmission of a 2xx made here"),
        Transition(Uas.ACCEPTED, Event.TIMEOUT, Uas.TERMINATED, "RFC 6026 7.1", "timer L"),
    ),
)

UAS_NON_INVITE_MACHINE = Machine(
    "Non-INVITE server transaction",
    Uas.TRYING,
    (
        Transition(Uas.TRYING, Event.PROVISIONAL, Uas.PROCEEDING, "RFC 3261 17.2.2"),
        Transition(Uas.TRYING, Event.SUCCESS, Uas.COMPLETED, "RFC 3261 17.2.2"),
        Transition(Uas.TRYING, Event.FAILURE, Uas.COMPLETED, "RFC 3261 17.2.2"),
        Transition(Uas.PROCEEDING, Event.PROVISIONAL, Uas.PROCEEDING, "RFC 3261 17.2.2"),
        Transition(Uas.PROCEEDING, Event.SUCCESS, Uas.COMPLETED, "RFC 3261 17.2.2"),
        Transition(Uas.PROCEEDING, Event.FAILURE, Uas.COMPLETED, "RFC 3261 17.2.2"),
        Transition(Uas.TRYING, Event.RELEASED, Uas.TERMINATED, OURS, _RELEASED),
        Transition(Uas.TRYING, Event.ENDED_HERE, Uas.COMPLETED, OURS, _ENDED_HERE),
        Transition(Uas.TRYING, Event.TIMEOUT, Uas.TERMINATED, OURS, _NOBODY),
        Transition(Uas.PROCEEDING, Event.RELEASED, Uas.TERMINATED, OURS, _RELEASED),
        Transition(Uas.PROCEEDING, Event.ENDED_HERE, Uas.COMPLETED, OURS, _ENDED_HERE),
        Transition(Uas.PROCEEDING, Event.TIMEOUT, Uas.TERMINATED, OURS, _NOBODY),
        Transition(Uas.COMPLETED, Event.TIMEOUT, Uas.TERMINATED, "RFC 3261 17.2.2", "timer J"),
    ),
)

UAC_INVITE_MACHINE = Machine(
    "INVITE client transaction",
    Uac.CALLING,
    (
        Transition(Uac.CALLING, Event.PROVISIONAL, Uac.PROCEEDING, "RFC 3261 17.1.1.2"),
        Transition(Uac.CALLING, Event.SUCCESS, Uac.ACCEPTED, "RFC 6026 7.2"),
        Transition(Uac.CALLING, Event.FAILURE, Uac.COMPLETED, "RFC 3261 17.1.1.2", "acknowledged"),
        Transition(Uac.CALLING, Event.TIMEOUT, Uac.COMPLETED, "RFC 3261 17.1.1.2", "timer B; kept to acknowledge a late reply"),
        Transition(Uac.CALLING, Event.TRANSPORT_ERROR, Uac.TERMINATED, "RFC 3261 17.1.4"),
        Transition(Uac.CALLING, Event.NEXT_SERVER, Uac.CALLING, "RFC 3263 4.3", "with a branch parameter of its own"),
        Transition(Uac.PROCEEDING, Event.PROVISIONAL, Uac.PROCEEDING, "RFC 3261 17.1.1.2"),
        Transition(Uac.PROCEEDING, Event.SUCCESS, Uac.ACCEPTED, "RFC 6026 7.2"),
        Transition(Uac.PROCEEDING, Event.FAILURE, Uac.COMPLETED, "RFC 3261 17.1.1.2", "acknowledged"),
        Transition(
            Uac.PROCEEDING,
            Event.TIMEOUT,
            Uac.COMPLETED,
            "RFC 3261 16.8",
            "timer C: cancelled, and the 487 that follows is acknowledged",
        ),
        Transition(Uac.CALLING, Event.GIVEN_UP, Uac.COMPLETED, OURS, _GIVEN_UP),
        Transition(Uac.PROCEEDING, Event.TRANSPORT_ERROR, Uac.TERMINATED, "RFC 3261 17.1.4"),
        Transition(Uac.PROCEEDING, Event.GIVEN_UP, Uac.COMPLETED, OURS, _GIVEN_UP),
        Transition(Uac.COMPLETED, Event.FAILURE, Uac.COMPLETED, "RFC 3261 17.1.1.2", "acknowledged again"),
        Transition(Uac.COMPLETED, Event.TRANSPORT_ERROR, Uac.TERMINATED, "RFC 3261 17.1.1.2", "the ACK could not be sent"),
        Transition(
            Uac.COMPLETED,
            Event.SUCCESS,
            Uac.ACCEPTED,
            "RFC 3261 16.7",
            "every 2xx passes, also one that crosses our CANCEL",
        ),
        Transition(Uac.ACCEPTED, Event.SUCCESS, Uac.ACCEPTED, "RFC 6026 7.2", "passed on again"),
    ),
)

UAC_NON_INVITE_MACHINE = Machine(
    "Non-INVITE client transaction",
    Uac.CALLING,
    (
        Transition(Uac.CALLING, Event.PROVISIONAL, Uac.PROCEEDING, "RFC 3261 17.1.2.2", "Calling is the Trying of the RFC here"),
        Transition(Uac.CALLING, Event.SUCCESS, Uac.COMPLETED, "RFC 3261 17.1.2.2"),
        Transition(Uac.CALLING, Event.FAILURE, Uac.COMPLETED, "RFC 3261 17.1.2.2"),
        Transition(Uac.CALLING, Event.TIMEOUT, Uac.COMPLETED, "RFC 3261 17.1.2.2", "timer F"),
        Transition(Uac.CALLING, Event.TRANSPORT_ERROR, Uac.TERMINATED, "RFC 3261 17.1.4"),
        Transition(Uac.CALLING, Event.NEXT_SERVER, Uac.CALLING, "RFC 3263 4.3", "with a branch parameter of its own"),
        Transition(Uac.PROCEEDING, Event.PROVISIONAL, Uac.PROCEEDING, "RFC 3261 17.1.2.2"),
        Transition(Uac.PROCEEDING, Event.SUCCESS, Uac.COMPLETED, "RFC 3261 17.1.2.2"),
        Transition(Uac.PROCEEDING, Event.FAILURE, Uac.COMPLETED, "RFC 3261 17.1.2.2"),
        Transition(Uac.PROCEEDING, Event.TIMEOUT, Uac.COMPLETED, "RFC 3261 17.1.2.2", "timer F"),
        Transition(Uac.CALLING, Event.GIVEN_UP, Uac.COMPLETED, OURS, _GIVEN_UP),
        Transition(Uac.PROCEEDING, Event.TRANSPORT_ERROR, Uac.TERMINATED, "RFC 3261 17.1.4"),
        Transition(Uac.PROCEEDING, Event.GIVEN_UP, Uac.COMPLETED, OURS, _GIVEN_UP),
    ),
)

UAS_INVITE = UAS_INVITE_MACHINE.table()
UAS_NON_INVITE = UAS_NON_INVITE_MACHINE.table()
UAC_INVITE = UAC_INVITE_MACHINE.table()
UAC_NON_INVITE = UAC_NON_INVITE_MACHINE.table()


EVENT_OF_CLASS = (Event.PROVISIONAL, Event.PROVISIONAL, Event.SUCCESS, *[Event.FAILURE] * 7)
"""The event that a reply is, by the first digit of its status."""


class Ignored:
    """What is told of an event that the state of its transaction does not allow."""

    count: Callable[[Event], object] = staticmethod(lambda event: None)
