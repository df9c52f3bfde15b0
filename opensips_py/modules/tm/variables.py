"""The variables of module tm."""

from __future__ import annotations

from opensips_py.modules.tm.declared import fr_inv_timeout, fr_timeout, module
from opensips_py.modules.tm.functions import change_record, reply_code
from opensips_py.script.context import Context, RouteKind, Value, ValueRefused
from opensips_py.script.pseudo_variables_storage import stored
from opensips_py.script.variable_kinds import Number
from opensips_py.tm.settings import settings
from opensips_py.tm.transaction import look


@module.variable("T_branch_idx")
def _branch_index(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Number of the branch that a branch or onreply route runs for; NULL in other routes."""
    return max(0, ctx.branch_index) if ctx.route_kind in (RouteKind.BRANCH, RouteKind.ONREPLY) else None


@module.variable("T_reply_code")
def _code(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """The status that this route is about: received, winning, or last sent; 0 when there is none."""
    return reply_code(ctx)


@module.variable("T_ruri")
def _branch_ruri(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """R-URI of the current branch, of the first one where no branch is current; without a transaction that of the request."""
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None:
        return ctx.ruri if ctx.msg.is_request else None
    n = max(0, ctx.branch_index)
    return rec.branches[n].uri if n < len(rec.branches) else None


@module.variable("T_id")
def _id(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Name of the transaction; NULL without one."""
    return None if ctx.tx is None else ctx.tx.key[1:].hex()


def _seconds(value: float) -> int | str:
    if value != int(value):
        return str(value)
    return int(value) if value >= 0 else Number(int(value), str(int(value) + 2**64))  # OpenSIPS prints it without its sign


def _timeout(value: Value, default: int) -> float:
    """Seconds to be set."""
    if value is None:
        return float(default)
    if not isinstance(value, int):
        raise ValueRefused("a number of seconds is expected")
    return float(int(value))


def _set_fr(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    seconds = _timeout(value, fr_timeout.value)
    ctx.slots["tm.fr"] = seconds
    change_record(ctx, lambda rec: setattr(rec, "fr", seconds))


def _set_fr_inv(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    seconds = _timeout(value, fr_inv_timeout.value)
    ctx.slots["tm.fr_inv"] = seconds
    change_record(ctx, lambda rec: setattr(rec, "fr_inv", seconds))


@module.variable("T_fr_timeout", write=_set_fr)
def _fr(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """fr_timeout of this transaction, in seconds; 0 in startup_route. NULL sets the default."""
    if ctx.route_kind is RouteKind.STARTUP:
        return 0
    rec = None if ctx.tx is None else look(ctx.tx)
    return _seconds(ctx.slots.get("tm.fr", settings.fr_timeout) if rec is None else rec.fr)


@module.variable("T_fr_inv_timeout", write=_set_fr_inv)
def _fr_inv(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """fr_inv_timeout of this transaction, in seconds; 0 in startup_route. NULL sets the default."""
    if ctx.route_kind is RouteKind.STARTUP:
        return 0
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
    if argument is None or ctx.branch_index < 0:
        raise ValueRefused("$bavp belongs to a branch, and this route runs for none")
    avps = _branch_avps(ctx)
    values = avps.setdefault(argument, [])
    if value is None:
        at = index if isinstance(index, int) else 0
        if index == "*":
            values.clear()
        elif 0 <= at < len(values):
            del values[-1 - at]
    elif index == "append":
        values.insert(0, stored(value))
    elif isinstance(index, int) and 0 <= index < len(values):
        values[-1 - index] = stored(value)
    else:
        values.append(stored(value))
    if not values:
        del avps[argument]


def _assign_bavp(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    """``:=`` replaces all values."""
    _branch_avps(ctx).pop(argument or "", None)
    _set_bavp(ctx, argument, None, value)


@module.variable("bavp", argument="required", write=_set_bavp, assign=_assign_bavp)
def _bavp(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """AVP of the current branch: set in a branch route, seen in the onreply routes of that branch and in a failure route that it
    has won. NULL in other routes."""
    values = _branch_avps(ctx).get(argument or "")
    if not values:
        return None
    if index == "*":
        return ", ".join(str(value) for value in reversed(values))
    at = index if isinstance(index, int) else 0
    if at < 0:
        at += len(values)
    return values[-1 - at] if 0 <= at < len(values) else None
