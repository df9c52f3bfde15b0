"""A suspended script as it lies in the shared store.

Key ``p`` + token. Whoever deletes the entry (``Store.claim``) owns the right, and the duty, to run its route:
exactly one process ever does.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import msgspec

from ipc.prefixes import prefix
from ipc.store import Store

PREFIX = prefix(b"p", "parked operation", __name__)
JOURNAL = prefix(b"j", "what a parked operation has read since", __name__)
ORPHAN_STATUS = prefix(b"x", "exit status of a program whose worker died", __name__)
"""Prefix under which the attendant leaves the exit status of a child process that lost its worker."""


class ParkedHead(msgspec.Struct, array_like=True):
    """One operation that a script waits for, without what only its process needs."""

    function: str
    """Script function that started it; also the name by which the operation is thawed."""
    route: str | None
    """Route that runs at the end; None: launch() without a report route."""
    mode: str
    """``async``, ``launch``, or ``wait``: the script waits in line and goes on by itself, unless its process dies."""
    started: float
    """this.clock.now() when it began."""
    deadline: float | None
    """this.clock.now() at which it is given up; None: never."""
    owner: int
    """Slot of the process that drives it."""
    incarnation: int
    """Which holder of that slot."""
    fd_key: str | None
    """Pooled connection in the fd store; None: descriptors are stored under the token, or there are none."""
    has_fds: bool
    """Own descriptors lie in the fd store under the token."""
    epoch: int = 0
    """Take-over epoch of the owner when it was parked: only entries older than a take-over are taken."""
    limit: float | None = None
    """this.clock.now() set by the third argument of async(): holds whatever deadline the operation sets itself."""
    text: str | None = None
    """Third argument of launch(): ``$param(1)`` of the report route."""
    where: str = ""
    """``file:line`` of the statement."""
    continuation: bytes = b""
    """What follows the route (``continuation.pack``); empty for launch()."""
    bound: bool = False
    """``Operation.bound``: it stays with its owner while that lives."""
    lost: bool = False
    """What has been read since is not in the store: another process could not go on, and ends it with LOST."""
    outers: list[tuple[bytes, bytes]] = []
    """Scripts that wait in line for this one to go on: the context of each, and what follows it."""
    node: int = 0
    """Core parameter node_id of the owner's server."""


class Parked(ParkedHead, array_like=True):
    """All of it. What is large comes last: who decodes the head alone passes over it."""

    operation: bytes = b""
    """``Operation.freeze()``."""
    context: bytes = b""
    """``Context.freeze()``; empty for launch()."""
    transaction: bytes = b""
    """Store key of the transaction whose script is suspended; empty for launch()."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Parked).decode
decode_head = msgspec.msgpack.Decoder(ParkedHead).decode


def interrupted(record: ParkedHead) -> bool:
    """The script's rest dies with its process (``continuation.Interrupted``): in another one there is only an end to it."""
    return record.continuation.startswith(b"interrupted\0")


MOST_JOURNALED = 16 * 1024 * 1024
"""Bytes that the journals of one process' operations may have in the store; operations beyond that are not handed over."""
_PORTION = 2000
"""Rows read at a time: a reader that takes long keeps old pages of the store from being used again."""


def every(store: Store) -> Iterator[tuple[bytes, ParkedHead]]:
    """Token and head of every parked operation."""
    start = PREFIX
    while True:
        rows = store.scan(PREFIX, start, _PORTION)
        for key, raw in rows:
            yield key[len(PREFIX) :], decode_head(raw)
        if len(rows) < _PORTION:
            return
        start = rows[-1][0] + b"\0"


_TOKEN = struct.Struct(">HHIQ")
TOKEN_SIZE = _TOKEN.size
"""Bytes of a token."""


class Tokens:
    """Makes tokens that no other process makes, on no machine: node, slot, incarnation, running number."""

    def __init__(self, node: int, slot: int, incarnation: int) -> None:
        self._node = node
        self._slot, self._incarnation = slot, incarnation
        self._numbers = itertools.count(1)

    def next(self) -> bytes:
        """A new token (16 bytes), without key prefix."""
        return _TOKEN.pack(self._node, self._slot, self._incarnation, next(self._numbers))


_OWNER = struct.Struct(">HHIQ")
OWNER_SIZE = _OWNER.size
"""Bytes of a packed owner."""


def pack_owner(record: ParkedHead) -> bytes:
    """Who drives an operation: node, slot, incarnation and take-over epoch. One that gets it back has another epoch."""
    return _OWNER.pack(record.node, record.owner, record.incarnation, record.epoch)


_FD_KEY = "p:"


def fd_key(token: bytes) -> str:
    """Name in the fd store of an operation's own descriptors."""
    return _FD_KEY + token.hex()


def maker_of(token: bytes) -> tuple[int, int, int]:
    """(node, slot, incarnation) of the process that made a token."""
    node, slot, incarnation, _ = _TOKEN.unpack(token)
    return node, slot, incarnation


def token_of_fd_key(name: str) -> bytes | None:
    """The operation whose descriptors have this name; None when it is the name of something else."""
    return bytes.fromhex(name[len(_FD_KEY) :]) if name.startswith(_FD_KEY) else None
