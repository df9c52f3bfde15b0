"""An operation under way, as the process that drives it sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensips_py.engine import continuation as continuations
from opensips_py.engine import parked as parking
from opensips_py.engine.continuation import Continuation
from opensips_py.engine.operation import Done, Operation
from opensips_py.engine.parked import Parked
from opensips_py.script.context import Context


class Running:
    """An operation that this process drives."""

    __slots__ = (
        "callback",
        "continuation",
        "ctx",
        "deadline",
        "done",
        "epoch",
        "fd",
        "journaled",
        "journaled_bytes",
        "op",
        "place",
        "record",
        "serial",
        "timer",
        "token",
        "wants",
    )

    def __init__(self, token: bytes, op: Operation, record: Parked, ctx: Context | None, epoch: int) -> None:
        self.token = token
        self.op = op
        self.record = record
        self.ctx = ctx
        self.epoch = epoch
        self.fd = -1
        self.callback: Callable[[int], None] | None = None
        """With which the reactor watches ``fd``."""
        self.wants = self.serial = 0
        self.timer: Any = None
        self.deadline: float | None = None
        self.journaled = self.journaled_bytes = 0
        self.place: Any = None
        """Where a script waits in line for it (``Reactor.here``); None: nothing of the route is left but its context."""
        self.done: Done | None = None
        """The end, for the script that waits in line."""
        self.continuation: Continuation | None = None
        """What follows the route, unless that lies in the record only."""

    def entry(self) -> tuple[bytes, bytes]:
        """Key and value under which the store holds it, with context and continuation as they are now."""
        record, ctx = self.record, self.ctx
        if ctx is not None:
            record.context = ctx.freeze()
        if self.continuation is not None:
            record.continuation = continuations.pack(self.continuation)
        return parking.PREFIX + self.token, parking.encode(record)
