"""What happens when a transaction's branches have all ended, or a reply goes upstream: relaying, and failure routes."""

from __future__ import annotations

from time import monotonic

from opensips_py.core import building, transactions
from opensips_py.core.guard import run_guarded
from opensips_py.core.local_reply import PHRASES, local_reply
from opensips_py.core.process import this
from opensips_py.core.transaction import Transaction, commit, hold, look, release
from opensips_py.core.transactions import hooks
from opensips_py.script.context import Context, RouteKind, Source
from opensips_py.script.pseudo_variables_context import views
from opensips_py.sip.message import SipMessage, parse
from opensips_py.tm import machine
from opensips_py.tm.picking import pending, pick
from opensips_py.tm.record import CANCELLED, LOCAL, LOCAL_REPLY, NOT_RELAYED, PARKED, Record


def relay_upstream(tx: Transaction, rec: Record, code: int, data: bytes, now: float) -> None:
    """A branch's reply goes upstream (held transaction; sent at the next commit)."""
    if rec.flags & NOT_RELAYED:
        local_reply(tx, rec, code, data, now)
        return
    machine.replied(rec, code, data, now, local=False)
    tx.out.append((rec.socket, data, rec.reply_host, rec.reply_port))
    hooks.answered(code, False)


def all_failed(tx: Transaction, rec: Record, winner: int, now: float) -> None:
    """No branch is left that could succeed, ``winner`` has the best reply: run the failure route, or answer the caller.

    To be called with the transaction held; the caller commits afterwards.
    """
    name = rec.on_failure
    if name is not None:
        route = this.program.route(RouteKind.FAILURE, name)
        rec.on_failure = None  # has to be armed again (t_on_failure)
        if route is not None:
            branches = len(rec.branches)
            _run(tx, rec, winner, name, route)
            if rec.code >= 200:  # the route has replied
                return
            if len(rec.branches) > branches:
                if any(pending(b) for b in rec.branches[branches:]):
                    return
                again = pick(rec.branches, bool(rec.flags & CANCELLED), rec.first)
                winner = winner if again is None else again
    answer(tx, rec, winner, now)


def answer(tx: Transaction, rec: Record, winner: int, now: float) -> None:
    """Send the reply of branch ``winner`` upstream (RFC 3261 16.7 step 7)."""
    branch = rec.branches[winner]
    machine.finish_minor(rec, now, tx.out)
    if rec.flags & NOT_RELAYED:
        local_reply(tx, rec, branch.code, branch.reply, now)
        return
    if branch.flags & LOCAL_REPLY:
        ctx = request_context(rec)
        code = branch.code
        data = building.reply(ctx, code, PHRASES[code], to_tag=rec.to_tag)
        machine.replied(rec, code, data, now, local=True)
        tx.out.append((rec.socket, data, rec.reply_host, rec.reply_port))
        hooks.answered(code, True)
        return
    code, data = branch.code, branch.reply
    if code == 503 and not this.program.settings.disable_503_translation:
        # RFC 3261 16.7 step 6: a 503 speaks of the next hop, not of this server
        code = 500
        data = data.replace(b" 503 ", b" 500 ", 1)
    relay_upstream(tx, rec, code, data, now)


def request_context(rec: Record, kind: RouteKind = RouteKind.REQUEST) -> Context:
    """A context over the request of a transaction, as it was when it was relayed (OpenSIPS: fake request)."""
    if rec.context:
        ctx = Context.thaw(rec.context, this.sockets)
        ctx.route_kind = kind
    else:
        ctx = Context(parse(rec.raw), source_of(rec), this.sockets[rec.socket], kind)
    transactions.mark_source(ctx)
    return ctx


def source_of(rec: Record) -> Source:
    """Where the request of a transaction came from."""
    return Source(rec.ip, rec.port, this.sockets[rec.socket].proto)


def interrupted(key: bytes) -> None:
    """The process that ran a script over transaction ``key`` has died in it: answer 500 unless something was sent."""
    tx = Transaction(key)
    rec = hold(tx)
    if rec is None:
        return
    try:
        if rec.code < 200 and not rec.branches:
            rec.flags &= ~PARKED
            if rec.flags & LOCAL:
                local_reply(tx, rec, 500, b"", monotonic())
            else:
                transactions.send_reply(request_context(rec), tx, rec, 500, "Server Internal Error")
            commit(tx)
    finally:
        release(tx)


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
    view = Context(parse(branch.sent), source_of(rec), this.sockets[rec.socket])
    view.dst_uri = f"sip:{branch.host}:{branch.port}"
    view.branch_flags = branch.script_flags
    view.send_socket = this.sockets[branch.socket]
    view.tx, view.tx_key, view.branch_index = tx, tx.key, ctx.branch_index
    view.avps, view.flags = ctx.avps, ctx.flags
    return view


views.request, views.branch = _request_view, _branch_view


def _run(tx: Transaction, rec: Record, winner: int, name: str, route: transactions.Route) -> None:
    branch = rec.branches[winner]
    ctx = request_context(rec, RouteKind.FAILURE)
    ctx.dst_uri = None
    ctx.branches = []
    ctx.armed_failure = ctx.armed_reply = ctx.armed_branch = None
    ctx.tx = tx
    ctx.tx_key = tx.key
    ctx.route_name = name
    ctx.reply_code = branch.code
    ctx.branch_index = winner
    if branch.reply:
        ctx.reply = reply_of(branch.reply)
    run_guarded(ctx, route)
    transactions.take_over_routes(ctx, rec)
    if rec.context:
        rec.context = ctx.freeze()


def reply_of(data: bytes) -> SipMessage:
    """A stored reply, for reading."""
    return parse(data)
