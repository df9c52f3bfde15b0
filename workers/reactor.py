"""The event loop of one process: epoll, timers, deferred calls.

One turn: wait, then run the callbacks of all ready descriptors, due timers and deferred calls, in this order. A
callback may add and remove any descriptor; a descriptor removed during a turn gets no further callback in it.

While callbacks run, the process' status row says since when (``busy_since_ns``), so that the attendant can tell a
process that is stuck in a blocking call from one that waits for work.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from opensips_py.core.operation import READ, WRITE

_IN = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_OUT = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_MASKS = {
    READ: select.EPOLLIN | select.EPOLLRDHUP,
    WRITE: select.EPOLLOUT,
    READ | WRITE: select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT,
}

MAX_WAIT = 1.0
"""Longest sleep in seconds: an upper bound for noticing anything that comes without a wake-up."""


class Busy(Protocol):
    """Where the reactor says that it is working."""

    busy_since_ns: int
    busy_total_ns: int


class Timer:
    """Handle of a timer; cancelled timers stay in the heap until their time comes or they are the majority."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback


class EpollReactor:
    """Reactor over epoll (implements ``opensips_py.core.process.Reactor``)."""

    def __init__(self, status: Busy, on_error: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._cancelled = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._status = status
        self._on_error = on_error
        self._stopping = False

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready for what it ``wants`` (READ, WRITE bits)."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, _MASKS[wants])

    def add_shared(self, fd: int, callback: Callable[[int], None]) -> None:
        """Watch a descriptor that other processes watch too: the kernel wakes one of them, not all."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def modify(self, fd: int, wants: int) -> None:
        """Change what is waited for."""
        self._epoll.modify(fd, _MASKS[wants])

    def remove(self, fd: int) -> None:
        """Stop watching. Call it before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except (OSError, ValueError):
                # closed by its owner already: the kernel has forgotten it
                return

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``time.monotonic()`` ``when``."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._sequence), timer))
        return timer

    def cancel(self, handle: Any) -> None:
        """Take a timer back. Harmless when it has fired."""
        if handle.callback is not None:
            handle.callback = None
            self._cancelled += 1
            if self._cancelled > 1000 and self._cancelled * 2 > len(self._timers):
                self._compact()

    def _compact(self) -> None:
        """Drop cancelled timers, so that long deadlines of short operations do not pile up."""
        # in place: run() holds on to this list
        self._timers[:] = [entry for entry in self._timers if entry[2].callback is not None]
        heapq.heapify(self._timers)
        self._cancelled = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end of this turn."""
        self._soon.append(callback)

    def stop(self) -> None:
        """Leave :meth:`run` after this turn."""
        self._stopping = True

    def run(self) -> None:
        """Turn until :meth:`stop`. May be called again after that."""
        poll = self._epoll.poll
        callbacks = self._callbacks
        timers = self._timers
        soon = self._soon
        status = self._status
        clock = time.monotonic_ns
        while not self._stopping:
            if soon:
                wait = 0.0
            elif timers:
                # epoll counts in milliseconds, rounded up by Python: never early
                wait = min(MAX_WAIT, max(0.0, timers[0][0] - time.monotonic()))
            else:
                wait = MAX_WAIT
            try:
                events = poll(wait, 64)
            except InterruptedError:
                continue
            began = clock()
            status.busy_since_ns = began
            for fd, mask in events:
                callback = callbacks.get(fd)
                if callback is None:
                    continue
                try:
                    callback((READ if mask & _IN else 0) | (WRITE if mask & _OUT else 0))
                except Exception as error:
                    self._on_error(error)
            if timers and timers[0][0] <= time.monotonic():
                self._fire()
            for _ in range(len(soon)):
                try:
                    soon.popleft()()
                except Exception as error:
                    self._on_error(error)
            status.busy_since_ns = 0
            status.busy_total_ns += clock() - began
        self._stopping = False

    def _fire(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                try:
                    callback()
                except Exception as error:
                    self._on_error(error)

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()
