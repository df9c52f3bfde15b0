"""A transaction as it lies in the shared store (key ``t`` + 8 bytes): everything that any process may need to go on.

The first two fields stand at fixed offsets of the encoded form, so that the timer process can tell what is due
without decoding (:func:`peek`).
"""

from __future__ import annotations

import struct
from math import inf

import msgspec

NEVER = inf
MAX_BRANCHES = 12
"""Branches of one transaction, and destinations of one request with its R-URI (OpenSIPS: MAX_BRANCHES)."""

# Record.flags
CANCELLED = 1
"""A CANCEL for it has been received."""
PARKED = 2
"""Its script is suspended: no timer runs."""
NO_NEW_BRANCHES = 4
"""A 6xx was received: nothing more may be tried (RFC 3261 16.7, step 5)."""
LOCAL_SUCCESS = 8
"""The 2xx was made here, so that it is retransmitted from here."""
PASS_REASON = 16
"""The Reason header of a received CANCEL is passed on (t_relay flag 0x08)."""
RESTORE_FROM = 32
"""From was replaced (uac_replace_from): replies get back the one of the request."""
RESTORE_TO = 64
"""The same for To."""
LOCAL = 128
"""The request was made here: there is nobody upstream."""
REPLICATED = 256
"""A copy of a received request (t_replicate): what comes back is not relayed."""
NOT_RELAYED = LOCAL | REPLICATED
RELIABLE = 512
"""The request came over a connection: replies are not repeated (RFC 3261 17.2)."""
OPEN_ONLY = 1024
"""Replies go over an open connection or not at all (tcp_no_new_conn_rplflag)."""
KEEP_BRANCHES = 8192
"""A 2xx does not cancel the other branches (t_relay flag 0x10, RFC 3841 9.1)."""
REPLIED_HERE = 4096
"""The last reply sent upstream was made here."""

RESTORE_CSEQ = 2048
"""The number in CSeq was raised to answer a challenge (uac_auth): replies get back the one of the request."""

# Branch.flags
LOCAL_REPLY = 1
"""``code`` was made here (408 at a timeout, 477 at a send failure)."""
CANCEL_WANTED = 2
"""To be cancelled as soon as a provisional reply arrives (RFC 3261 9.1)."""
MINOR = 4
"""Does not hold back the final reply (minor_branch_flag)."""
OVER_STREAM = 8
"""Sent over a connection: nothing is repeated (RFC 3261 17.1)."""
SILENT = 16
"""Its 408 was made here, and not a single reply had come: the server may be dead (RFC 3263 4.3)."""
RECEIVED = 32
"""A reply, if only a provisional one, has come."""
PHONY = 64
"""No request was sent: the branch keeps the transaction open for others to be added (t_wait_for_new_branches), or for a reply
from outside (t_write_req)."""


class Alternative(msgspec.Struct, array_like=True):
    """Another server of the name that a branch goes to (RFC 3263 4.3)."""

    host: str
    port: int
    socket: str
    """Name of the socket that it is reached from."""
    via: str
    """Our Via up to its parameters, when it differs from the one before; else empty."""
    stream: bool
    """It is reached over a connection."""


class UacBranch(msgspec.Struct, array_like=True):
    """One client transaction: where a copy of the request went, and what came back."""

    uri: str
    host: str
    port: int
    socket: str
    """Name of the socket that it was sent from."""
    via: str
    """``branch`` parameter of our Via."""
    sent: bytes
    """The request as it was sent: retransmissions, ACK and CANCEL are made from it."""
    state: int
    code: int = 0
    """Last status received, or made here."""
    flags: int = 0
    reply: bytes = b""
    """Final non-2xx reply, ready to be relayed (our Via removed); empty for one made here."""
    retransmit_at: float = NEVER
    interval: float = 0.0
    fr_at: float = NEVER
    """Deadline of the final response: RFC 3261 timers B, C, F."""
    cancel: bytes = b""
    """The CANCEL that was sent."""
    cancel_at: float = NEVER
    """When the CANCEL is retransmitted."""
    cancel_interval: float = 0.0
    cancel_until: float = NEVER
    on_reply: str | None = None
    """onreply_route of this branch alone (t_on_reply in a branch route)."""
    avps: dict[str, list[str | int]] | None = None
    """``$bavp``."""
    script_flags: int = 0
    """Branch flags of the script."""
    held: int = 0
    """Status of the reply that a suspended onreply route holds back; 0: none."""
    further: list[Alternative] | None = None
    """What is tried when this server fails, in this order; None when there is nothing, or it is not wanted."""


class Notice(msgspec.Struct, array_like=True):
    """Who is told of the replies to a request that was made here."""

    handler: str
    """Name of the handler (:mod:`opensips_py.tm.uac_reply`)."""
    state: bytes = b""
    """Given to it."""
    slot: int = -1
    """The process that must run it; -1: the one that gets the reply."""
    incarnation: int = 0
    provisional: bool = False
    """Told of provisional replies too."""


class Record(msgspec.Struct, array_like=True):
    """One server transaction with its branches."""

    deadline: float
    """this.clock.now() of the earliest thing to do; NEVER while parked."""
    done: bool
    """Nothing is to be done at ``deadline`` but to delete it."""
    method: str
    state: int
    raw: bytes
    """The request as received."""
    ip: str
    port: int
    """Source of the request."""
    socket: str
    """Name of the socket that it came to, or went out from."""
    reply_host: str
    reply_port: int
    """Where replies go (RFC 3261 18.2.2, RFC 3581)."""
    to_tag: str
    """To tag of replies made here."""
    code: int = 0
    """Last status sent upstream."""
    reply: bytes = b""
    """Last reply sent upstream, byte for byte: answers retransmissions of the request."""
    flags: int = 0
    retransmit_at: float = NEVER
    interval: float = 0.0
    """Retransmission of a final reply to an INVITE: RFC 3261 timer G."""
    end_at: float = NEVER
    """RFC 3261 timers H, I, J; RFC 6026 timer L."""
    fr: float = 30.0
    fr_inv: float = 120.0
    branches: list[UacBranch] = []
    on_failure: str | None = None
    on_reply: str | None = None
    on_branch: str | None = None
    context: bytes = b""
    """``Context.freeze()`` at t_relay, when a failure route (or onreply routes with AVPs) will need it."""
    index: bytes = b""
    """Store key under which the ACK for a 2xx finds this transaction."""
    first: int = 0
    """First branch of the present attempt: earlier ones have had their failure route, and do not count any more."""
    headers: str = ""
    """Header lines for everything that is sent (t_add_hdrs)."""
    notice: Notice | None = None
    """Who is told of the replies to a request made here."""
    breadth: int = 0
    """How widely what comes back of its branches may be forked (RFC 5393, Max-Breadth); 0: as any request."""
    repeated_at: float = 0.0
    """When the last reply went out again because the request did."""
    failing: int = -1
    """Branch whose reply has won, while its failure route is suspended: nothing else decides meanwhile; -1: none is."""
    script_flags: int = 0
    """Message flags of the script, for onreply routes."""
    kept: dict[str, bytes] | None = None
    """Data of modules, encoded, by name (:mod:`opensips_py.tm.callbacks`); None: no module keeps any."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Record).decode

_double = struct.Struct(">d").unpack_from


def peek(data: bytes) -> tuple[float, bool]:
    """(deadline, done) of an encoded record.

    MessagePack: array16 header (3 bytes), float64 (tag and 8 bytes), boolean.
    """
    return _double(data, 4)[0], data[12] == 0xC3
