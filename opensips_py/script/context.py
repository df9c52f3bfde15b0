"""The message being processed, as a routing script sees it.

A :class:`Context` is made for every received message (and for every route that runs without one) and handed to
each route function. It holds what a script can change: the destination, flags, branches, AVPs and, through
``msg.edits``, headers and body. Nothing here does I/O.

Script strings are byte strings carried as ``str``: each character is one byte (latin-1), so that lengths, hashes
and unknown encodings are those of the wire.

What a suspension must preserve is exactly what :meth:`Context.freeze` writes (OpenSIPS manual, "Asynchronous
Statements": all ``$avp`` variables and all changes of the message; ``$var`` is not preserved).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from opensips_py.sip.message import SipMessage, reread

Value = str | int | None
"""What a script variable holds; None is the script's NULL."""

Avps = dict[str, list[str | int]]
"""AVPs by name. Each is a stack: the last element of the list is the top, printed first by ``$(avp(x)[*])``."""

Q_UNSPECIFIED = -1
"""``q`` value of a branch that has none."""

NAMED_FLAGS = 32
"""Named message flags, and named branch flags, that one script may use (OpenSIPS limit)."""


class ValueRefused(Exception):
    """A value cannot be taken, by the variable to be written or by the line of the message to be made: return code -1."""


class RouteKind(enum.IntFlag):
    """Kinds of route block, as bits, so that a function can say where it may be called."""

    REQUEST = 1
    FAILURE = 2
    ONREPLY = 4
    BRANCH = 8
    LOCAL = 16
    ERROR = 32
    STARTUP = 64
    TIMER = 128
    EVENT = 256
    ALL = 511


@dataclass(slots=True, frozen=True)
class ListenSocket:
    """A socket that the server receives on and sends from.

    ``index`` is its position in the server's socket list: the same in every process, because sockets are opened
    before the fork. What is stored has its name.
    """

    index: int
    proto: str
    host: str
    """Address as it stands in Via and Record-Route; an IPv6 address without brackets."""
    port: int
    advertised_host: str | None = None
    advertised_port: int | None = None
    tag: str | None = None
    workers: int = 0

    name: str = field(init=False, compare=False)
    """``proto:address:port``, as OpenSIPS writes it: what it is called in stored records, whose reader may have other sockets."""
    sent_by: str = field(init=False, compare=False)
    """``host:port`` by which it names itself, with advertised values and brackets where they apply."""
    via: str = field(init=False, compare=False)
    """What our Via begins with, up to its parameters."""
    route: str = field(init=False, compare=False)
    """How it stands in Record-Route, Path and Route: the default port is left out, as OpenSIPS does."""

    def __post_init__(self) -> None:
        host = self.advertised_host or self.host
        if ":" in host:
            host = f"[{host}]"
        sent_by = f"{host}:{self.advertised_port or self.port}"
        route = sent_by.removesuffix(":5060")
        set_ = object.__setattr__  # frozen
        address = f"[{self.host}]" if ":" in self.host else self.host
        set_(self, "name", f"{self.proto}:{address}:{self.port}")
        set_(self, "sent_by", sent_by)
        set_(self, "via", f"SIP/2.0/{self.proto.upper()} {sent_by}")
        set_(self, "route", route if self.proto == "udp" else f"{route};transport={self.proto}")

    def __hash__(self) -> int:
        return self.index


class Source(msgspec.Struct, array_like=True, frozen=True):
    """Where a message came from."""

    ip: str
    port: int
    proto: str = "udp"


class Branch(msgspec.Struct, array_like=True):
    """A further destination of the request (OpenSIPS ``append_branch``); the R-URI itself is branch 0 in ``Context``."""

    uri: str
    dst_uri: str | None = None
    path: str | None = None
    q: int = Q_UNSPECIFIED
    flags: int = 0
    socket: str | None = None
    """Name of the forced send socket."""


class FrozenContext(msgspec.Struct, array_like=True):
    """What is kept of a Context in the shared store while its transaction is suspended."""

    raw: bytes
    edits: list[tuple[int, int, str]]
    source: Source
    socket: str
    route_kind: int
    new_uri: str | None
    dst_uri: str | None
    q: int
    path: str | None
    send_socket: str | None
    flags: int
    branch_flags: int
    branches: list[Branch]
    avps: dict[str, list[str | int]]
    tx_key: bytes | None
    armed_failure: str | None
    armed_reply: str | None
    armed_branch: str | None
    slots: dict[str, Any]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FrozenContext).decode


class Context(msgspec.Struct, eq=False):
    """One run of routes over one message."""

    msg: SipMessage
    source: Source
    socket: ListenSocket
    route_kind: RouteKind = RouteKind.REQUEST
    route_name: str = "0"

    # destination of branch 0
    new_uri: str | None = None
    """Rewritten R-URI; None while it is the received one."""
    dst_uri: str | None = None
    q: int = Q_UNSPECIFIED
    path: str | None = None
    send_socket: ListenSocket | None = None
    branch_flags: int = 0
    branches: list[Branch] = []

    flags: int = 0
    avps: Avps = {}
    rc: int = 1
    """``$rc``: return code of the last statement."""
    dropped: bool = False
    """``drop`` was executed."""
    suspended: bool = False
    """``async()`` parked this context: whoever ran the route must not touch it any more."""
    params: tuple[Any, ...] = ()
    """Arguments of the current ``route(name, …)``, for ``$param(n)``: zero-argument callables or values."""
    depth: int = 0
    """Nesting of ``route()`` calls, cut at 100."""

    continuation: Any = None
    """What follows the route if it is suspended (``opensips_py.engine.continuation``); None: it is a request's main script."""

    outer: Any = None
    """The context of the script whose statement this run is a part of (local_route of t_new_request): where this one waits, so
    does that one."""

    # transaction layer
    tx: Any = None
    """The transaction (``opensips_py.tm``) that this context works on, if any."""
    tx_key: bytes | None = None
    """Its key in the shared store; survives freezing."""
    armed_failure: str | None = None
    """Failure route set by ``t_on_failure`` and friends, until a transaction takes it over."""
    armed_reply: str | None = None
    armed_branch: str | None = None
    branch_index: int = -1
    """Branch that a branch or onreply route runs for (``$T_branch_idx``)."""
    reply: SipMessage | None = None
    """The winning reply in a failure route (``$(<reply>…)``)."""
    reply_code: int = 0
    """``$T_reply_code`` in a failure route, also when the reply was made here (408)."""

    slots: dict[str, Any] = {}
    """What modules keep with a message, by module name; values must be MessagePack types."""

    @property
    def ruri(self) -> str:
        """The current R-URI."""
        return self.new_uri if self.new_uri is not None else self.msg.ruri

    def freeze(self) -> bytes:
        """Everything that must outlive a suspension, as MessagePack."""
        return _encode(
            FrozenContext(
                raw=self.msg.raw,
                edits=self.msg.edits,
                source=self.source,
                socket=self.socket.name,
                route_kind=int(self.route_kind),
                new_uri=self.new_uri,
                dst_uri=self.dst_uri,
                q=self.q,
                path=self.path,
                send_socket=None if self.send_socket is None else self.send_socket.name,
                flags=self.flags,
                branch_flags=self.branch_flags,
                branches=self.branches,
                avps=self.avps,
                tx_key=self.tx_key,
                armed_failure=self.armed_failure,
                armed_reply=self.armed_reply,
                armed_branch=self.armed_branch,
                slots=self.slots,
            )
        )

    def start_over(self) -> None:
        """Aim the request where it was aimed when it was received: for a failure route. Headers, flags and AVPs stay."""
        self.new_uri = self.dst_uri = self.path = self.send_socket = None
        self.q = Q_UNSPECIFIED
        self.branch_flags = 0
        self.branches = []

    def carry_over(self, before: bytes) -> bytes:
        """``before``, what :meth:`freeze` wrote, with the message flags and AVPs of this run."""
        frozen = _decode(before)
        frozen.flags, frozen.avps = self.flags, self.avps
        return _encode(frozen)

    @classmethod
    def thaw(cls, data: bytes, sockets: Mapping[str, ListenSocket]) -> Context:
        """The context that :meth:`freeze` wrote. ``sockets`` are the server's, by name."""
        f = _decode(data)
        msg = reread(f.raw)
        msg.edits = f.edits
        return cls(
            msg=msg,
            source=f.source,
            socket=sockets[f.socket],
            route_kind=RouteKind(f.route_kind),
            new_uri=f.new_uri,
            dst_uri=f.dst_uri,
            q=f.q,
            path=f.path,
            send_socket=None if f.send_socket is None else sockets[f.send_socket],
            flags=f.flags,
            branch_flags=f.branch_flags,
            branches=f.branches,
            avps=f.avps,
            tx_key=f.tx_key,
            armed_failure=f.armed_failure,
            armed_reply=f.armed_reply,
            armed_branch=f.armed_branch,
            slots=f.slots,
        )
