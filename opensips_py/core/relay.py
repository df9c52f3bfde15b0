"""t_relay: forwarding a request to one or several destinations, with a transaction or (ACK) without."""

from __future__ import annotations

from time import monotonic

from opensips_py.core import building, destinations, traffic, transactions
from opensips_py.core.destinations import Hop
from opensips_py.core.guard import run_guarded
from opensips_py.core.process import this
from opensips_py.core.streams import tuning
from opensips_py.core.transaction import Transaction, commit, hold, release
from opensips_py.core.transactions import (
    E_BAD_ADDRESS,
    E_BAD_REQ,
    E_BAD_URI,
    E_NO_DESTINATION,
    E_SEND,
    E_TOO_MANY_BRANCHES,
    E_UNSPEC,
    hooks,
)
from opensips_py.script.context import Branch, Context, RouteKind
from opensips_py.tm import identity, machine
from opensips_py.tm.record import CANCELLED, MINOR, NO_NEW_BRANCHES, OVER_STREAM, PARKED, PASS_REASON, Record, UacBranch

MAX_BRANCHES = 12

NO_ERROR_REPLY = 0x02
PASS_CANCEL_REASON = 0x08

RECORD_FLAGS = "tm.flags"
"""Slot of a Context: flags that its transaction gets when it is relayed (RESTORE_FROM, RESTORE_TO)."""

_CODES = {E_NO_DESTINATION: -3, E_BAD_ADDRESS: -4, E_SEND: -6, E_BAD_URI: -2, E_BAD_REQ: -2}
"""Return codes of t_relay by internal error number; others give -1."""


def error_reply(error: int, signature: str) -> tuple[int, str]:
    """(status, phrase) of the reply to the caller for an internal error; ``signature`` is TM or SL."""
    code, text = {
        E_SEND: (477, "Send failed"),
        E_BAD_ADDRESS: (476, "Unresolvable destination"),
        E_BAD_URI: (475, "Bad URI"),
        E_BAD_REQ: (400, "Bad Request"),
        E_NO_DESTINATION: (500, "No destination available"),
        E_TOO_MANY_BRANCHES: (500, "Forking capacity exceeded"),
    }.get(error, (500, "Server error occurred"))
    return code, f"{text} ({error}/{signature})"


def relay(ctx: Context, flags: int = 0, proxy: Hop | None = None) -> int:
    """t_relay. 1 under way; 0 the script ends (retransmission, or an error reply was sent); negative: see ``_CODES``."""
    method = ctx.msg.method
    if method == "ACK":
        return 0 if transactions.acknowledge(ctx) == 1 else forward(ctx, proxy)
    if method == "CANCEL":
        invite = transactions.original(ctx)
        if invite is not None:
            return cancel(ctx, invite)
    made_here = ctx.tx is None
    made = transactions.new_transaction(ctx)
    if made <= 0:
        return 0 if made == 0 else -2
    tx: Transaction = ctx.tx
    rec = hold(tx)
    if rec is None:  # answered and gone while the script was suspended
        return _CODES[E_NO_DESTINATION]
    try:
        error = _forward(ctx, tx, rec, flags, proxy)
        if error == 0:
            return 1
        if error < 0:  # the request was a retransmission after all
            return 0
        ctx.slots["tm.error"] = error
        if made_here and not flags & NO_ERROR_REPLY:
            transactions.send_reply(ctx, tx, rec, *error_reply(error, "TM"))
            commit(tx)
            return 0
        return _CODES.get(error, -1)
    finally:
        release(tx)


def _forward(ctx: Context, tx: Transaction, rec: Record, flags: int, proxy: Hop | None) -> int:
    """Add branches and send them. 0, or the number of an internal error; -1 when the transaction was made elsewhere."""
    rec.flags &= ~PARKED
    transactions.take_over_routes(ctx, rec)
    failing = ctx.route_kind is RouteKind.FAILURE
    if rec.code >= 200:
        return E_NO_DESTINATION
    if rec.flags & (CANCELLED | NO_NEW_BRANCHES):
        if not rec.branches and not failing:
            transactions.send_reply(ctx, tx, rec, 487, "Request Terminated")
            commit(tx)
        return E_NO_DESTINATION
    if flags & PASS_CANCEL_REASON:
        rec.flags |= PASS_REASON
    first = len(rec.branches)
    error = _add_branches(ctx, tx, rec, proxy)
    if RECORD_FLAGS in ctx.slots:
        rec.flags |= ctx.slots[RECORD_FLAGS]
    if len(rec.branches) == first:
        return error or E_NO_DESTINATION
    ctx.branches = []
    if failing:
        rec.first = first
    if rec.on_failure is not None or hooks.keep_avps_for_replies or failing:
        transactions.keep_rport(ctx)
        rec.context = ctx.freeze()
    return _send(tx, rec, first)


def _add_branches(ctx: Context, tx: Transaction, rec: Record, proxy: Hop | None) -> int:
    """Make a branch of the R-URI and of each further destination. The last internal error, or 0."""
    own = _own_branch(ctx)
    error = 0
    route = None if rec.on_branch is None else this.program.route(RouteKind.BRANCH, rec.on_branch)
    now = monotonic()
    for target in (own, *ctx.branches):
        if len(rec.branches) >= MAX_BRANCHES:
            return E_TOO_MANY_BRANCHES
        if route is None:
            branch = _branch(ctx, tx, rec, target, proxy)
        else:
            branch = _branch_through_route(ctx, tx, rec, target, proxy, route)
        if isinstance(branch, int):
            error = branch
            continue
        machine.branch_started(rec, branch, now)
        rec.branches.append(branch)
    return error


def _own_branch(ctx: Context) -> Branch:
    """The destination that stands in the context itself."""
    socket = ctx.send_socket
    return Branch(ctx.ruri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags, None if socket is None else socket.index)


def _branch(ctx: Context, tx: Transaction, rec: Record, target: Branch, proxy: Hop | None) -> UacBranch | int:
    next_hop = target.dst_uri or target.uri
    hop = proxy or destinations.hop_of_uri(next_hop)
    if hop is None:
        return E_BAD_URI
    forced = None if target.socket is None else this.sockets[target.socket]
    destination = destinations.locate(hop, forced, ctx.socket)
    if destination is None:
        return E_BAD_ADDRESS
    ip, port, sock = destination
    via = identity.branch_id(tx.key, len(rec.branches))
    sent = building.forwarded(ctx, target.uri, sock, via, target.path, rec.headers)
    minor = hooks.minor_branch_flag
    return UacBranch(
        uri=target.uri,
        host=ip,
        port=port,
        socket=sock.index,
        via=via,
        sent=sent,
        state=0,
        flags=(MINOR if minor and target.flags & minor else 0) | (0 if sock.proto == "udp" else OVER_STREAM),
        script_flags=target.flags,
    )


def _branch_through_route(
    ctx: Context, tx: Transaction, rec: Record, target: Branch, proxy: Hop | None, route: transactions.Route
) -> UacBranch | int:
    """Run the branch route over a branch: what it changes holds for this branch alone."""
    msg = ctx.msg
    kept = (ctx.new_uri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags, ctx.send_socket)
    kept_run = (ctx.route_kind, ctx.route_name, ctx.branch_index, ctx.dropped, ctx.params, ctx.depth, ctx.rc)
    edits, branches = msg.edits, ctx.branches
    sender = {name: ctx.slots[name] for name in building.SENDER_SLOTS if name in ctx.slots}
    msg.edits = list(edits)
    ctx.new_uri = None if target.uri == msg.ruri else target.uri
    ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags = target.dst_uri, target.path, target.q, target.flags
    ctx.send_socket = None if target.socket is None else this.sockets[target.socket]
    ctx.route_kind = RouteKind.BRANCH
    ctx.route_name = rec.on_branch or ""
    ctx.branch_index = len(rec.branches)
    ctx.dropped = False
    ctx.params, ctx.depth = (), 0
    ctx.slots.pop("tm.bavp", None)
    tx.branch_reply_route = None
    try:
        run_guarded(ctx, route)
        if ctx.dropped:
            return E_UNSPEC
        branch = _branch(ctx, tx, rec, _own_branch(ctx), proxy)
        if not isinstance(branch, int):
            branch.on_reply = tx.branch_reply_route
            branch.avps = ctx.slots.pop("tm.bavp", None)
        return branch
    finally:
        msg.edits, ctx.branches = edits, branches
        for name in building.SENDER_SLOTS:
            ctx.slots.pop(name, None)
        ctx.slots.update(sender)
        ctx.new_uri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags, ctx.send_socket = kept
        ctx.route_kind, ctx.route_name, ctx.branch_index, ctx.dropped, ctx.params, ctx.depth, ctx.rc = kept_run


def start(ctx: Context, tx: Transaction, rec: Record) -> int:
    """Send a request that was made here; ``tx`` is held. 0, or the number of an internal error. It has one branch only."""
    transactions.take_over_routes(ctx, rec)
    rec.on_branch = None
    branch = _branch(ctx, tx, rec, _own_branch(ctx), None)
    if isinstance(branch, int):
        return branch
    machine.branch_started(rec, branch, monotonic())
    rec.branches.append(branch)
    if rec.on_failure is not None or hooks.keep_avps_for_replies:
        rec.context = ctx.freeze()
    return _send(tx, rec, 0)


def _send(tx: Transaction, rec: Record, first: int) -> int:
    """Store the new branches, then send them. 0 when at least one went out."""
    if not commit(tx):
        return -1
    failed = []
    for n in range(first, len(rec.branches)):
        branch = rec.branches[n]
        send = this.send_open if branch.script_flags & tuning.open_branch_flag else this.send
        if not send(this.sockets[branch.socket], branch.sent, branch.host, branch.port):
            failed.append(n)
    if not failed:
        return 0
    held = hold(tx)
    if held is None:
        return E_SEND
    try:
        out: list[machine.Send] = []
        for n in failed:
            machine.send_failed(held, n, monotonic(), out)
        if len(failed) == len(held.branches) - first:
            del held.branches[first:]
            held.first = min(held.first, max(first - 1, 0))
            commit(tx)
            return E_SEND
        tx.out += out
        commit(tx)
    finally:
        release(tx)
    return 0


def cancel(ctx: Context, invite: Transaction) -> int:
    """A CANCEL for a known INVITE: 200 at once, and CANCELs downstream (RFC 3261 9.2, 16.10)."""
    rec = hold(invite)
    if rec is None:
        return -1
    try:
        reason = machine.ORIGINATOR_CANCEL
        if rec.flags & PASS_REASON:
            reason = (ctx.msg.value("reason") or reason).strip()
        reason = ctx.slots.get("tm.cancel_reason", reason)
        code, parked = rec.code, bool(rec.flags & PARKED)
        machine.cancel_received(rec, reason, monotonic(), invite.out)
        if parked and code < 200 and hooks.cancel_parked:
            rec.flags &= ~PARKED  # answered: it lives on like any other
            request = invite.request
            assert request is not None
            answered = Context(request, ctx.source, this.sockets[rec.socket])
            transactions.send_reply(answered, invite, rec, 487, "Request Terminated")
        if ctx.tx is None:
            host, port = destinations.reply_address(ctx)
            data = building.reply(ctx, 200, "canceling", to_tag=rec.to_tag)
            invite.out.append((ctx.socket.index, data, host, port))
            hooks.answered(200, True)
        commit(invite)
    finally:
        release(invite)
    if ctx.tx is not None:
        return transactions.reply(ctx, 200, "canceling")
    return 1


def forward(ctx: Context, proxy: Hop | None = None) -> int:
    """Forward a request without state (RFC 3261 16.11): 1 sent, else a code of t_relay."""
    hop = proxy or destinations.hop_of_uri(ctx.dst_uri or ctx.ruri)
    if hop is None:
        ctx.slots["tm.error"] = E_BAD_URI
        return -2
    destination = destinations.locate(hop, ctx.send_socket, ctx.socket)
    if destination is None:
        ctx.slots["tm.error"] = E_BAD_ADDRESS
        return -4
    msg = ctx.msg
    via = identity.stateless_branch_id(msg.via.branch or msg.via.value, msg.via.sent_by, msg.method)
    if ctx.socket.proto != "udp":  # the reply finds the connection again by it, as in OpenSIPS
        via += f";i={ctx.source.port:x}"
    data = building.forwarded(ctx, ctx.ruri, destination.socket, via, ctx.path)
    send = this.send_open if ctx.branch_flags & tuning.open_branch_flag else this.send
    if not send(destination.socket, data, destination.ip, destination.port):
        ctx.slots["tm.error"] = E_SEND
        return -6
    traffic.fwd_requests.add()
    return 1
