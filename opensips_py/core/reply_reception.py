"""Replies: to the transaction that they belong to, through the onreply routes, and upstream."""

from __future__ import annotations

from time import monotonic

from opensips_py.core import failure, success_ack, traffic, transactions
from opensips_py.core.address_headers import restore_addresses
from opensips_py.core.building import with_length
from opensips_py.core.destinations import Hop, locate
from opensips_py.core.guard import run_guarded
from opensips_py.core.process import this
from opensips_py.core.transaction import Transaction, commit, hold, look, release
from opensips_py.core.transactions import hooks
from opensips_py.script.context import Context, ListenSocket, RouteKind, Source
from opensips_py.sip.message import SipMessage
from opensips_py.tm import identity, machine, messages
from opensips_py.tm.record import NOT_RELAYED, RELIABLE, RESTORE_FROM, RESTORE_TO, Record


def reply_received(msg: SipMessage, source: Source, socket: ListenSocket, global_route: transactions.Route | None) -> bool:
    """Process a reply. False: it belongs to no transaction (its context has been through the global onreply route)."""
    name = identity.of_branch_id(msg.via.branch or "")
    ctx: Context | None = None
    if global_route is not None:
        ctx = Context(msg, source, socket, RouteKind.ONREPLY)
        if name is not None:
            ctx.tx = Transaction(name[0])
            ctx.tx_key = name[0]
            ctx.branch_index = name[1]
        run_guarded(ctx, global_route)
    if name is None:
        return stray(ctx, msg)
    key, n = name
    tx = Transaction(key)
    words = (msg.value("cseq") or "").split()
    if len(words) != 2:
        return True
    method = words[1]
    dropped = ctx is not None and ctx.dropped
    if hooks.named_reply_routes:
        rec = look(tx)
        if rec is None:
            return stray(ctx, msg)
        if n < len(rec.branches) and method == rec.method and (rec.on_reply or rec.branches[n].on_reply):
            return _through_routes(tx, rec, n, msg, source, socket, dropped)
        tx.record = None
    rec = hold(tx)
    if rec is None:
        return stray(ctx, msg)
    try:
        _received(tx, rec, n, method, msg, dropped)
    finally:
        release(tx)
    return True


def _through_routes(
    tx: Transaction, rec: Record, n: int, msg: SipMessage, source: Source, socket: ListenSocket, dropped: bool
) -> bool:
    """Run the branch's onreply route, then the transaction's; under the lock, with its AVPs, if onreply_avp_mode=1."""
    locked = hooks.keep_avps_for_replies
    if locked:
        held = hold(tx)
        if held is None:
            return True
        rec = held
    try:
        ctx = Context(msg, source, socket, RouteKind.ONREPLY)
        ctx.tx, ctx.tx_key, ctx.branch_index = tx, tx.key, n
        frozen = failure.request_context(rec) if locked and rec.context else None
        if frozen is not None:
            ctx.avps = frozen.avps
        for name in (rec.branches[n].on_reply, rec.on_reply):
            route = None if name is None else this.program.route(RouteKind.ONREPLY, name)
            if route is not None:
                ctx.route_name = name or ""
                ctx.params, ctx.depth = (), 0
                run_guarded(ctx, route)
        dropped = dropped or ctx.dropped
        current = hold(tx)
        if current is None:
            return True
        try:
            transactions.take_over_routes(ctx, current)
            if "tm.bavp" in ctx.slots:
                current.branches[n].avps = ctx.slots["tm.bavp"]
            if frozen is not None:
                current.context = frozen.freeze()
            _received(tx, current, n, current.method, msg, dropped)
        finally:
            release(tx)
    finally:
        if locked:
            release(tx)
    return True


def _received(tx: Transaction, rec: Record, n: int, method: str, msg: SipMessage, dropped: bool) -> None:
    """The state machine's part, with the transaction held."""
    if n >= len(rec.branches):
        return
    code = msg.status
    if method != rec.method:
        if method == "CANCEL" and code >= 200:
            machine.cancel_answered(rec.branches[n])
            commit(tx)
        return
    hooks.received(code)
    now = monotonic()
    if rec.flags & (RESTORE_FROM | RESTORE_TO):
        restore_addresses(rec, n, msg)
    if rec.flags & RELIABLE:
        with_length(msg, msg.edits)
    if rec.flags & NOT_RELAYED:
        relayed = msg.serialise()
        if 200 <= code < 300 and rec.method == "INVITE":
            success_ack.acknowledge(tx, rec, n, msg)
    else:
        relayed = messages.relayed_reply(msg) if code > 100 else b""
    outcome = machine.reply_received(rec, n, code, msg, relayed, now, tx.out)
    if outcome == machine.RELAY:
        if code >= 200 and not rec.index and rec.method == "INVITE":
            rec.index = transactions.success_ack_key_of(msg)
        if code >= 200 or not dropped:
            failure.relay_upstream(tx, rec, code, relayed, now)
    elif outcome >= 0:
        failure.all_failed(tx, rec, outcome, now)
    commit(tx)


def stray(ctx: Context | None, msg: SipMessage) -> bool:
    """A reply without transaction: passed on by its second Via only if the script forwards without state itself."""
    if not hooks.stateless_forwarding or (ctx is not None and ctx.dropped and msg.status < 200):
        return False
    vias = msg.vias
    if len(vias) < 2:
        return False
    via = vias[1]
    host = via.received or via.address
    port = via.rport or _connection_port(msg) or via.effective_port
    destination = locate(Hop(host, port, via.transport.lower()), None, this.sockets[0])
    if destination is None:
        return False
    if destination.socket.proto != "udp":
        with_length(msg, msg.edits)
    traffic.fwd_replies.add()
    return this.send(destination.socket, messages.relayed_reply(msg), destination.ip, destination.port)


def _connection_port(msg: SipMessage) -> int | None:
    """Source port of the connection that the request came in on: ``i`` in our Via (see ``relay.forward``)."""
    text = msg.via.params.get("i")
    try:
        return None if text is None else int(text, 16) & 0xFFFF
    except ValueError:
        return None
