"""OpenSIPS module tm: stateful processing. What scripts see of it; the work is done in ``core`` and ``opensips_py.tm``."""

from __future__ import annotations

from time import monotonic

from opensips_py.core import relay, transactions
from opensips_py.core.destinations import hop_of_proxy
from opensips_py.core.process import this
from opensips_py.core.transaction import Transaction, answer_retransmission, commit, hold, look, release
from opensips_py.core.transactions import hooks
from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.declarations import B, ConfigError, F, L, Module, O, Pattern, R
from opensips_py.script.flag_names import branch_flags
from opensips_py.tm import identity, machine
from opensips_py.tm.record import LOCAL_REPLY, Record
from opensips_py.tm.settings import settings

module = Module("tm", doc="Transactions (OpenSIPS module tm)")

# --- parameters ------------------------------------------------------------------------------------------------------

fr_timeout = module.param("fr_timeout", int, 30, doc="seconds to wait for any final reply, and for the ACK of a negative one")
fr_inv_timeout = module.param("fr_inv_timeout", int, 120, doc="seconds to wait for it once an INVITE is answered 1xx")
wt_timer = module.param("wt_timer", int, 5, doc="seconds for which a completed transaction absorbs retransmissions")
T1_timer = module.param("T1_timer", int, 500, doc="milliseconds to the first retransmission")
T2_timer = module.param("T2_timer", int, 4000, doc="greatest interval of retransmission in milliseconds")
restart_fr_on_each_reply = module.param(
    "restart_fr_on_each_reply", int, 1, doc="every provisional reply restarts fr_inv_timeout, not only higher ones"
)
auto_100trying = module.param("auto_100trying", int, 1, doc="answer an INVITE with 100 when its transaction is made")
disable_6xx_block = module.param("disable_6xx_block", int, 0, doc="treat a 6xx like other negative replies")
minor_branch_flag = module.param("minor_branch_flag", str, "", doc="branch flag of branches that need not be waited for")
onreply_avp_mode = module.param("onreply_avp_mode", int, 0, doc="onreply routes see the AVPs of the transaction")
cancel_parked = module.param("cancel_parked", int, 0, doc="a CANCEL while the script is suspended is answered with 487 at once")
enable_stats = module.param("enable_stats", int, 1, doc="count transactions and replies")

module.param("delete_timer", int, 2, doc="seconds before a finished transaction is freed", no_effect="it is deleted at once")
module.param("ruri_matching", int, 1, doc="compare R-URIs of RFC 2543 requests", no_effect="R-URIs are always compared")
module.param("via1_matching", int, 1, doc="compare the top Via's sent-by", no_effect="it is always compared (RFC 3261 17.2.3)")
module.param("unix_tx_timeout", int, 2, doc="seconds for t_write_unix", no_effect="t_write_unix is not offered")
module.param("tw_append", str, "", doc="what t_write_req adds", no_effect="t_write_req is not offered", multiple=True)
module.param("pass_provisional_replies", int, 0, doc="pass 1xx to callbacks of local requests", no_effect="there are none")
module.param("syn_branch", int, 1, doc="form of our branch parameter", no_effect="it always names the transaction")
module.param("timer_partitions", int, 1, doc="partitions of the timer lists", no_effect="timers are rows of the shared store")
module.param("tm_replication_cluster", int, 0, doc="cluster for anycast", no_effect="there is one server")
module.param("cluster_param", str, "cid", doc="Via parameter for anycast", no_effect="there is one server")
module.param("cluster_auto_cancel", str, "yes", doc="anycast CANCEL", no_effect="there is one server")

# --- statistics ------------------------------------------------------------------------------------------------------

_received = module.statistic("received_replies", doc="replies received for transactions")
_relayed = module.statistic("relayed_replies", doc="replies passed upstream")
_local = module.statistic("local_replies", doc="replies made here")
_uas = module.statistic("UAS_transactions", doc="transactions made for received requests")
module.statistic("UAC_transactions", doc="transactions of requests made here")
_classes = {n: module.statistic(f"{n}xx_transactions", doc=f"transactions ended with {n}xx") for n in range(2, 7)}


def _in_use() -> int:
    return this.store.count(identity.PREFIX)


module.statistic("inuse_transactions", doc="transactions in the store now", gauge=_in_use)


class _Counting(transactions.Hooks):
    """Statistics of this module, counted where things happen."""

    @staticmethod
    def created() -> None:
        _uas.add()

    @staticmethod
    def answered(code: int, local: bool) -> None:
        (_local if local else _relayed).add()
        if code >= 200:
            _classes[code // 100].add()

    @staticmethod
    def received(code: int) -> None:
        _received.add()


@module.on_config
def _configure() -> None:
    for param in (fr_timeout, fr_inv_timeout, wt_timer, T1_timer, T2_timer):
        if param.value < 1:
            raise ConfigError(f"tm: {param.name} must be at least 1, not {param.value}")
    settings.fr_timeout = float(fr_timeout.value)
    settings.fr_inv_timeout = float(fr_inv_timeout.value)
    settings.wt_timer = float(wt_timer.value)
    settings.t1 = T1_timer.value / 1000
    settings.t2 = T2_timer.value / 1000
    settings.restart_fr_on_each_reply = bool(restart_fr_on_each_reply.value)
    settings.disable_6xx_block = bool(disable_6xx_block.value)
    hooks.auto_100trying = bool(auto_100trying.value)
    hooks.cancel_parked = bool(cancel_parked.value)
    hooks.minor_branch_flag = branch_flags.mask(minor_branch_flag.value) if minor_branch_flag.value else 0
    hooks.keep_avps_for_replies = bool(onreply_avp_mode.value)
    if enable_stats.value:
        hooks.created, hooks.answered, hooks.received = _Counting.created, _Counting.answered, _Counting.received  # type: ignore[method-assign]


# --- requests --------------------------------------------------------------------------------------------------------


@module.function(routes=R)
def t_newtran(ctx: Context) -> int:
    """Make the transaction of the request. 1 made; the script ends when the request is a retransmission; negative: error."""
    return transactions.new_transaction(ctx)


@module.function(routes=R | F)
def t_reply(ctx: Context, code: int, reason: str) -> int:
    """Answer the request, making a transaction if there is none. 1 sent, -1 error or already answered."""
    if not 100 <= code <= 699:
        return -1
    return transactions.reply(ctx, code, reason)


@module.function(routes=R | F)
def t_reply_with_body(ctx: Context, code: int, reason: str, body: str) -> int:
    """t_reply() with a body; its Content-Type is added with append_to_reply()."""
    if not 100 <= code <= 699:
        return -1
    return transactions.reply(ctx, code, reason, body=body)


@module.function(routes=R | F)
def t_relay(ctx: Context, flags: int | None = None, outbound_proxy: str | None = None) -> int:
    """Forward the request to its R-URI (or $du, or ``proto:host:port``) and all branches.

    1 under way; the script ends after a retransmission or an error reply; -1 error, -2 bad message, -3 no destination or
    already cancelled, -4 unresolvable, -6 send failed. Flags: 2 no error reply, 4 no DNS failover, 8 pass the Reason of a CANCEL.
    """
    proxy = None
    if outbound_proxy is not None:
        proxy = hop_of_proxy(outbound_proxy)
        if proxy is None:
            ctx.slots["tm.error"] = transactions.E_BAD_URI
            return -2
    return relay.relay(ctx, flags or 0, proxy)


@module.function(routes=R | B)
def t_check_trans(ctx: Context) -> int:
    """Whether the request belongs to a known transaction.

    CANCEL: 1 when its INVITE is known, else -1. ACK: 1 for a reply sent here, -2 for a relayed 2xx, -1 unknown. Others: a
    retransmission is answered with the last reply and the script ends; -1 when it is new.
    """
    method = ctx.msg.method
    if method == "CANCEL":
        return -1 if transactions.original(ctx) is None else 1
    if method == "ACK":
        return transactions.acknowledge(ctx)
    if ctx.tx is not None:
        return 1
    if not transactions.usable(ctx.msg):
        return -1
    key = transactions.find(ctx)
    if key is None:
        return -1
    answer_retransmission(key)
    return 0


@module.function(routes=R | F | O | B)
def t_was_cancelled(ctx: Context) -> int:
    """1 when a CANCEL for the request has been received, else -1."""
    return 1 if transactions.was_cancelled(ctx) else -1


@module.function(routes=R)
def t_add_cancel_reason(ctx: Context, reason: str) -> int:
    """Set the Reason header of the CANCELs that this CANCEL causes: a whole header line, or only its value."""
    name, colon, value = reason.partition(":")
    ctx.slots["tm.cancel_reason"] = (value if colon and name.strip().lower() == "reason" else reason).strip()
    return 1


@module.function(routes=R)
def t_add_hdrs(ctx: Context, headers: str) -> int:
    """Add header lines to everything that is sent for the transaction from now on: branches, ACK, CANCEL. -1 without one."""
    return _change(ctx, lambda rec: setattr(rec, "headers", headers))


@module.function(routes=R | B)
def t_flush_flags(ctx: Context) -> int:
    """Make the message flags that have changed since the transaction was made those of the transaction."""

    def change(rec: Record) -> None:
        if rec.context:
            transactions.keep_rport(ctx)
            rec.context = ctx.freeze()

    return _change(ctx, change)


def _change(ctx: Context, change: transactions.Change) -> int:
    """Change the record of the script's transaction: 1, or -1 when there is none."""
    tx: Transaction | None = ctx.tx
    if tx is None:
        return -1
    rec = hold(tx)
    if rec is None:
        return -1
    try:
        change(rec)
        if not tx.new:
            commit(tx)
    finally:
        release(tx)
    return 1


# --- arming routes ---------------------------------------------------------------------------------------------------


def _armed(ctx: Context, kind: RouteKind, name: str) -> bool:
    return not name or this.program.route(kind, name) is not None


def _arm_now(ctx: Context) -> int:
    """Give armed routes to a transaction that has been stored already; one still in memory takes them when it is."""
    tx: Transaction | None = ctx.tx
    if tx is None or tx.new:
        return 1
    rec = look(tx)
    if rec is None or not (rec.branches or ctx.route_kind is RouteKind.ONREPLY):
        return 1
    return _change(ctx, lambda rec: transactions.take_over_routes(ctx, rec))


@module.function(routes=R | F | O | B | L)
def t_on_failure(ctx: Context, name: str) -> int:
    """Run failure_route[name] when all branches have failed. An empty name disarms."""
    if not _armed(ctx, RouteKind.FAILURE, name):
        return -1
    ctx.armed_failure = name
    return _arm_now(ctx)


@module.function(routes=R | F | O | B | L)
def t_on_reply(ctx: Context, name: str) -> int:
    """Run onreply_route[name] for replies: of every branch, or of this one in a branch route. An empty name disarms."""
    if not _armed(ctx, RouteKind.ONREPLY, name):
        return -1
    if ctx.route_kind is RouteKind.BRANCH and ctx.tx is not None:
        ctx.tx.branch_reply_route = name
        return 1
    ctx.armed_reply = name
    return _arm_now(ctx)


@module.function(routes=R | F | O | B)
def t_on_branch(ctx: Context, name: str) -> int:
    """Run branch_route[name] for every branch before it is sent. An empty name disarms."""
    if not _armed(ctx, RouteKind.BRANCH, name):
        return -1
    ctx.armed_branch = name
    return _arm_now(ctx)


# --- looking at replies ----------------------------------------------------------------------------------------------


def _reply_code(ctx: Context) -> int | None:
    """The status that the current route is about."""
    if ctx.route_kind is RouteKind.FAILURE:
        return ctx.reply_code
    if not ctx.msg.is_request:
        return ctx.msg.status
    rec = None if ctx.tx is None else look(ctx.tx)
    return None if rec is None else rec.code


@module.function(routes=R | F | O | B)
def t_check_status(ctx: Context, status: Pattern) -> int:
    """1 when the status that this route is about matches, else -1."""
    code = _reply_code(ctx)
    return 1 if code is not None and status.search(str(code)) else -1


@module.function(routes=R | F | O | B)
def t_local_replied(ctx: Context, which: str) -> int:
    """1 when the replies were made here, not received: of ``all`` branches, of this ``branch``, or of the ``last`` one."""
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None or not rec.branches:
        return -1
    if which == "all":
        chosen = rec.branches
    elif which == "last":
        chosen = rec.branches[-1:]
    elif which == "branch":
        chosen = rec.branches[ctx.branch_index : ctx.branch_index + 1] if ctx.branch_index >= 0 else []
    else:
        return -1
    return 1 if chosen and all(branch.flags & LOCAL_REPLY for branch in chosen) else -1


@module.function(routes=O)
def t_cancel_branch(ctx: Context, which: str | None = None) -> int:
    """Cancel this branch, ``a``: all branches, ``o``: the others."""
    tx: Transaction | None = ctx.tx
    if tx is None:
        return -1
    rec = hold(tx)
    if rec is None:
        return -1
    try:
        now = monotonic()
        n = ctx.branch_index
        if which and "a" in which:
            machine.cancel_branches(rec, -1, None, now, tx.out)
        elif which and "o" in which:
            machine.cancel_branches(rec, n, None, now, tx.out)
        elif 0 <= n < len(rec.branches) and rec.method == "INVITE":
            machine.cancel_branch(rec, rec.branches[n], None, now, tx.out)
        commit(tx)
    finally:
        release(tx)
    return 1


# --- variables -------------------------------------------------------------------------------------------------------


@module.variable("T_branch_idx")
def _branch_index(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Number of the branch that a branch or onreply route runs for, or that has won in a failure route."""
    return ctx.branch_index if ctx.branch_index >= 0 else None


@module.variable("T_reply_code")
def _code(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """The status that this route is about: received, winning, or last sent."""
    return _reply_code(ctx)


@module.variable("T_ruri")
def _branch_ruri(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """R-URI of the current branch."""
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None or not 0 <= ctx.branch_index < len(rec.branches):
        return None
    return rec.branches[ctx.branch_index].uri


@module.variable("T_id")
def _id(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Name of the transaction; NULL without one."""
    return None if ctx.tx is None else ctx.tx.key[1:].hex()


def _seconds(value: float) -> int | str:
    return int(value) if value == int(value) else str(value)


def _set_fr(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    seconds = int(value) if value is not None else fr_timeout.value
    ctx.slots["tm.fr"] = float(seconds)
    _change(ctx, lambda rec: setattr(rec, "fr", float(seconds)))


def _set_fr_inv(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    seconds = int(value) if value is not None else fr_inv_timeout.value
    ctx.slots["tm.fr_inv"] = float(seconds)
    _change(ctx, lambda rec: setattr(rec, "fr_inv", float(seconds)))


@module.variable("T_fr_timeout", write=_set_fr)
def _fr(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """fr_timeout of this transaction, in seconds. NULL sets the default."""
    rec = None if ctx.tx is None else look(ctx.tx)
    return _seconds(ctx.slots.get("tm.fr", settings.fr_timeout) if rec is None else rec.fr)


@module.variable("T_fr_inv_timeout", write=_set_fr_inv)
def _fr_inv(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """fr_inv_timeout of this transaction, in seconds. NULL sets the default."""
    rec = None if ctx.tx is None else look(ctx.tx)
    return _seconds(ctx.slots.get("tm.fr_inv", settings.fr_inv_timeout) if rec is None else rec.fr_inv)


def _branch_avps(ctx: Context) -> dict[str, list[str | int]]:
    """The ``$bavp`` of the current branch: kept with it when the route ends."""
    found = ctx.slots.get("tm.bavp")
    if found is None:
        found = {}
        rec = None if ctx.tx is None or ctx.route_kind is RouteKind.BRANCH else look(ctx.tx)
        if rec is not None and 0 <= ctx.branch_index < len(rec.branches):
            found = {name: list(values) for name, values in (rec.branches[ctx.branch_index].avps or {}).items()}
        if ctx.branch_index >= 0:
            ctx.slots["tm.bavp"] = found
    return found


def _set_bavp(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    if argument is None:
        return
    avps = _branch_avps(ctx)
    values = avps.setdefault(argument, [])
    if value is None:
        if index == "*":
            values.clear()
        elif values:
            values.pop()
    elif index == "append":
        values.insert(0, value)
    elif isinstance(index, int) and 0 <= index < len(values):
        values[-1 - index] = value
    else:
        values.append(value)
    if not values:
        del avps[argument]


@module.variable("bavp", argument="required", write=_set_bavp)
def _bavp(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """AVP of the current branch: set in a branch route, seen in the onreply routes of that branch."""
    values = _branch_avps(ctx).get(argument or "")
    if not values:
        return None
    if index == "*":
        return ", ".join(str(value) for value in reversed(values))
    at = index if isinstance(index, int) else 0
    if at < 0:
        at += len(values)
    return values[-1 - at] if 0 <= at < len(values) else None
