"""An operation that no script waits for, driven to its end by the reactor: what a management command asks of a server.

It is not parked: when its process dies it is gone, as whoever asked is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensips_py.engine.operation import READ, WRITE, Done, Operation
from opensips_py.server.guard import report_error
from opensips_py.server.process import this


class Background:
    """One operation under way."""

    def __init__(self, op: Operation, on_done: Callable[[Done], None]) -> None:
        self._op = op
        self._on_done = on_done
        self._fd = -1
        self._wants = self._serial = 0
        self._timer: Any = None
        self._ended = False
        op.mode = "launch"
        op.changed = lambda: this.reactor.call_soon(lambda: self._ready(READ | WRITE))
        self._go_on(op.start)

    def _go_on(self, step: Callable[[], Done | None]) -> None:
        try:
            done = step()
        except Exception as error:  # a fault of the module: whoever asked must get an answer
            report_error(error, self._op.name)
            done = Done(-1)
        if done is not None:
            self._end(done)
        else:
            self._follow()

    def _ready(self, events: int) -> None:
        if not self._ended:
            self._go_on(self._op.advance)

    def _late(self) -> None:
        if not self._ended:
            self._timer = None
            self._go_on(self._op.expire)

    def _follow(self) -> None:
        op = self._op
        fd, wants, serial = op.fileno(), op.wants, op.serial
        if (fd, serial) != (self._fd, self._serial):
            self._unwatch()
            if fd >= 0:
                this.reactor.add(fd, wants, self._ready)
            self._fd, self._wants, self._serial = fd, wants, serial
        elif fd >= 0 and wants != self._wants:
            this.reactor.modify(fd, wants)
            self._wants = wants
        if self._timer is not None:
            this.reactor.cancel(self._timer)
            self._timer = None
        if op.deadline is not None:
            self._timer = this.reactor.call_at(max(op.deadline, this.clock.now()), self._late)

    def _unwatch(self) -> None:
        if self._fd >= 0:
            this.reactor.remove(self._fd, self._ready)
            self._fd = -1

    def _end(self, done: Done) -> None:
        self._ended = True
        self._unwatch()
        if self._timer is not None:
            this.reactor.cancel(self._timer)
        self._op.changed = None
        self._op.close()
        self._on_done(done)
