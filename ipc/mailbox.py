"""Packets from any process to one process, in order, without waiting, and not lost when that process is replaced.

Each box is a pair of Unix sockets made before the fork: everybody holds the writing end, and whoever has the box's slot
reads the other one. What a dead process has not read is read by the next holder of its slot. A packet may carry descriptors.

A box is bounded: by the kernel's buffer, and after it by a queue in each sender (:data:`MAX_WAITING` packets); a packet
that finds both full is refused, and its sender told.
"""

from __future__ import annotations

import array
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from os import close, dup
from typing import Protocol

READ, WRITE = 1, 2
BUFFER = 4 << 20
"""Bytes that the kernel keeps for one box, where it allows so many."""
MAX_PACKET = 80_000
"""Longest packet in bytes."""
MAX_FDS = 4
"""Descriptors in one packet."""
MAX_WAITING = 256
"""Packets that one process keeps for one box while that is full."""

_SO_SNDBUFFORCE = 32
_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.ENOMEM)


class Reactor(Protocol):
    """What is needed of the process' event loop."""

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None: ...

    def remove(self, fd: int) -> None: ...


class Mailboxes:
    """The boxes of all processes that have one. Made before the fork and inherited."""

    def __init__(self, slots: Iterable[int]) -> None:
        self._readers: dict[int, socket.socket] = {}
        self._writers: dict[int, socket.socket] = {}
        self._waiting: dict[int, deque[tuple[bytes, list[int]]]] = {}
        self._reactor: Reactor | None = None
        for slot in slots:
            reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in (reader, writer):
                end.setblocking(False)
            try:
                writer.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER)
            except PermissionError:
                writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            self._readers[slot], self._writers[slot] = reader, writer

    def attach(self, reactor: Reactor) -> None:
        """Have the loop of this process send what a full box has not taken."""
        self._reactor = reactor
        self._waiting.clear()

    def post(self, slot: int, packet: bytes, fds: Sequence[int] = ()) -> bool:
        """Send a packet to the process in ``slot``, with duplicates of ``fds``.

        False: it has no box, no room is left, or the packet is longer than :data:`MAX_PACKET`.
        """
        writer = self._writers.get(slot)
        if writer is None or len(packet) > MAX_PACKET:
            return False
        waiting = self._waiting.get(slot)
        if not waiting:
            if _transmit(writer, packet, fds):
                return True
            if self._reactor is None:
                return False
            waiting = self._waiting[slot] = deque()
            self._reactor.add(writer.fileno(), WRITE, lambda events: self._flush(slot))
        elif len(waiting) >= MAX_WAITING:
            return False
        waiting.append((packet, [dup(fd) for fd in fds]))
        return True

    @property
    def unsent(self) -> bool:
        """Whether packets of this process wait for room in a box."""
        return bool(self._waiting)

    def has_mail(self, slot: int) -> bool:
        """Whether a packet for ``slot`` has not been received yet."""
        try:
            self._readers[slot].recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def _flush(self, slot: int) -> None:
        waiting, writer = self._waiting[slot], self._writers[slot]
        while waiting:
            packet, fds = waiting[0]
            if not _transmit(writer, packet, fds):
                return
            waiting.popleft()
            for fd in fds:
                close(fd)
        assert self._reactor is not None
        self._reactor.remove(writer.fileno())
        del self._waiting[slot]

    def fileno(self, slot: int) -> int:
        """What the holder of ``slot`` watches for reading."""
        return self._readers[slot].fileno()

    def receive(self, slot: int) -> tuple[bytes, list[int]] | None:
        """The next packet for ``slot`` and its descriptors, which belong to the caller; None: there is none."""
        try:
            data, ancillary, _, _ = self._readers[slot].recvmsg(MAX_PACKET, _SPACE, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return None
        fds = array.array("i")
        for _, _, raw in ancillary:
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        return data, list(fds)

    def close(self) -> None:
        """Close all ends in this process."""
        for end in (*self._readers.values(), *self._writers.values()):
            end.close()


def _transmit(writer: socket.socket, packet: bytes, fds: Sequence[int]) -> bool:
    try:
        if fds:
            socket.send_fds(writer, [packet], list(fds))
        else:
            writer.send(packet)
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True
