"""The functions of module tm: what scripts see of it. The work is done in ``core`` and ``opensips_py.tm``."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Annotated, Any

from opensips_py.modules.tm.declared import module
from opensips_py.net.destinations import hop_of_proxy
from opensips_py.script.context import Context, RouteKind
from opensips_py.script.declarations import B, F, HeaderLines, L, Line, O, Pattern, R
from opensips_py.script.flag_words import FlagWord, FlagWords
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.tm import machine, relay, server_transaction
from opensips_py.tm.record import LOCAL_REPLY, RECEIVED, REPLIED_HERE, Record
from opensips_py.tm.transaction import Transaction, answer_retransmission, commit, look
from opensips_py.user_modules.python_function import script_place

# --- requests --------------------------------------------------------------------------------------------------------


@module.function(routes=R)
def t_newtran(ctx: Context) -> int:
    """Make the transaction of the request. 1 made; the script ends when the request is a retransmission; negative: error."""
    return server_transaction.new_transaction(ctx)


@module.function(routes=R | F)
def t_reply(ctx: Context, code: int, reason: Line) -> int:
    """Answer the request, making a transaction if there is none. 1 sent, -1 error or already answered.

    An ACK is not answered: the script ends.
    """
    return t_reply_with_body(ctx, code, reason, "")


@module.function(routes=R | F)
def t_reply_with_body(ctx: Context, code: int, reason: Line, body: str) -> int:
    """t_reply() with a body; its Content-Type is added with append_to_reply()."""
    if ctx.msg.method == "ACK":
        return 0
    if not 100 <= code <= 699:
        _say("t_reply", f"{code} is not a valid status code (100 to 699)")
        return -1
    return server_transaction.reply(ctx, code, reason, body=body)


RELAY_FLAGS = FlagWords(
    FlagWord("no-auto-477", 2, "no error reply when nothing could be sent"),
    FlagWord("no-dns-failover", 4, "only the first address of a name is tried"),
    FlagWord("pass-reason-hdr", 8, "the Reason of a CANCEL is passed on"),
    FlagWord("allow-no-cancel", 16, "follow `Request-Disposition: no-cancel`: a 2xx does not cancel the other branches"),
)


@module.function(routes=R | F)
def t_relay(ctx: Context, flags: Annotated[int, "mask", RELAY_FLAGS] | None = None, outbound_proxy: str | None = None) -> int:
    """Forward the request to its R-URI (or $du, or ``proto:host:port``) and all branches.

    1 under way; the script ends after a retransmission or an error reply; -1 error, -2 bad message, -3 no destination or
    already cancelled, -4 unresolvable, -6 send failed.
    """
    proxy = None
    if outbound_proxy is not None:
        proxy = hop_of_proxy(outbound_proxy)
        if proxy is None:
            ctx.slots["tm.error"] = server_transaction.E_BAD_URI
            return -2
    code = relay.relay(ctx, flags or 0, proxy)
    if code == -2 and ctx.new_uri is not None and ctx.slots.get("tm.error") == server_transaction.E_BAD_URI:
        _say("t_relay", f"the script has set an invalid R-URI: {ctx.ruri!r}")
    return code


def _say(function: str, text: str) -> None:
    """Log a mistake of the script with its place."""
    frame: FrameType | None = sys._getframe(2)
    where = ""
    while frame is not None and not where:
        where, frame = script_place(frame), frame.f_back
    log(ERROR, "tm", function, f"{where}: {text}" if where else text)


@module.function(routes=R | F)
def t_replicate(ctx: Context, uri: str, flags: Annotated[int, "mask", RELAY_FLAGS] | None = None) -> int:
    """Send a copy of the request to the address of ``uri``, and one to that of each branch. Their replies are not relayed.

    1 under way; the script ends after a retransmission; negative codes as those of t_relay().
    Of the flags only no-dns-failover matters.
    """
    return relay.replicate(ctx, uri, flags or 0)


@module.function(routes=R | B)
def t_check_trans(ctx: Context) -> int:
    """Whether the request belongs to a known transaction.

    CANCEL: 1 when its INVITE is known, else -1. ACK: 1 for a reply sent here, -2 for a relayed 2xx, -1 unknown. Others: a
    retransmission is answered with the last reply and the script ends; -1 when it is new.
    """
    method = ctx.msg.method
    if method == "CANCEL":
        return -1 if server_transaction.original(ctx) is None else 1
    if method == "ACK":
        return server_transaction.acknowledge(ctx)
    if ctx.tx is not None:
        return 1
    if not ctx.msg.complete:
        return -1
    key = server_transaction.find(ctx)
    if key is None:
        return -1
    answer_retransmission(key, len(ctx.msg.raw))
    return 0


@module.function(routes=R | F | O | B)
def t_was_cancelled(ctx: Context) -> int:
    """1 when a CANCEL for the request has been received, else -1."""
    return 1 if server_transaction.was_cancelled(ctx) else -1


@module.function(routes=R)
def t_add_cancel_reason(ctx: Context, reason: HeaderLines) -> int:
    """Set the Reason header of the CANCELs that this CANCEL causes: a whole header line, or only its value."""
    name, colon, value = reason.partition(":")
    ctx.slots["tm.cancel_reason"] = (value if colon and name.strip().lower() == "reason" else reason).strip()
    return 1


@module.function(routes=R)
def t_add_hdrs(ctx: Context, headers: HeaderLines) -> int:
    """Add header lines to everything that is sent for the transaction from now on: branches, ACK, CANCEL. -1 without one."""
    return change_record(ctx, lambda rec: setattr(rec, "headers", headers))


@module.function(routes=R | B)
def t_flush_flags(ctx: Context) -> int:
    """Make the message flags that have changed since the transaction was made those of the transaction."""

    def change(rec: Record) -> None:
        if rec.context:
            server_transaction.keep_rport(ctx)
            rec.context = ctx.freeze()

    return change_record(ctx, change)


def change_record(ctx: Context, change: server_transaction.Change) -> int:
    """Change the record of the script's transaction: 1, or -1 when there is none."""
    tx: Transaction | None = ctx.tx
    if tx is None:
        return -1
    with tx as rec:
        if rec is None:
            return -1
        change(rec)
        if not tx.new:
            commit(tx)
    return 1


# --- arming routes ---------------------------------------------------------------------------------------------------


def _armed(ctx: Context, kind: RouteKind, name: str) -> bool:
    return bool(name) and this.program.route(kind, name) is not None


def _arm_now(ctx: Context) -> int:
    """Give armed routes to a transaction that has been stored already; one still in memory takes them when it is."""
    tx: Transaction | None = ctx.tx
    if tx is None or tx.new:
        return 1
    rec = look(tx)
    if rec is None or not (rec.branches or ctx.route_kind is RouteKind.ONREPLY):
        return 1
    return change_record(ctx, lambda rec: server_transaction.take_over_routes(ctx, rec))


@module.function(routes=R | F | O | B | L)
def t_on_failure(ctx: Context, name: str) -> int:
    """Run failure_route[name] when all branches have failed. 1, -1 there is no such route."""
    if not _armed(ctx, RouteKind.FAILURE, name):
        return -1
    ctx.armed_failure = name
    return _arm_now(ctx)


@module.function(routes=R | F | O | B | L)
def t_on_reply(ctx: Context, name: str) -> int:
    """Run onreply_route[name] for replies: of every branch, or of this one in a branch route.

    1, -1 there is no such route.
    """
    if not _armed(ctx, RouteKind.ONREPLY, name):
        return -1
    if ctx.route_kind is RouteKind.BRANCH and ctx.tx is not None:
        ctx.tx.branch_reply_route = name
        return 1
    ctx.armed_reply = name
    return _arm_now(ctx)


@module.function(routes=R | F | O | B)
def t_on_branch(ctx: Context, name: str) -> int:
    """Run branch_route[name] for every branch before it is sent. 1, -1 there is no such route."""
    if not _armed(ctx, RouteKind.BRANCH, name):
        return -1
    ctx.armed_branch = name
    return _arm_now(ctx)


# --- looking at replies ----------------------------------------------------------------------------------------------


def reply_code(ctx: Context) -> int:
    """The status that the current route is about: winning, received, or sent last; 0 when there is none."""
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None:
        return 0
    kind = ctx.route_kind
    if kind is RouteKind.FAILURE:
        return ctx.reply_code
    if kind is RouteKind.ONREPLY:
        return ctx.msg.status
    return rec.code if kind is RouteKind.REQUEST else 0


@module.function(routes=R | F | O | B)
def t_check_status(ctx: Context, status: Pattern) -> int:
    """1 when the status that this route is about matches, else -1: in a branch route, and without a transaction."""
    if ctx.tx is None or ctx.route_kind is RouteKind.BRANCH:
        return -1
    return 1 if status.test(str(reply_code(ctx))) else -1


def _which_fault(text: str, registry: Any) -> str | None:
    return None if _which(text) is not None else f'"{text}" is not one of "all", "branch", "last"'


def _which(text: str) -> str | None:
    return next((word for word in ("all", "branch", "last") if text.lower().startswith(word)), None)


@module.function(routes=R | F | O | B)
def t_local_replied(ctx: Context, which: Annotated[str, "str", _which_fault]) -> int:
    """1 when there was nothing but replies made here, else -1.

    ``all``: no branch has received any reply; ``branch``: the one that has won in a failure route has not; ``last``: the final
    reply that has won in a failure route was made here, elsewhere the last one that was sent.
    """
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None:
        return -1
    chosen = _which(which)
    if chosen is None:
        return -1
    if chosen == "all":
        return -1 if any(branch.flags & RECEIVED for branch in rec.branches[rec.first :]) else 1
    if ctx.route_kind is RouteKind.FAILURE and 0 <= ctx.branch_index < len(rec.branches):
        flags = rec.branches[ctx.branch_index].flags
        return 1 if (flags & LOCAL_REPLY if chosen == "last" else not flags & RECEIVED) else -1
    return 1 if chosen == "last" and rec.flags & REPLIED_HERE else -1


def _branches_fault(text: str, registry: Any) -> str | None:
    wrong = text.lower().strip("ao")
    return f'unsupported flag "{wrong[:1]}": a (all) or o (others) is expected' if wrong else None


@module.function(routes=O)
def t_cancel_branch(ctx: Context, which: Annotated[str, "str", _branches_fault] | None = None) -> int:
    """Cancel this branch, ``a``: all branches, ``o``: the others. -1 without an INVITE transaction.

    The branch that this reply ends, if it is a final one, is not cancelled.
    """
    tx: Transaction | None = ctx.tx
    if tx is None or _branches_fault(which or "", None) is not None:
        return -1
    with tx as rec:
        if rec is None or rec.method != "INVITE":
            return -1
        now = this.clock.now()
        n = ctx.branch_index
        ended = ctx.msg.status >= 200
        chosen = (which or "").lower()
        if chosen:
            machine.cancel_branches(rec, n if ended or "a" not in chosen else -1, None, now, tx.out)
        elif 0 <= n < len(rec.branches) and not ended:
            machine.cancel_branch(rec, rec.branches[n], None, now, tx.out)
        commit(tx)
    return 1
