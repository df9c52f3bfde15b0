"""What follows a suspended route: for each kind of route, what becomes of its message once the resume route has ended.

The code that runs a route puts a :class:`Continuation` into ``Context.continuation``. When the route suspends itself,
the engine parks the operation together with the continuation, which any process can thaw: the one that gets the result
runs the resume route between :meth:`Continuation.resume` and :meth:`Continuation.end`. While it is parked the record of
the transaction carries the continuation's *mark*, by which everybody else (timers, replies, a CANCEL) sees that its
script is not through yet.

Two ways to suspend. ``async()`` ends the run of a route, so usually nothing of it is left to keep but the context.
Where a function must still return to its script (``t_relay()`` that asks the DNS or whose branch route suspends,
``await()``), the continuation is ``in_line``: the frames stay, on a paused greenlet, and go on by themselves; only
when their process has died or is stuck the continuation is thawed elsewhere, and does what is left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from opensips_py.core import stateless, transactions
from opensips_py.core.process import this
from opensips_py.core.transaction import Transaction, commit, hold, let_go, release, take_back
from opensips_py.script.context import Context
from opensips_py.tm.record import PARKED, Record


class Continuation:
    """What follows a suspended route. Subclasses set ``kind`` and are found by it when another process thaws them."""

    kind: ClassVar[str]
    registry: ClassVar[dict[str, type[Continuation]]] = {}
    in_line: ClassVar[bool] = False
    """The frames of the suspended route are kept and go on by themselves."""
    transaction: ClassVar[bool] = False
    """``async()`` makes a transaction of the request if there is none."""
    needs_transaction: ClassVar[bool] = True
    """It does not wait when that is impossible."""
    holds_up: ClassVar[bool] = False
    """A wait in line holds up the process."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in cls.__dict__:
            Continuation.registry[cls.kind] = cls

    def freeze(self) -> bytes:
        """State for :meth:`thaw`."""
        return b""

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        """The continuation in another process."""
        return cls()

    def mark(self, ctx: Context, rec: Record) -> None:
        """The route is being suspended: note it in the record of its transaction (held)."""

    def unmark(self, ctx: Context, rec: Record) -> None:
        """It goes on: take the mark back (held)."""

    def park(self, ctx: Context, entry: Callable[[], tuple[bytes, bytes]] | None = None) -> bool:
        """Store the mark. False: the transaction has turned out to exist already, the script ends here.

        ``entry`` gives key and value of what else is to be stored, the parked operation: in the same batch.
        """
        tx = ctx.tx
        rec = None if tx is None else hold(tx)
        if rec is None:
            if entry is not None:
                this.store.put(*entry())
            return True
        try:
            self.mark(ctx, rec)
            return commit(tx, also=None if entry is None else entry())
        finally:
            release(tx)

    def resume(self, ctx: Context) -> bool:
        """Before the resume route; False: it is not to run."""
        transactions.resume(ctx)
        return True

    def leave(self, ctx: Context) -> None:
        """After a resume route that has suspended itself again."""

    def end(self, ctx: Context) -> None:
        """After the resume route: what the route was about goes its way."""

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        """Instead of the resume route, after :meth:`resume`: the script cannot go on."""
        self.end(ctx)


class Detached(Continuation):
    """Report, timer, event and startup routes: nothing follows, and there is no transaction."""

    kind = "detached"


class Nested(Detached):
    """``event_route[NAME, sync]``: it runs inside whatever has raised the event, which cannot be left half-way."""

    kind = "nested"
    holds_up = True


class RequestScript(Continuation):
    """The main script over a request, and its resume routes."""

    kind = "request"
    transaction = True

    def mark(self, ctx: Context, rec: Record) -> None:
        transactions.take_over_routes(ctx, rec)
        transactions.keep_rport(ctx)
        if not rec.branches and rec.code < 200:  # what is answered has its timers
            rec.flags |= PARKED

    def unmark(self, ctx: Context, rec: Record) -> None:
        rec.flags &= ~PARKED

    def end(self, ctx: Context) -> None:
        transactions.script_end(ctx)

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        if ctx.tx is not None:
            transactions.reply(ctx, code, reason)
            transactions.script_end(ctx)


class ErrorRoute(RequestScript):
    """error_route: unless it has dropped the request, the caller gets the reply that suits the error."""

    kind = "error"
    needs_transaction = False

    def end(self, ctx: Context) -> None:
        if not ctx.dropped:
            error = ctx.slots.get("error", {})
            code, reason = int(error.get("rcode", 500)), str(error.get("rreason", "Server Internal Error"))
            if ctx.tx is not None:
                transactions.reply(ctx, code, reason)
            elif stateless.SENT not in ctx.slots:
                stateless.send(ctx, code, reason)
        transactions.script_end(ctx)


class Interrupted(Continuation):
    """``await()``, and functions that wait without a continuation of their own: the rest of the script dies with its process."""

    kind = "interrupted"
    in_line = True

    def __init__(self, outer: Continuation) -> None:
        self.outer = outer

    def freeze(self) -> bytes:
        return pack(self.outer)

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        return cls(unpack(state))

    def mark(self, ctx: Context, rec: Record) -> None:
        self.outer.mark(ctx, rec)

    def unmark(self, ctx: Context, rec: Record) -> None:
        self.outer.unmark(ctx, rec)

    def resume(self, ctx: Context) -> bool:
        return self.outer.resume(ctx)

    def end(self, ctx: Context) -> None:
        self.outer.give_up(ctx, 500, "Server Internal Error")

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        self.outer.give_up(ctx, code, reason)


REQUEST = RequestScript()
"""What follows a route whose context names nothing else."""
_PACKED_REQUEST = RequestScript.kind.encode() + b"\0"


def of(ctx: Context) -> Continuation:
    """What follows the route that runs over ``ctx``."""
    found: Continuation | None = ctx.continuation
    return REQUEST if found is None else found


def pack(continuation: Continuation) -> bytes:
    """A continuation as bytes, with its kind."""
    if continuation is REQUEST:
        return _PACKED_REQUEST
    return continuation.kind.encode() + b"\0" + continuation.freeze()


def unpack(data: bytes) -> Continuation:
    """What :func:`pack` has written."""
    if data == _PACKED_REQUEST:
        return REQUEST
    kind, _, state = data.partition(b"\0")
    return Continuation.registry[kind.decode()].thaw(state)


class Pause:
    """The transactions of a script, and of those that it is a part of, around a wait in line: stored, marked and not held."""

    __slots__ = ("_waiting",)

    def __init__(self, ctx: Context, continuation: Continuation) -> None:
        self._waiting = [_Waiting(ctx, continuation)]
        outer: Context | None = ctx.outer
        while outer is not None:
            self._waiting.append(_Waiting(outer, of(outer)))
            outer = outer.outer

    def begin(self) -> bool:
        """Store and mark; the locks are free afterwards. False: a request was a retransmission after all."""
        return all([waiting.begin() for waiting in reversed(self._waiting)])

    def freeze_outers(self) -> list[tuple[bytes, bytes]]:
        """The other scripts, for :attr:`opensips_py.core.parked.Parked.outers`."""
        return [(waiting.ctx.freeze(), pack(waiting.continuation)) for waiting in self._waiting[1:]]

    def parked(self) -> None:
        """The operation is in the store: whoever finds it there will look after the transactions."""
        transactions.unsettled.clear()

    def end(self) -> None:
        """The script goes on: hold what was held, as it is now."""
        for waiting in reversed(self._waiting):
            waiting.end()


class _Waiting:
    """One script that waits, with its transaction."""

    __slots__ = ("_depth", "_tx", "continuation", "ctx")

    def __init__(self, ctx: Context, continuation: Continuation) -> None:
        self.ctx, self.continuation = ctx, continuation
        self._tx: Transaction | None = ctx.tx
        self._depth = 0

    def begin(self) -> bool:
        tx = self._tx
        if tx is None:
            return True
        transactions.unsettled.set(tx.key)
        stored = self.continuation.park(self.ctx)
        self._depth = let_go(tx)
        return stored

    def end(self) -> None:
        tx = self._tx
        if tx is None:
            return
        transactions.unsettled.set(tx.key)
        rec = take_back(tx, max(self._depth, 1))
        if rec is None:
            return
        self.continuation.unmark(self.ctx, rec)
        if not self._depth:
            try:
                commit(tx)
            finally:
                release(tx)


def thaw(data: bytes, continuation: Continuation) -> Context:
    """The context of a suspended route, in another process."""
    ctx = Context.thaw(data, this.sockets)
    ctx.continuation = continuation
    return ctx
