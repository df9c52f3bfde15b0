"""t_relay: forwarding a request to one or several destinations, with a transaction or (ACK) without."""

from __future__ import annotations

from opensips_py.dns.rfc3263 import Hop
from opensips_py.engine.unsettled import unsettled
from opensips_py.net import destinations
from opensips_py.net.resolve import destinations_of
from opensips_py.net.tcp import tuning
from opensips_py.script.context import Branch, Context
from opensips_py.server import traffic
from opensips_py.server.process import this
from opensips_py.tm import callbacks, failure_route, identity, machine, msg_translator, server_transaction
from opensips_py.tm.errors import RETURN_CODES
from opensips_py.tm.forking import Forwarding, forward_all, outcome
from opensips_py.tm.record import (
    PARKED,
    PASS_REASON,
    REPLICATED,
)
from opensips_py.tm.server_transaction import E_BAD_ADDRESS, E_BAD_URI, E_NO_DESTINATION, E_SEND, hooks
from opensips_py.tm.transaction import Transaction, commit


def relay(ctx: Context, flags: int = 0, proxy: Hop | None = None) -> int:
    """t_relay. 1 under way; 0 the script ends (retransmission, or an error reply was sent); negative: see ``RETURN_CODES``."""
    method = ctx.msg.method
    if method == "ACK":
        return 0 if server_transaction.acknowledge(ctx) == 1 else forward(ctx, proxy)
    if method == "CANCEL":
        invite = server_transaction.original(ctx)
        if invite is not None:
            return cancel(ctx, invite)
    made_here = ctx.tx is None
    made = server_transaction.new_transaction(ctx)
    if made <= 0:
        return 0 if made == 0 else -2
    tx: Transaction = ctx.tx
    with tx as rec:
        if rec is None:  # answered and gone while the script was suspended
            return RETURN_CODES[E_NO_DESTINATION]
        work = Forwarding(flags, proxy, [], made_here=made_here)
        return outcome(ctx, tx, work, forward_all(ctx, tx, rec, work))


def replicate(ctx: Context, uri: str, flags: int = 0) -> int:
    """t_replicate: send copies of the request to ``uri`` and to the URIs of all branches. What comes back is not relayed.

    1 under way, 0 a retransmission, negative: see ``RETURN_CODES``.
    """
    ruri = ctx.ruri
    ctx.dst_uri = uri
    ctx.branches = [Branch(ruri, branch.uri, None, branch.q, branch.flags, branch.socket) for branch in ctx.branches]
    method = ctx.msg.method
    if method == "ACK":
        return -1 if server_transaction.acknowledge(ctx) == 1 else forward(ctx)
    if method == "CANCEL" and (invite := server_transaction.original(ctx)) is not None:
        return cancel(ctx, invite)
    made = server_transaction.new_transaction(ctx)
    if made <= 0:
        return 0 if made == 0 else -2
    tx: Transaction = ctx.tx
    with tx as rec:
        if rec is None:
            return RETURN_CODES[E_NO_DESTINATION]
        rec.flags |= REPLICATED
        work = Forwarding(flags, None, [], made_here=False)
        return outcome(ctx, tx, work, forward_all(ctx, tx, rec, work))


def cancel(ctx: Context, invite: Transaction) -> int:
    """A CANCEL for a known INVITE: 200 at once, and CANCELs downstream (RFC 3261 9.2, 16.10)."""
    with invite as rec:
        if rec is None:
            return -1
        reason = machine.ORIGINATOR_CANCEL
        if rec.flags & PASS_REASON:
            reason = (ctx.msg.value("reason") or reason).strip()
        reason = ctx.slots.get("tm.cancel_reason", reason)
        code, parked = rec.code, bool(rec.flags & PARKED) or rec.failing >= 0
        now = this.clock.now()
        if rec.kept is not None:
            callbacks.tell(callbacks.When.CANCELLED, invite, rec, message=ctx.msg)
        winner = machine.cancel_received(rec, reason, now, invite.out)
        early = parked and code < 200 and hooks.cancel_parked
        if early:
            rec.flags &= ~PARKED  # answered: it lives on like any other
            request = invite.request
            assert request is not None
            answered = Context(request, ctx.source, this.sockets_by_name[rec.socket])
            server_transaction.send_reply(answered, invite, rec, 487, "Request Terminated")
        if ctx.tx is None:
            host, port = destinations.reply_address(ctx)
            data = msg_translator.reply(ctx, 200, "canceling", to_tag=rec.to_tag)
            invite.out.append((ctx.socket.name, data, host, port))
            if callbacks.KEPT in ctx.slots:
                callbacks.cancel_answered(ctx, invite, data)
            hooks.answered(200, True)
        if winner >= 0:
            failure_route.all_failed(invite, rec, winner, now)
        commit(invite)
        if winner >= 0:
            unsettled.clear()  # set if a failure route has waited in line
    if early:
        this.engine.cancel_waiting(invite.key)
    if ctx.tx is not None:
        return server_transaction.reply(ctx, 200, "canceling")
    return 1


def forward(ctx: Context, proxy: Hop | None = None) -> int:
    """Forward a request without state (RFC 3261 16.11): 1 sent, else a code of t_relay."""
    hop = proxy or destinations.hop_of_uri(ctx.dst_uri or ctx.ruri)
    if hop is None:
        ctx.slots["tm.error"] = E_BAD_URI
        return -2
    msg = ctx.msg
    via = identity.stateless_branch_id(msg.via.branch or msg.via.value, msg.via.sent_by, msg.method)
    # a retransmission has to take the same way (RFC 3263 4.4)
    found = destinations_of(ctx, hop, destinations.forced_for(proxy, ctx.send_socket), int(via[-8:], 16))
    if not found:
        ctx.slots["tm.error"] = E_BAD_ADDRESS
        return -4
    if ctx.socket.proto != "udp":  # the reply finds the connection again by it, as in OpenSIPS
        via += f";i={ctx.source.port:x}"
    send = this.send_open if ctx.branch_flags & tuning.open_branch_flag else this.send
    for ip, port, sock in found:
        if send(sock, msg_translator.forwarded(ctx, ctx.ruri, sock, via, ctx.path), ip, port):
            traffic.fwd_requests.add()
            return 1
    ctx.slots["tm.error"] = E_SEND
    return -6
