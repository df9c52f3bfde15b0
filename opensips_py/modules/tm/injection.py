"""Branches that come to a transaction later: t_wait_for_new_branches(), t_inject_branches()."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from opensips_py.core.functions_branches import current_branch
from opensips_py.core.functions_network import socket_named
from opensips_py.evi.events import TRANSACTION
from opensips_py.modules.tm.declared import module
from opensips_py.script.context import Branch, Context, RouteKind
from opensips_py.script.declarations import O, R
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.sip.errors import ParseError
from opensips_py.sip.nameaddr import parse_nameaddrs
from opensips_py.tm import forking, machine, server_transaction
from opensips_py.tm.failure_route import request_context
from opensips_py.tm.record import MAX_BRANCHES, Record
from opensips_py.tm.transaction import Transaction, commit


@module.function(routes=R)
def t_wait_for_new_branches(ctx: Context) -> int:
    """Keep the INVITE transaction open for t_inject_branches() when all its branches have failed, until fr_inv_timeout.

    A 2xx or CANCEL ends it before. 1 done, -1 without a transaction or when it is not one of an INVITE.
    """
    tx: Transaction | None = ctx.tx
    if tx is None:
        return -1
    if ctx.msg.method != "INVITE":
        log(ERROR, "tm", "t_wait_for_new_branches", "only an INVITE can wait for branches")
        return -1
    return add_waiting_branch(ctx, tx, lambda rec: rec.fr_inv)


def add_waiting_branch(ctx: Context, tx: Transaction, seconds: Callable[[Record], float]) -> int:
    """Add a branch that waits. 1 done, 0 the request was a retransmission after all, -1 there are too many branches."""
    with tx as rec:
        if rec is None:
            return -1
        if len(rec.branches) >= MAX_BRANCHES or rec.code >= 200:
            return -1
        rec.branches.append(machine.waiting(this.clock.now(), seconds(rec), rec.socket))
        server_transaction.take_over_routes(ctx, rec)
        server_transaction.keep_rport(ctx)
        rec.context = ctx.freeze()
        return 1 if commit(tx) else 0


def end_waiting(tx: Transaction) -> None:
    """Nothing will come: branches that wait hold nothing back any more."""
    with tx as rec:
        if rec is not None:
            machine.end_waiting(rec)
            commit(tx)


def _source_fault(text: str, registry: Any) -> str | None:
    return None if _of_event(text) is not None else f'"{text}" is not a source of branches: "msg" or "event" is expected'


def _of_event(text: str) -> bool | None:
    """Whether the source is the event; None when it is neither."""
    if text[:5].lower() == "event":
        return True
    return False if text[:3].lower() == "msg" or text[:7].lower() == "message" else None


def _flag_fault(text: str, registry: Any) -> str | None:
    return None if text[:6].lower() == "cancel" else f'"{text}" is not a flag: "cancel" is expected'


@module.function(routes=R | O)
def t_inject_branches(
    ctx: Context,
    source: Annotated[str, "str", _source_fault],
    flags: Annotated[str, "str", _flag_fault] | None = None,
) -> int:
    """Send the request of a transaction to more destinations, while others may be under way.

    The transaction is that of the script, or the one from which notify_on_event() was called. ``source`` ``msg``: the R-URI and
    the branches of the message (of a reply: the branches alone); ``event``: a contact, from the AVPs that the event
    E_UL_CONTACT_INSERT gives. The flag ``cancel`` cancels the branches that are under way.

    1 sent, -1 no transaction or no destination, -2 it has been answered, -3 nothing could be sent.
    """
    of_event = _of_event(source)
    if of_event is None or (flags is not None and _flag_fault(flags, None) is not None):
        log(ERROR, "tm", "t_inject_branches", f"{source!r} or {flags!r} is not understood")
        return -1
    tx: Transaction | None = ctx.tx
    if tx is None:
        key = ctx.slots.get(TRANSACTION)
        if key is None:
            return -1
        tx = Transaction(key)
    with tx as rec:
        if rec is None:
            return -1
        request = Context.thaw(ctx.freeze(), this.sockets_by_name) if tx.new else request_context(rec)
        request.tx, request.tx_key = tx, tx.key
        request.route_kind = RouteKind.REQUEST
        request.armed_failure = request.armed_reply = request.armed_branch = None
        targets = _contact(ctx) if of_event else _destinations(ctx)
        if not targets:
            return -1
        _aim(request, targets)
        return forking.inject(request, tx, rec, flags is not None)


def _destinations(ctx: Context) -> list[Branch]:
    """The destination set of a message; its branches are used up."""
    branches, ctx.branches = ctx.branches, []
    return [current_branch(ctx), *branches] if ctx.msg.is_request else branches


def _contact(ctx: Context) -> list[Branch]:
    """The contact that the AVPs of an event describe; nothing when one of them is missing."""
    values = []
    for name in ("uri", "received", "path", "qval", "socket", "bflags"):
        stack = ctx.avps.get(name)
        if not stack:
            log(ERROR, "tm", "t_inject_branches", f"the event has given no $avp({name})")
            return []
        values.append(stack[-1])
    uri, received, path, q, socket, flags = values
    try:
        first = parse_nameaddrs(str(path))[0].uri if path else None
        branch = Branch(str(uri), first or (str(received) or None), str(path) or None, int(q), int(flags))
    except (ParseError, ValueError) as error:
        log(ERROR, "tm", "t_inject_branches", f"the event's contact cannot be used: {error}")
        return []
    found = socket_named(str(socket)) if socket else None
    if found is not None:
        branch.socket = found.name
    return [branch]


def _aim(request: Context, targets: list[Branch]) -> None:
    """Make ``targets`` the destination set of a request."""
    own, *request.branches = targets
    request.new_uri, request.dst_uri, request.path = own.uri, own.dst_uri, own.path
    request.q, request.branch_flags = own.q, own.flags
    request.send_socket = None if own.socket is None else this.sockets_by_name[own.socket]
