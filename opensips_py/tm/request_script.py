"""Continuations of routes over the messages of a transaction: a request's script, and what all others have in common.

While such a route is parked the record of its transaction carries the continuation's *mark*, by which everybody else
(timers, replies, a CANCEL) sees that its script is not through yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from opensips_py.engine.continuation import NOTHING_HELD, Continuation, Paused
from opensips_py.engine.unsettled import unsettled
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.tm import server_transaction, stateless
from opensips_py.tm.record import PARKED, Record
from opensips_py.tm.transaction import Transaction, commit, let_go, release, take_back


class TransactionRoute(Continuation):
    """What follows a route that is about a transaction, ``ctx.tx``."""

    def mark(self, ctx: Context, rec: Record) -> None:
        """The route is being suspended: note it in the record of its transaction (held)."""

    def unmark(self, ctx: Context, rec: Record) -> None:
        """It goes on: take the mark back (held)."""

    def flush(self, ctx: Context) -> None:
        server_transaction.flush(ctx)

    def park(self, ctx: Context, entry: Callable[[], tuple[bytes, bytes]] | None = None) -> bool:
        tx = ctx.tx
        if tx is not None:
            with tx as rec:
                if rec is not None:
                    self.mark(ctx, rec)
                    return commit(tx, also=None if entry is None else entry())
        if entry is not None:
            this.store.put(*entry())
        return True

    def pause(self, ctx: Context) -> Paused:
        return NOTHING_HELD if ctx.tx is None else _Waiting(ctx, self)

    def resume(self, ctx: Context) -> bool:
        server_transaction.resume(ctx)
        return True


class RequestScript(TransactionRoute):
    """The main script over a request, and its resume routes. It makes a transaction of the request before it waits."""

    kind = "request"
    needs_transaction: ClassVar[bool] = True
    """It does not wait when that is impossible."""

    def prepare(self, ctx: Context) -> int:
        made = server_transaction.new_transaction(ctx)
        return made if made == 0 or (made < 0 and self.needs_transaction) else 1

    def mark(self, ctx: Context, rec: Record) -> None:
        server_transaction.take_over_routes(ctx, rec)
        server_transaction.keep_rport(ctx)
        if not rec.branches and rec.code < 200:  # what is answered has its timers
            rec.flags |= PARKED

    def unmark(self, ctx: Context, rec: Record) -> None:
        rec.flags &= ~PARKED

    def end(self, ctx: Context) -> None:
        server_transaction.script_end(ctx)

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        if ctx.tx is not None:
            server_transaction.reply(ctx, code, reason)
            server_transaction.script_end(ctx)

    def route_is_gone(self, ctx: Context) -> None:
        if ctx.tx is not None:  # somebody waits for an answer
            server_transaction.reply(ctx, 500, "Server Internal Error")


class ErrorRoute(RequestScript):
    """error_route: unless it has dropped the request, the caller gets the reply that suits the error."""

    kind = "error"
    needs_transaction = False

    def end(self, ctx: Context) -> None:
        if not ctx.dropped:
            error = ctx.slots.get("error", {})
            code, reason = int(error.get("rcode", 500)), str(error.get("rreason", "Server Internal Error"))
            if ctx.tx is not None:
                server_transaction.reply(ctx, code, reason)
            elif stateless.SENT not in ctx.slots:
                stateless.send(ctx, code, reason)
        server_transaction.script_end(ctx)


class Injected(TransactionRoute):
    """Branches that come from elsewhere (t_inject_branches): no script of the request is waiting for them."""

    kind = "injected"


REQUEST = RequestScript()
"""What follows a request's main script."""


def following(ctx: Context) -> TransactionRoute:
    """What follows the route over ``ctx``, which has a transaction."""
    found = ctx.continuation
    return found if isinstance(found, TransactionRoute) else Injected()


class _Waiting(Paused):
    """A transaction whose script waits in line: stored, marked and not held."""

    __slots__ = ("_continuation", "_ctx", "_depth", "_tx", "stored")

    def __init__(self, ctx: Context, continuation: TransactionRoute) -> None:
        self._ctx, self._continuation = ctx, continuation
        self._tx: Transaction = ctx.tx
        unsettled.set(self._tx.key)
        self.stored = continuation.park(ctx)
        self._depth = let_go(self._tx)

    def end(self) -> None:
        tx = self._tx
        unsettled.set(tx.key)
        rec = take_back(tx, max(self._depth, 1))
        if rec is None:
            return
        try:
            self._continuation.unmark(self._ctx, rec)
            if not self._depth:
                commit(tx)
        finally:
            if not self._depth:
                release(tx)
