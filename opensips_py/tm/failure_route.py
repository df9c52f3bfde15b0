"""What happens when a transaction's branches have all ended, or a reply goes upstream: relaying, and failure routes."""

from __future__ import annotations

import msgspec

from opensips_py.engine import parked as parking
from opensips_py.engine.continuation import Continuation
from opensips_py.engine.unsettled import unsettled
from opensips_py.script.context import Context, RouteKind, Source
from opensips_py.script.pseudo_variables_context import views
from opensips_py.server.guard import run_guarded
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, reread
from opensips_py.tm import callbacks, machine, msg_translator, server_transaction
from opensips_py.tm.picking import pending, pick
from opensips_py.tm.record import CANCELLED, LOCAL, LOCAL_REPLY, NOT_RELAYED, PARKED, Record
from opensips_py.tm.request_script import TransactionRoute
from opensips_py.tm.server_transaction import hooks
from opensips_py.tm.settings import settings
from opensips_py.tm.states import Uac
from opensips_py.tm.transaction import Transaction, commit, forget_changes, hold, look, release
from opensips_py.tm.uac_reply import PHRASES, local_reply


def relay_upstream(tx: Transaction, rec: Record, code: int, data: bytes, now: float, received: SipMessage | None = None) -> None:
    """A branch's reply, ``received`` if it comes just now, goes upstream (held transaction; sent at the next commit)."""
    if rec.flags & NOT_RELAYED:
        if rec.code < 200:
            local_reply(tx, rec, code, data, now)
        return
    if rec.kept is not None:
        data = callbacks.reply_out(tx, rec, code, data, local=False, received=received)
    if rec.code < 300 and not machine.replied(rec, code, data, now, local=False):
        return
    # else a 2xx that comes after a negative reply passes, which goes on being repeated until the ACK (RFC 3261 16.7 step 5)
    tx.out.append((rec.socket, data, rec.reply_host, rec.reply_port))
    hooks.answered(code, False)


def all_failed(tx: Transaction, rec: Record, winner: int, now: float) -> None:
    """No branch is left that could succeed, ``winner`` has the best reply: run the failure route, or answer the caller.

    To be called with the transaction held; the caller commits afterwards, and only then is nothing unsettled any more.
    """
    machine.finish_minor(rec, now, tx.out)
    if rec.kept is not None:
        _tell_of_failure(tx, rec, winner)
    name = rec.on_failure
    if name is not None:
        route = this.program.route(RouteKind.FAILURE, name)
        rec.on_failure = None  # has to be armed again (t_on_failure)
        if route is not None:
            follow = FailureRoute(winner, len(rec.branches))
            ctx = _run(tx, rec, follow, name, route)
            if not ctx.suspended:
                _ended(ctx, tx, rec, follow, now)
            return
    answer(tx, rec, winner, now)


def _tell_of_failure(tx: Transaction, rec: Record, winner: int) -> None:
    branch = rec.branches[winner]
    message = reread(branch.reply) if branch.reply else None
    callbacks.tell(callbacks.When.FAILURE, tx, rec, code=branch.code, message=message, branch=winner, local=message is None)


def _ended(ctx: Context, tx: Transaction, rec: Record, follow: FailureRoute, now: float) -> None:
    """The failure route is through (held transaction; the caller commits)."""
    server_transaction.take_over_routes(ctx, rec)
    avps = ctx.slots.pop("tm.bavp", None)  # they belong to the branch
    if avps is not None:
        rec.branches[follow.winner].avps = avps
    keep(ctx, rec)
    if rec.code >= 200:  # the route has replied, or a 2xx has come while it was suspended
        return
    winner, branches = follow.winner, follow.branches
    if len(rec.branches) > branches:
        if any(pending(b) for b in rec.branches[branches:]):
            return
        again = pick(rec.branches, bool(rec.flags & CANCELLED), rec.first)
        winner = winner if again is None else again
    if rec.flags & CANCELLED and not follow.cancelled:
        server_transaction.send_reply(ctx, tx, rec, 487, "Request Terminated")
    else:
        answer(tx, rec, winner, now)


class FailureRoute(TransactionRoute):
    """A failure route: afterwards a new branch is under way, or the caller gets the best reply (:func:`all_failed`).

    Its resume route runs, as itself does, with the transaction held.
    """

    kind = "failure"

    def __init__(self, winner: int, branches: int, cancelled: bool = True) -> None:
        self.winner = winner
        """Branch with the best reply."""
        self.branches = branches
        """How many there were before the route."""
        self.cancelled = cancelled
        """The caller had cancelled before the route began to wait, if it ever did: no CANCEL is left to be honoured."""

    def freeze(self) -> bytes:
        return msgspec.msgpack.encode((self.winner, self.branches, self.cancelled))

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        return cls(*msgspec.msgpack.decode(state, type=tuple[int, int, bool]))

    def mark(self, ctx: Context, rec: Record) -> None:
        server_transaction.take_over_routes(ctx, rec)
        self.cancelled = bool(rec.flags & CANCELLED)
        rec.failing = self.winner

    def unmark(self, ctx: Context, rec: Record) -> None:
        rec.failing = -1

    def resume(self, ctx: Context) -> bool:
        server_transaction.resume(ctx)
        tx: Transaction = ctx.tx
        with tx as rec:
            if rec is None or rec.failing != self.winner:  # answered meanwhile, by interrupted()
                return False
            self.unmark(ctx, rec)
            _show_winner(ctx, rec, self.winner)
            hold(tx)  # until leave() or end()
        return True

    def leave(self, ctx: Context) -> None:
        release(ctx.tx)

    def end(self, ctx: Context) -> None:
        tx: Transaction = ctx.tx
        try:
            rec = tx.record
            if rec is not None:
                _ended(ctx, tx, rec, self, this.clock.now())
                commit(tx)
        finally:
            self.leave(ctx)


def try_next_server(tx: Transaction, refused: list[bytes]) -> None:
    """Branches whose request could not be sent go on to the next server of their name, if they have one (RFC 3263 4.3).

    Without one, a request that was never sent has failed; a retransmission will be made again.
    """
    with tx as rec:
        if rec is None:
            return
        now = this.clock.now()
        for n, branch in enumerate(rec.branches):
            if branch.state == Uac.CALLING and branch.sent in refused and (branch.further or branch.interval <= settings.t1):
                winner = machine.send_failed(rec, n, now, tx.out)
                if winner >= 0:
                    all_failed(tx, rec, winner, now)
                commit(tx)
                unsettled.clear()  # set if a failure route has waited in line


def answer(tx: Transaction, rec: Record, winner: int, now: float) -> None:
    """Send the reply of branch ``winner`` upstream (RFC 3261 16.7 step 7)."""
    branch = rec.branches[winner]
    if rec.flags & NOT_RELAYED:
        local_reply(tx, rec, branch.code, branch.reply, now)
        return
    if branch.flags & LOCAL_REPLY:
        ctx = request_context(rec)
        code = branch.code
        data = msg_translator.reply(ctx, code, PHRASES[code], to_tag=rec.to_tag)
        if rec.kept is not None:
            data = callbacks.reply_out(tx, rec, code, data, local=True, branch=winner)
        if machine.replied(rec, code, data, now, local=True):
            tx.out.append((rec.socket, data, rec.reply_host, rec.reply_port))
            hooks.answered(code, True)
        return
    code, data = branch.code, branch.reply
    if code == 503 and not this.program.settings.disable_503_translation:
        # RFC 3261 16.7 step 6: a 503 speaks of the next hop, not of this server
        code = 500
        data = data.replace(b" 503 ", b" 500 ", 1)
    relay_upstream(tx, rec, code, data, now)


def give_up(tx: Transaction, rec: Record, now: float) -> None:
    """Answer 500, after a fault of this server, and end all branches (held transaction; the caller commits)."""
    forget_changes(tx)
    rec.on_failure = None
    rec.failing = -1
    rec.flags &= ~PARKED
    for branch in rec.branches:
        machine.abandon(rec, branch, now, tx.out)
    if rec.flags & NOT_RELAYED:
        local_reply(tx, rec, 500, b"", now)
    else:
        ctx = Context(reread(rec.raw), source_of(rec), this.sockets_by_name[rec.socket])
        server_transaction.mark_source(ctx)
        server_transaction.send_reply(ctx, tx, rec, 500, "Server Internal Error")


def request_context(rec: Record, kind: RouteKind = RouteKind.REQUEST) -> Context:
    """A context over the request of a transaction, as it was when it was relayed (OpenSIPS: fake request)."""
    if rec.context:
        ctx = Context.thaw(rec.context, this.sockets_by_name)
        ctx.route_kind = kind
    else:
        ctx = Context(reread(rec.raw), source_of(rec), this.sockets_by_name[rec.socket], kind)
    server_transaction.mark_source(ctx)
    return ctx


def keep(ctx: Context, rec: Record) -> None:
    """What a failure route leaves to the next one: it starts from the request as the main script relayed it, as this one did."""
    rec.context = ctx.carry_over(rec.context or request_context(rec).freeze())


def source_of(rec: Record) -> Source:
    """Where the request of a transaction came from."""
    return Source(rec.ip, rec.port, this.sockets_by_name[rec.socket].proto)


def interrupted(key: bytes) -> None:
    """The process that ran a script over transaction ``key`` has died in it: answer 500 unless something was sent.

    One that had just been parked goes on in another process.
    """
    if any(parking.decode(raw).transaction == key for _, raw in this.store.scan(parking.PREFIX)):
        return
    tx = Transaction(key)
    with tx as rec:
        if rec is None:
            return
        now = this.clock.now()
        for n, branch in enumerate(rec.branches):
            if branch.held:  # its onreply route: the reply will come again, or time out
                machine.not_held_back(rec, n, branch.held, now)
        if rec.failing >= 0:
            winner, rec.failing = rec.failing, -1
            if rec.code < 200:
                answer(tx, rec, winner, now)
        elif rec.code < 200 and not rec.branches:
            rec.flags &= ~PARKED
            if rec.flags & LOCAL:
                local_reply(tx, rec, 500, b"", now)
            else:
                server_transaction.send_reply(request_context(rec), tx, rec, 500, "Server Internal Error")
        commit(tx)


def _request_view(ctx: Context) -> Context | None:
    """``$(<request>…)`` in an onreply route: the request as it was relayed."""
    tx = ctx.tx
    rec = None if tx is None else look(tx)
    if rec is None:
        return None
    view: Context | None = tx.view
    if view is None:
        view = tx.view = request_context(rec)
        if not rec.context and rec.branches and rec.branches[0].uri != view.msg.ruri:
            view.new_uri = rec.branches[0].uri
    view.tx, view.tx_key, view.branch_index = tx, tx.key, ctx.branch_index
    return view


def _branch_view(ctx: Context) -> Context | None:
    """``$(<branch>…)``: the request as it went out on the branch that a route is about."""
    tx = ctx.tx
    rec = None if tx is None else look(tx)
    if rec is None or not 0 <= ctx.branch_index < len(rec.branches):
        return None
    branch = rec.branches[ctx.branch_index]
    view = Context(reread(branch.sent), source_of(rec), this.sockets_by_name[rec.socket])
    view.dst_uri = f"sip:{branch.host}:{branch.port}"
    view.branch_flags = branch.script_flags
    view.send_socket = this.sockets_by_name[branch.socket]
    view.tx, view.tx_key, view.branch_index = tx, tx.key, ctx.branch_index
    view.avps, view.flags = ctx.avps, ctx.flags
    return view


views.request, views.branch = _request_view, _branch_view


def _run(tx: Transaction, rec: Record, follow: FailureRoute, name: str, route: server_transaction.Route) -> Context:
    ctx = request_context(rec, RouteKind.FAILURE)
    ctx.start_over()
    ctx.armed_failure = ctx.armed_reply = ctx.armed_branch = None
    ctx.tx = tx
    ctx.tx_key = tx.key
    ctx.route_name = name
    ctx.continuation = follow
    _show_winner(ctx, rec, follow.winner)
    run_guarded(ctx, route)
    return ctx


def _show_winner(ctx: Context, rec: Record, winner: int) -> None:
    """What a failure route sees of the best reply."""
    branch = rec.branches[winner]
    ctx.reply_code = branch.code
    ctx.branch_index = winner
    ctx.reply = reply_of(branch.reply) if branch.reply else None


def reply_of(data: bytes) -> SipMessage:
    """A stored reply, for reading."""
    return reread(data)
