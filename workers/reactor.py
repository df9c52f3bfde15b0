"""The event loop of one process: epoll, timers, deferred calls.

One turn: wait, then run the callbacks of all ready descriptors, due timers and deferred calls, in this order. A
callback may add and remove any descriptor; a descriptor removed during a turn gets no further callback in it.

A descriptor is removed before it is closed (``process.unwatch``). Closing alone takes it out of epoll only when no other process
holds a duplicate of it, and the attendant does: epoll would report it for ever, at once, to nobody. A close without removal is
noticed, told to ``on_error`` (:class:`ClosedWhileWatched`), and put right by a new epoll set.

While callbacks run, the process' status row says since when (``busy_since_ns``), so that the attendant can tell a
process that is stuck in a blocking call from one that waits for work.

A callback that must wait without giving up its frames calls :meth:`EpollReactor.pause`: the loop goes on in another
greenlet, a new one or one that has run it before, until :meth:`EpollReactor.resume` switches back. The greenlet that
called ``resume`` stays where it is until the loop needs one again. So at any time one greenlet turns the loop, the
others stand still inside a callback, and all state of the loop (events not handled yet, timers, deferred calls) is the
reactor's, not a frame's: whoever turns it finds it as it is now. Callbacks that never wait pay nothing for this.
"""

from __future__ import annotations

import heapq
import itertools
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

from opensips_py.engine.operation import READ, WRITE
from opensips_py.server.process import Unwound, this

_IN = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_OUT = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_MASKS = {
    READ: select.EPOLLIN | select.EPOLLRDHUP,
    WRITE: select.EPOLLOUT,
    READ | WRITE: select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLOUT,
}

MAX_WAIT = 1.0
"""Longest sleep in seconds: an upper bound for noticing anything that comes without a wake-up."""


MOST_IDLE = 100
"""Greenlets that are kept for the next wait: as many as waited at once at most, but no more than this."""


class ClosedWhileWatched(Exception):
    """Somebody has closed a descriptor without removing it before."""

    def __init__(self, fd: int, callback: object = None) -> None:
        super().__init__(f"descriptor {fd} was closed while it was watched" + (f" by {callback!r}" if callback else ""))


class _Enough(BaseException):
    """Ends a greenlet that will not be needed soon."""


class Busy(Protocol):
    """Where the reactor says that it is working."""

    busy_since_ns: int
    busy_total_ns: int
    reading_since_ns: int


class Timer:
    """Handle of a timer; cancelled timers stay in the heap until their time comes or they are the majority."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback


class EpollReactor:
    """Reactor over epoll (implements ``opensips_py.server.process.Reactor``)."""

    def __init__(self, status: Busy, on_error: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int] = {}
        """What each descriptor is watched for, as epoll was told."""
        self._strangers: set[int] = set()
        """Descriptors without callback that epoll has reported: once is normal, they were removed in that turn."""
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._cancelled = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._pending: deque[tuple[int, int]] = deque()
        """Events of the last poll that no callback has been called for yet."""
        self._began = 0
        """When this turn began to work."""
        self._status = status
        self._on_error = on_error
        self._stopping = False
        self.running = False
        """The loop turns, so that a callback may :meth:`pause`."""
        self.paused = 0
        """Callbacks that wait in :meth:`pause`."""
        self.beside: Callable[[], None] | None = None
        """What the running callback would do next, to be called soon if it pauses: nothing else would begin it."""
        self._home: Any = None
        """The greenlet that called :meth:`run`, and will return from it."""
        self._idle: list[Any] = []
        """Greenlets that have turned the loop and can do so again."""
        self._ended: Any = None
        """The greenlet that has just ended."""
        self._spring: Any = None
        """The greenlet that starts others."""

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready for what it ``wants`` (READ, WRITE bits)."""
        self._add(fd, _MASKS[wants], callback)

    def add_shared(self, fd: int, callback: Callable[[int], None]) -> None:
        """Watch a descriptor that other processes watch too: the kernel wakes one of them, not all."""
        self._add(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE, callback)

    def _add(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        if fd in self._callbacks:
            self._on_error(ClosedWhileWatched(fd, self._callbacks[fd]))
        self._callbacks[fd] = callback
        self._masks[fd] = mask
        if self._strangers:
            self._strangers.discard(fd)
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:  # the same file again under the same number: epoll had not let go of it
            self._epoll.modify(fd, mask)

    def modify(self, fd: int, wants: int) -> None:
        """Change what is waited for."""
        self._masks[fd] = _MASKS[wants]
        self._epoll.modify(fd, _MASKS[wants])

    def remove(self, fd: int, callback: Callable[[int], None] | None = None) -> None:
        """Stop watching; nothing happens when the descriptor is not watched, or not with ``callback`` (if given).

        Call it before the descriptor is closed.
        """
        found = self._callbacks.get(fd)
        if found is None or (callback is not None and found != callback):
            return
        del self._callbacks[fd], self._masks[fd]
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError):
            self._on_error(ClosedWhileWatched(fd, found))

    def _stranger(self, fd: int) -> None:
        """epoll reports a descriptor that nobody watches."""
        if fd not in self._strangers:
            self._strangers.add(fd)
            return
        self._strangers.clear()
        self._on_error(ClosedWhileWatched(fd))
        self._epoll.close()
        self._epoll = select.epoll()
        for watched, mask in list(self._masks.items()):
            try:
                self._epoll.register(watched, mask)
            except OSError:
                self._on_error(ClosedWhileWatched(watched, self._callbacks.pop(watched)))
                del self._masks[watched]

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``this.clock.now()`` ``when``."""
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

    def in_a_second(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in a second."""
        self.call_at(this.clock.now() + 1.0, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end of this turn."""
        self._soon.append(callback)

    def stop(self) -> None:
        """Leave :meth:`run` after this turn."""
        self._stopping = True

    def run(self) -> None:
        """Turn until :meth:`stop`. May be called again after that."""
        self._home = getcurrent()
        self._spring = greenlet(self._spring_up, self._home)
        self.running = True
        self._began = this.clock.ticks()
        try:
            self._turn()
        finally:
            self.running = self._stopping = False

    # --- waiting inside a callback --------------------------------------------------------------------------------

    def here(self) -> Any:
        """The place for :meth:`resume` of a callback that is about to :meth:`pause`."""
        return getcurrent()

    def pause(self) -> None:
        """Let the loop turn on while this callback stands still here, until :meth:`resume`.

        Raises Unwound when the callback is not to go on: :meth:`unwind`, or the loop has ended.
        """
        if self.beside is not None:
            self._soon.append(self.beside)
            self.beside = None
        loop = self._idle.pop() if self._idle else self._spring
        self.paused += 1
        try:
            if loop.switch() is not True:
                raise Unwound
        finally:
            self.paused -= 1
            if self._ended is not None:
                self._ended.parent = self._home  # or each would keep the next one in memory
                self._ended = None

    def resume(self, place: Any) -> None:
        """Go on where ``place`` paused. The last thing that a callback does: it returns much later, or never."""
        here = getcurrent()
        if len(self._idle) >= MOST_IDLE and here is not self._home:
            here.parent = place  # to which the end of this greenlet leads
            self._ended = here
            raise _Enough
        self._idle.append(here)
        place.switch(True)

    def unwind(self, place: Any) -> None:
        """Have the callback that paused at ``place`` end there, silently. The last thing that a callback does."""
        self._idle.append(getcurrent())
        place.throw(Unwound)

    def _spring_up(self) -> None:
        """Each time it is switched to: turn the loop in a new greenlet.

        That begins at the depth of Python frames of the greenlet which starts it. Were this the one that pauses, a hundred waits
        at once would exhaust the recursion limit.
        """
        while True:
            greenlet(self._turn_along, self._home).switch()

    def _turn_along(self) -> bool | None:
        """The life of a greenlet that is not home. True: the callback that it has resumed goes on."""
        try:
            self._turn()
        except _Enough:
            return True
        return None

    # --- the loop -------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        callbacks = self._callbacks
        timers = self._timers
        soon = self._soon
        pending = self._pending
        status = self._status
        clock = this.clock.ticks
        while not self._stopping:
            if not pending:  # a greenlet that takes the loop over first ends the turn that it finds
                if soon:
                    wait = 0.0
                elif timers:
                    # epoll counts in milliseconds, rounded up by Python: never early
                    wait = min(MAX_WAIT, max(0.0, timers[0][0] - this.clock.now()))
                else:
                    wait = MAX_WAIT
                status.busy_since_ns = 0
                status.reading_since_ns = 0  # whatever callback has paused: the process waits
                status.busy_total_ns += clock() - self._began
                pending.extend(self._epoll.poll(wait, 64))
                self._began = status.busy_since_ns = clock()
            while pending:
                fd, mask = pending.popleft()
                callback = callbacks.get(fd)
                if callback is None:
                    self._stranger(fd)
                    continue
                status.busy_since_ns = clock()  # many callbacks in one turn are not one that is stuck
                try:
                    callback((READ if mask & _IN else 0) | (WRITE if mask & _OUT else 0))
                except Exception as error:
                    self._on_error(error)
                except Unwound:
                    continue
            if timers and timers[0][0] <= this.clock.now():
                self._fire()
            for _ in range(len(soon)):
                if not soon:  # another greenlet has called them meanwhile
                    break
                self._call(soon.popleft())
        status.busy_since_ns = 0

    def _fire(self) -> None:
        now = this.clock.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        self._status.busy_since_ns = this.clock.ticks()
        try:
            callback()
        except Exception as error:
            self._on_error(error)
        except Unwound:
            return

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()
