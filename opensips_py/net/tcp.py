"""Messages over connections (TCP, later TLS and WebSocket): who has the connection to an address, and how to get there.

A connection is owned by one process, the receiver that has accepted or opened it; only that one reads and writes it, so that
bytes never mix. Everybody else hands it what is to be sent, by its mailbox. In the shared store each address of a peer has
a row that says who owns the connection to it: the address that the connection comes from or goes to, and its aliases (RFC 5923).

Sending works like this, in any process: the connection is here: write. A row names its owner: post it there. Neither:
post it to the process that opens connections to this address, always the same one for an address, so that there is one
connection however many processes want it at the same time. What becomes of it is known later: a request that could not be
delivered ends its branch (:mod:`opensips_py.tm.transport_errors`).
"""

from __future__ import annotations

import errno
import socket as sockets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import msgspec

from ipc.mailbox import Mailboxes
from ipc.prefixes import prefix
from ipc.store import Batch, StoreError
from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this

PREFIX = prefix(b"n", "who owns the connection to an address", __name__)
"""Begins the key of an address in the store."""
REST = prefix(b"h", "what was read of a connection and is not processed", __name__)
"""Begins the key of what has been read of a connection and not been processed; its number follows.

After a longer key, :func:`processed_key`, stands how many bytes of it have been processed since it was stored: many messages may
have been read at once, and not each of them is a reason to store all those after it.
"""
RECEIVER = "TCP receiver"
"""Description of the processes that own connections."""
FD_KEY = "tcp"
"""Begins the names of connections in the attendant's fd store: ``tcp:slot:incarnation:number``."""


STUCK_NS = 50_000_000
"""A receiver that has been in one callback for longer opens no connections and gets no new ones."""


@dataclass(slots=True)
class Tuning:
    """Parameters of module proto_tcp, and flags of the core; times in seconds."""

    asynchronous: bool = True
    send_timeout: float = 0.1
    max_chunks: int = 4
    answer_pings: bool = True
    max_waiting: int = 32
    max_waiting_memory: int = 64 << 20
    """Bytes that may wait for all peers of a process together (tcp_max_waiting_memory)."""
    open_branch_flag: int = 0
    """Mask of tcp_no_new_conn_bflag."""
    open_reply_flag: int = 0
    """Mask of tcp_no_new_conn_rplflag."""


tuning = Tuning()


# --- addresses in the store -----------------------------------------------------------------------------------------

_row = struct.Struct(">HIQ?d")


class Row(NamedTuple):
    """Who owns the connection to an address."""

    slot: int
    incarnation: int
    number: int
    accepted: bool
    """The peer has opened it."""
    keep_until: float
    """It is not closed for being idle before that time (``this.clock.now()``)."""

    def pack(self) -> bytes:
        """As it lies in the store."""
        return _row.pack(*self)


def read_row(value: bytes) -> Row:
    """A row from the store."""
    return Row._make(_row.unpack(value))


# A key: PREFIX, 4 or 6, the address, the port (2 bytes), the name of the listening socket.
_IPV4, _IPV6 = PREFIX + b"4", PREFIX + b"6"


def key_of(socket: str, ip: str, port: int) -> bytes:
    """Store key of a peer's address as seen from the listening socket of this name. OSError: no address."""
    return _host(ip) + port.to_bytes(2, "big") + socket.encode("latin-1")


def _host(ip: str) -> bytes:
    """What the keys of all ports of an address begin with."""
    if ":" in ip:
        return _IPV6 + sockets.inet_pton(sockets.AF_INET6, ip)
    return _IPV4 + sockets.inet_pton(sockets.AF_INET, ip)


def address_of(key: bytes) -> tuple[str, str, int]:
    """(name of the listening socket, ip, port) of a key."""
    end = _end_of_host(key)
    packed = key[2:end]
    ip = sockets.inet_ntop(sockets.AF_INET6 if len(packed) == 16 else sockets.AF_INET, packed)
    return key[end + 2 :].decode("latin-1"), ip, int.from_bytes(key[end : end + 2], "big")


def _end_of_host(key: bytes) -> int:
    return 18 if key.startswith(_IPV6) else 6


def connections_of(ip: str) -> int:
    """How many connections an address has, whoever has opened them."""
    return len({read_row(value).number for _, value in this.store.scan(_host(ip))})


def rest_key(number: int) -> bytes:
    """Key of what has been read of a connection and not been processed."""
    return REST + number.to_bytes(8, "big")


def processed_key(number: int) -> bytes:
    """Key of how much of that has been processed since."""
    return rest_key(number) + b"p"


def stored_rest(number: int) -> bytes:
    """What a former owner of a connection has read and not processed."""
    data = this.store.get(rest_key(number)) or b""
    return data[int.from_bytes(this.store.get(processed_key(number)) or b"", "big") :]


def forget_rest(batch: Batch, number: int) -> None:
    """It has been processed, or will never be."""
    batch.delete(rest_key(number))
    batch.delete(processed_key(number))


def find(key: bytes) -> tuple[bytes, Row] | None:
    """The connection to an address, with the key that it is known by; None when there is none, or its owner is gone.

    A connection that the peer has opened to another of our sockets will do: there may be no other way to it.
    """
    store = this.store
    value = store.get(key)
    if value is not None:
        row = read_row(value)
        return (key, row) if _lives(row) else None
    end = _end_of_host(key) + 2
    proto = key[end : key.index(b":", end) + 1]
    for other, value in store.scan(key[:end]):
        row = read_row(value)
        if row.accepted and other.startswith(proto, end) and _lives(row):
            return other, row
    return None


def _lives(row: Row) -> bool:
    current: int = this.counters.status(row.slot).incarnation
    return current == row.incarnation


def receivers() -> list[int]:
    """Slots of the processes that own connections."""
    return [slot for slot, kind in enumerate(this.kinds) if kind == RECEIVER]


def opener(key: bytes) -> int:
    """The process that opens the connection to an address: always the same one, while it is well."""
    slots = receivers()
    first = crc32(key) % len(slots)
    for slot in (*slots[first:], *slots[:first]):
        if takes_work(slot):
            return slot
    return slots[first]


def takes_work(slot: int) -> bool:
    """Whether the process in a slot is there, and not stuck in one callback."""
    status = this.counters.status(slot)
    since: int = status.busy_since_ns
    return status.connections >= 0 and not 0 < since < this.clock.ticks() - STUCK_NS


# --- sending --------------------------------------------------------------------------------------------------------


class Outgoing(msgspec.Struct, array_like=True):
    """A message on its way to a connection."""

    socket: str
    host: str
    port: int
    data: bytes
    only_open: bool = False
    """Not over a new connection."""
    hops: int = 0
    """How many owners it has been handed to."""
    again: bool = False
    """Its connection broke before it was sent; this is the second attempt."""


class Alias(msgspec.Struct, array_like=True):
    """A further address of a connection, for its owner to know."""

    number: int
    key: bytes


class Prolong(msgspec.Struct, array_like=True):
    """A connection is to stay open so long although nothing moves on it."""

    socket: str
    host: str
    port: int
    seconds: float


SEND, ALIAS, PROLONG, ACCEPTED, ADOPT = b"S", b"A", b"P", b"C", b"T"
"""First byte of a packet: :class:`Outgoing`, :class:`Alias`, :class:`Prolong`; a new connection (its descriptor comes with it,
the name of the listening socket follows); :class:`Adopt`."""


class Adopt(msgspec.Struct, array_like=True):
    """A connection of a dead process, for another one to go on with; its descriptor comes with it."""

    number: int
    incarnation: int
    """Of the process that it was given to: its replacement would get it again otherwise."""
    accepted: bool
    keep_until: float
    keys: list[bytes]
    """Its addresses."""


encode = msgspec.msgpack.Encoder().encode
decode_outgoing = msgspec.msgpack.Decoder(Outgoing).decode
decode_alias = msgspec.msgpack.Decoder(Alias).decode
decode_prolong = msgspec.msgpack.Decoder(Prolong).decode
decode_adopt = msgspec.msgpack.Decoder(Adopt).decode


class LocalConnection(Protocol):
    """A connection that this process owns."""

    def send(self, data: bytes) -> None:
        """Send now, or when the peer takes it. A failure is reported later, never from within."""

    def add_key(self, key: bytes) -> None:
        """It is known by one more address."""

    def prolong(self, seconds: float) -> None:
        """Keep it open for so long."""


class LocalConnections(Protocol):
    """All that this process owns."""

    @property
    def here(self) -> Mapping[bytes, LocalConnection]:
        """By address."""

    @property
    def by_number(self) -> Mapping[int, LocalConnection]: ...

    def deliver(self, message: Outgoing) -> None:
        """Send it over a connection of this process, opening one if there is none anywhere."""

    def describe(self) -> list[dict[str, Any]]:
        """What ``list_tcp_conns`` shows."""


class Streams:
    """This process' way to the connections."""

    mailboxes: Mailboxes | None = None
    local: LocalConnections | None = None
    """None in a process that owns none."""


streams = Streams()


class StreamHandle:
    """Sends from a listening TCP socket; stands where a UDP socket has its OS socket."""

    def __init__(self, listen: ListenSocket) -> None:
        self._listen = listen

    def getsockname(self) -> tuple[str, int]:
        """Its address."""
        return self._listen.host, self._listen.port

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Send over the connection to ``address``, or over a new one. OSError when that is known to fail at once."""
        self._send(data, address, False)

    def send_open(self, data: bytes, address: tuple[str, int]) -> None:
        """Send over an open connection. OSError when there is none."""
        self._send(data, address, True)

    def _send(self, data: bytes, address: tuple[str, int], only_open: bool) -> None:
        host, port = address
        socket = self._listen.name
        key = key_of(socket, host, port)
        local = streams.local
        if local is not None and (connection := local.here.get(key)) is not None:
            connection.send(data)
            return
        found = find(key)
        if found is not None:
            key, row = found
            slot = row.slot
            socket = address_of(key)[0]
        elif only_open and not is_reply(data):
            raise OSError(errno.ENOTCONN, "no open connection")
        else:
            slot = opener(key)
        message = Outgoing(socket, host, port, data, only_open)
        if slot == this.slot and local is not None:
            local.deliver(message)
        elif not post(slot, SEND, message):
            raise OSError(errno.ENOBUFS, "the process that has the connection does not keep up")


def post(slot: int, kind: bytes, what: msgspec.Struct) -> bool:
    """Hand something to another process. False: it does not keep up."""
    boxes = streams.mailboxes
    return boxes is not None and boxes.post(slot, kind + encode(what))


def is_reply(data: bytes) -> bool:
    """Whether a message is a reply."""
    return data[:8] == b"SIP/2.0 "


# --- what scripts may change ----------------------------------------------------------------------------------------


def add_alias(ctx: Context, port: int) -> bool:
    """Let requests to ``port`` of the sender go over the connection that its request came in on. False: it is gone, or
    another connection has that address already."""
    source = ctx.source
    found = find(key_of(ctx.socket.name, source.ip, source.port))
    if found is None:
        return False
    row = found[1]
    key = key_of(ctx.socket.name, source.ip, port)
    if key == found[0]:
        return True
    known = find(key)
    if known is not None and known[0] == key:
        if known[1].number != row.number:
            log(
                WARNING, "core", "tcpconn_add_alias", f"possible port hijack attempt: {source.ip}:{port} has a connection already"
            )
            return False
        return True
    try:
        this.store.put(key, row.pack())
    except StoreError as error:
        log(WARNING, "core", "tcpconn_add_alias", f"{source.ip}:{port}: {error}")
        return False
    local = streams.local
    if local is not None and row.number in local.by_number:
        local.by_number[row.number].add_key(key)
    else:
        post(row.slot, ALIAS, Alias(row.number, key))
    return True


def prolong(ctx: Context, seconds: float) -> None:
    """Keep the connection that a request came in on open for ``seconds`` although nothing moves on it."""
    source = ctx.source
    key = key_of(ctx.socket.name, source.ip, source.port)
    local = streams.local
    if local is not None and (connection := local.here.get(key)) is not None:
        connection.prolong(seconds)
        return
    found = find(key)
    if found is not None:
        post(found[1].slot, PROLONG, Prolong(ctx.socket.name, source.ip, source.port, seconds))
