"""Reading a socket that several receivers share: whoever is at it goes on while it keeps up, and the others are left alone.

The kernel wakes another receiver for a datagram that arrives while one works. If that one read it at once, the messages of a
moderate load would be spread over all of them, and each would find the processor's caches filled with something else: a
fifth of the CPU time per message. So a receiver that is woken looks at its colleagues first. If one of them is reading, and
has found the queue empty a moment ago, the datagram is left to it, and the receiver does not watch the socket for a while.

Who works on one message for longer than :data:`PATIENCE`, or has not emptied the queue within :data:`KEEPS_UP`, is left nothing.
A datagram that was left to a process which then gets stuck waits for up to :data:`LONGEST_REST`. Should the one that left it be
stuck or dead by then, the attendant has another receiver look (:func:`nudge`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from opensips_py.server.process import this

DATAGRAM = 65535
"""Largest UDP datagram in bytes."""
BURST = 8
"""Datagrams read per wake-up, before timers and other descriptors have their turn."""
PATIENCE = 2_000_000
"""Nanoseconds that a colleague may take for one message before it counts as stuck."""
KEEPS_UP = 8_000_000
"""Nanoseconds within which a colleague must have found the queue empty to count as keeping up."""
REST = 0.008
"""Seconds for which a receiver does not watch the socket when it has left a datagram to a colleague."""
LONGEST_REST = 0.016
"""The same when it has come back for nothing just before."""


class Reading(Protocol):
    """What receivers of one socket know of each other (:class:`ipc.counters.SlotStatus`)."""

    busy_since_ns: int
    reading_since_ns: int
    emptied_ns: int
    watching_since_ns: int


class Source(Protocol):
    """A socket that does not block."""

    def fileno(self) -> int: ...

    def recvfrom(self, size: int, /) -> tuple[bytes, tuple[str, int]]: ...


class Watch(Protocol):
    """The part of the reactor that is needed here."""

    def add_shared(self, fd: int, callback: Callable[[int], None]) -> None: ...

    def remove(self, fd: int) -> None: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> object: ...


class SharedQueue:
    """One receiver's end of a shared socket."""

    def __init__(
        self,
        source: Source,
        reactor: Watch,
        own: Reading,
        colleagues: Sequence[Reading],
        receive: Callable[[bytes, tuple[str, int]], None],
    ) -> None:
        self._fd = source.fileno()
        self._recvfrom = source.recvfrom
        self._reactor = reactor
        self._own = own
        self._colleagues = colleagues
        self._receive = receive
        self._rested_until = 0.0
        self._before = 0
        """A moment before the kernel was told to wake this process for the socket."""

    def watch(self) -> None:
        """Call ``receive(data, address)`` for datagrams from now on."""
        own = self._own
        own.reading_since_ns = own.emptied_ns = own.watching_since_ns = 0  # a predecessor may have died while it read
        self._watch()

    def _readable(self, events: int) -> None:
        if self._colleagues and self._is_cared_for():
            self._own.watching_since_ns = 0
            self._reactor.remove(self._fd)
            now = this.clock.now()
            self._rested_until = now + (LONGEST_REST if now - self._rested_until < LONGEST_REST else REST)
            self._reactor.call_at(self._rested_until, self._watch)
            return
        recvfrom, receive, own = self._recvfrom, self._receive, self._own
        try:
            for _ in range(BURST):
                data, address = recvfrom(DATAGRAM)
                own.reading_since_ns = this.clock.ticks()
                receive(data, address)
        except BlockingIOError:
            own.emptied_ns = this.clock.ticks()
        except ConnectionRefusedError:  # an ICMP error of an earlier datagram
            pass
        finally:
            own.reading_since_ns = 0

    def _watch(self) -> None:
        # who has watched for longer than this process is ahead of it in the kernel's queue
        self._before = this.clock.ticks()
        self._reactor.add_shared(self._fd, self._readable)
        self._own.watching_since_ns = this.clock.ticks()

    def _is_cared_for(self) -> bool:
        """Whether a colleague keeps up, and reads or is about to.

        The kernel asks first who watches longest, and wakes the first one that sleeps. So whoever watches for longer than this
        process did not sleep: it comes to the socket without being woken.
        """
        now = this.clock.ticks()
        for colleague in self._colleagues:
            if now - colleague.emptied_ns < KEEPS_UP:
                since = colleague.reading_since_ns
                if not since and 0 < colleague.watching_since_ns < self._before:
                    since = colleague.busy_since_ns or now
                if now - since < PATIENCE:
                    return True
        return False


def nudge(handle: socket.socket) -> None:
    """Have a receiver that sleeps read the socket: what it is woken for is a keep-alive, which is ignored (RFC 5626 3.5.1)."""
    try:
        handle.sendto(b"\r\n", handle.getsockname())
    except OSError:
        return  # no room: whoever reads the queue will see the rest of it
