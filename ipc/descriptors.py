"""File descriptors that outlive their process: the attendant holds duplicates, any worker can get them.

Each worker has a line to the attendant, a ``SOCK_SEQPACKET`` socket pair made before the fork; descriptors travel on it
as SCM_RIGHTS. One packet is one message::

    worker -> attendant    K key    hold the descriptors that come with it under key (instead of what is there)
                           D key    let go of them
    attendant -> worker    H data   take this over; descriptors come with it

A worker never blocks on its line: what the socket does not take is queued and follows in order when it is writable.
The attendant takes everything: when it cannot hold more descriptors (``RLIMIT_NOFILE``) it lets the new ones go, and
what they belong to cannot be handed over later (:meth:`FdStore.get` gives none).
"""

from __future__ import annotations

import array
import errno
import os
import resource
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

READ = 1
WRITE = 2

MAX_FDS = 16
"""Descriptors in one message."""
MAX_PACKET = 1024
"""Bytes in one message."""
LONGEST = MAX_PACKET - 1
"""Bytes in what is handed over with one: the first byte says what it is."""
_SPARE = 256
"""Descriptors that the attendant keeps free for its own work."""

_AT_ONCE = 8
"""Messages that a worker takes before it does something else: each may bring it much work."""

_ITEM = array.array("i").itemsize
_SPACE = socket.CMSG_SPACE(MAX_FDS * _ITEM)
_pack_one = struct.Struct("i").pack
_unpack_one = struct.Struct("i").unpack
# plain numbers: combining the enum members of the socket module costs a microsecond per call
_SOL_SOCKET, _SCM_RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_DONT_WAIT = int(socket.MSG_DONTWAIT)
_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_CUT_SHORT = int(socket.MSG_CTRUNC)
_LATER = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNREFUSED)


class Reactor(Protocol):
    """What is needed of the process' event loop; wants and events are READ/WRITE bits."""

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None: ...

    def modify(self, fd: int, wants: int) -> None: ...

    def remove(self, fd: int) -> None: ...


def _duplicates(fds: list[int]) -> list[int]:
    """Duplicates of all, or none when the process cannot have more descriptors: the message goes without them."""
    made: list[int] = []
    try:
        for fd in fds:
            made.append(os.dup(fd))
    except OSError:
        for fd in made:
            os.close(fd)
        return []
    return made


class _Line:
    """One end of a line: sends in order without blocking, receives packets."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._reactor: Reactor | None = None
        self._send = sock.send
        self._sendmsg = sock.sendmsg
        self._recvmsg = sock.recvmsg

    def watch(self, reactor: Reactor, on_event: Callable[[int], None]) -> None:
        self._reactor = reactor
        reactor.add(self.socket.fileno(), WRITE | READ if self._waiting else READ, on_event)

    def send(self, data: bytes, fds: list[int]) -> None:
        """Send now if possible, else queue (with duplicates of ``fds``, which the caller may close).

        Raises ValueError for what is longer than a message: the other end would get a piece of it.
        """
        if len(data) > MAX_PACKET:
            raise ValueError(f"a message of {len(data)} bytes, the longest has {MAX_PACKET}")
        if not self._waiting:
            if self._transmit(data, fds):
                return
            if self._reactor is not None:
                self._reactor.modify(self.socket.fileno(), READ | WRITE)
        self._waiting.append((data, _duplicates(fds)))

    def flush(self) -> None:
        """Send what has waited, as far as the socket takes it."""
        waiting = self._waiting
        while waiting:
            data, fds = waiting[0]
            if not self._transmit(data, fds):
                return
            waiting.popleft()
            for fd in fds:
                os.close(fd)
        if self._reactor is not None:
            self._reactor.modify(self.socket.fileno(), READ)

    def _transmit(self, data: bytes, fds: list[int]) -> bool:
        try:
            if fds:
                rights = _pack_one(fds[0]) if len(fds) == 1 else array.array("i", fds)
                self._sendmsg((data,), ((_SOL_SOCKET, _SCM_RIGHTS, rights),), _DONT_WAIT)
            else:
                self._send(data, _DONT_WAIT)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # ETOOMANYREFS: too many descriptors are on their way between all processes; ENOBUFS: no memory right now.
            # The other end reading makes room, and with it the socket is reported writable. When the other end is gone
            # the message has no receiver any more.
            if error.errno in _LATER:
                return False
            if error.errno not in _GONE:
                raise
        return True

    def receive(self) -> tuple[bytes, list[int], bool] | None:
        """Next packet, its descriptors, and whether they are complete; None: nothing there; empty data: the line has ended."""
        try:
            data, ancillary, flags, _ = self._recvmsg(MAX_PACKET, _SPACE, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b"", [], True
        if not ancillary:
            return data, [], not flags & _CUT_SHORT
        raw = ancillary[0][2]  # there is one kind of ancillary data on these sockets, and it comes in one piece
        fds = [_unpack_one(raw)[0]] if len(raw) == _ITEM else list(memoryview(raw[: len(raw) - len(raw) % _ITEM]).cast("i"))
        return data, fds, not flags & _CUT_SHORT

    def close(self) -> None:
        if self.socket.fileno() < 0:
            return
        if self._reactor is not None:
            self._reactor.remove(self.socket.fileno())
        self.socket.close()
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()

    @property
    def waiting(self) -> int:
        return len(self._waiting)


class FdLine:
    """A worker's end of its line (implements ``FdKeeper`` of the process object)."""

    def __init__(self, sock: socket.socket, reactor: Reactor) -> None:
        self.on_hand_over: Callable[[bytes, list[int]], None] | None = None
        """Called with what the attendant hands over; the descriptors belong to the callee."""
        self._line = _Line(sock)
        self._line.watch(reactor, self._event)

    def keep(self, key: str, fds: list[int]) -> None:
        """Have the attendant hold duplicates of ``fds`` (at most MAX_FDS) under ``key``, replacing what is there."""
        self._line.send(b"K" + key.encode(), fds)

    def drop(self, key: str) -> None:
        """Have the attendant let go of what is under ``key``. Nothing happens when there is nothing."""
        self._line.send(b"D" + key.encode(), [])

    @property
    def waiting(self) -> int:
        """Messages that the socket has not taken yet."""
        return self._line.waiting

    @property
    def unread(self) -> bool:
        """Something has come that has not been read."""
        fd = self._line.socket.fileno()
        return fd >= 0 and bool(select.select([fd], [], [], 0)[0])

    def close(self) -> None:
        """End the line."""
        self._line.close()

    def _event(self, events: int) -> None:
        line = self._line
        if events & WRITE and line.waiting:
            line.flush()
        for _ in range(_AT_ONCE):  # what is left wakes the reactor again
            packet = line.receive()
            if packet is None:
                return
            data, fds, _ = packet
            if not data:  # the attendant is gone
                line.close()
                return
            if self.on_hand_over is None:
                for fd in fds:
                    os.close(fd)
            else:
                self.on_hand_over(data[1:], fds)


class FdStore:
    """The attendant's side: all lines, and the descriptors that it holds."""

    def __init__(self, slots: int) -> None:
        """``slots``: size of the process table; slot 0 is the attendant itself."""
        self._lines: list[_Line | None] = [None] * slots
        self._readable = select.epoll()
        """Of all lines, which have something to be read: asking for each of them would cost a system call each."""
        self._slots: dict[int, int] = {}
        """Slot of each line, by its descriptor."""
        self._held: dict[str, list[int]] = {}
        self._count = 0
        self.refused = 0
        """Messages whose descriptors could not be held."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.capacity = (1 << 30 if hard == resource.RLIM_INFINITY else hard) - _SPARE - 2 * slots
        """Most descriptors that it will hold."""

    # --- lines --------------------------------------------------------------------------------------------------

    def line(self, slot: int) -> socket.socket:
        """A new line for the process that is about to be forked into ``slot``: its end, to be closed here after the fork.

        What the slot's former holder has sent is taken first.
        """
        self.line_closed(slot)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lines[slot] = _Line(here)
        self._slots[here.fileno()] = slot
        self._readable.register(here.fileno(), select.EPOLLIN)
        return there

    def drain(self) -> bool:
        """Take what workers have sent, send what has waited for room. Whether there was any of it.

        To be called now and then, and before descriptors are looked for. The lines are not watched: what is sent lies safely
        in the socket, also when its sender dies, and waking the attendant for each message cost more than all else about it.
        """
        busy = False
        for line in self._lines:
            if line is not None and line.waiting:
                line.flush()
                busy = True
        readable = self._readable.poll(0)
        for fd, _ in readable:
            slot = self._slots[fd]
            line = self._lines[slot]
            if line is not None and not self._drain(line):
                self._end(slot, line)
        return busy or bool(readable)

    def line_closed(self, slot: int) -> None:
        """The process in ``slot`` has died: take what it had still sent, and end its line. Its descriptors stay held."""
        line = self._lines[slot]
        if line is not None:
            self._drain(line)
            self._end(slot, line)

    def _end(self, slot: int, line: _Line) -> None:
        fd = line.socket.fileno()
        self._readable.unregister(fd)
        del self._slots[fd]
        line.close()
        self._lines[slot] = None

    def close_in_child(self) -> None:
        """In a forked child: close the attendant's ends and all held descriptors."""
        self._readable.close()
        for line in self._lines:
            if line is not None:
                line.socket.close()
        for fds in self._held.values():
            for fd in fds:
                os.close(fd)
        self._held.clear()
        self._count = 0

    def close(self) -> None:
        """Let go of everything."""
        for slot in range(len(self._lines)):
            self.line_closed(slot)
        for key in list(self._held):
            self._let_go(key)
        self._readable.close()

    # --- descriptors --------------------------------------------------------------------------------------------

    def get(self, key: str) -> list[int]:
        """The descriptors held under ``key``, still held afterwards; ``[]`` when there are none."""
        return self._held.get(key, [])

    def names(self) -> list[str]:
        """All keys under which descriptors are held."""
        return list(self._held)

    def __len__(self) -> int:
        """Number of descriptors held."""
        return self._count

    def hand_over(self, slot: int, message: bytes, fds: list[int]) -> bool:
        """Send ``message`` with duplicates of ``fds`` to the process in ``slot``; False when it has no line."""
        line = self._lines[slot]
        if line is None:
            return False
        line.send(b"H" + message, fds)
        return True

    def rename(self, key: str, new: str) -> None:
        """Hold what is under ``key`` under ``new`` instead. Nothing happens when there is nothing."""
        if key in self._held:
            self._let_go(new)
            self._held[new] = self._held.pop(key)

    def drop(self, key: str) -> None:
        """Let go of what is held under ``key``."""
        self._let_go(key)

    def _drain(self, line: _Line) -> bool:
        """Take all that has come; False when the other end is gone."""
        held = self._held
        while (packet := line.receive()) is not None:
            data, fds, complete = packet
            if not data:
                return False
            key = data[1:].decode()
            if key in held:
                self._let_go(key)
            if data[0] == 75:  # K
                if not complete or self._count + len(fds) > self.capacity:
                    self.refused += 1
                    for fd in fds:
                        os.close(fd)
                elif fds:
                    held[key] = fds
                    self._count += len(fds)
        return True

    def _let_go(self, key: str) -> None:
        fds = self._held.pop(key, [])
        self._count -= len(fds)
        for fd in fds:
            os.close(fd)
