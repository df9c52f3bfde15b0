"""do_routing(), route_to_carrier(), route_to_gw(), use_next_gw() and dr_match()."""

from __future__ import annotations

import msgspec

from opensips_py import db
from opensips_py.core.time_recurrence import RecurrenceError, matches
from opensips_py.engine.operation import BUSY, Done, DoneThen
from opensips_py.modules.drouting import arguments, call_avps, declared, selection, states
from opensips_py.modules.drouting.arguments import CHECK, EXACT, FALLBACK, MatchFlags, PartitionName, RoutingFlags
from opensips_py.modules.drouting.call_avps import Asked, Outputs
from opensips_py.modules.drouting.declared import module
from opensips_py.modules.drouting.partitions import Partition, partitions
from opensips_py.modules.drouting.selection import Chosen, Whitelist
from opensips_py.modules.drouting.tables import Matched, Rule, Tables
from opensips_py.script.context import Context, RouteKind
from opensips_py.script.declarations import B, F, L, O, R, Var
from opensips_py.script.semantics import call_deeper
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.uri import Uri, loose_uri

_NO = -1
_YES = 1


# --- rules ----------------------------------------------------------------------------------------------------------


def _now_valid(rule: Rule) -> bool:
    if not rule.timerec:
        return True
    try:
        return matches(rule.timerec, this.clock.wall())
    except (RecurrenceError, OverflowError):  # it was read, at another time
        return False


def first_rule(tables: Tables, group: int, number: str, exact: bool) -> Matched | None:
    """The rule for a number at this time."""
    return next((one for one in tables.matching(group, number, exact=exact) if _now_valid(one.rule)), None)


def _routed(ctx: Context, partition: Partition, asked: Asked, outputs: Outputs) -> int:
    """Aim the request by the rules of a group."""
    number = _number(asked.ruri)
    if number is None:
        return _NO
    tables, avps = partition.tables, partition.avps
    whitelist = Whitelist.of(asked.whitelist)
    tried = list(asked.tried)
    for matched in tables.matching(asked.group, number, exact=EXACT in asked.flags, longest=asked.longest):
        rule = matched.rule
        if rule.id in asked.tried:
            continue
        tried.append(rule.id)
        if not _now_valid(rule):
            continue
        if CHECK in asked.flags:
            call_avps.note_rule(ctx, avps, matched, outputs)
            return _YES
        if rule.route and not _run_hook(ctx, rule):
            return 0
        uri = loose_uri(asked.ruri if asked.tried else ctx.ruri)
        chosen = selection.by_rule(tables, states.current(partition), rule.listed, rule.sort, whitelist)
        if chosen and uri is not None:
            call_avps.note_rule(ctx, avps, matched, outputs)
            if FALLBACK in asked.flags:
                going_on = Asked(asked.group, asked.flags, str(uri), asked.whitelist, matched.length, tried)
                call_avps.note_fallback(ctx, avps, going_on)
            call_avps.aim(ctx, avps, chosen, uri, outputs)
            return _YES
        if FALLBACK not in asked.flags:
            return _NO
    return _NO


def _number(ruri: str) -> str | None:
    uri = loose_uri(ruri)
    return None if uri is None else uri.user


def _run_hook(ctx: Context, rule: Rule) -> bool:
    """Run the route that a rule names; False when nothing may follow, since it has suspended the script."""
    route = this.program.route(RouteKind.REQUEST, rule.route)
    if route is None:
        log(WARNING, "drouting", "do_routing", f"rule {rule.id} names route [{rule.route}], which is not defined")
        return True
    params, dropped = ctx.params, ctx.dropped
    ctx.params = ()
    call_deeper(ctx, route)
    if ctx.suspended:
        log(
            ERROR, "drouting", "do_routing", f"route [{rule.route}] of rule {rule.id} has suspended the script: nothing is routed"
        )
        return False
    ctx.params, ctx.dropped = params, dropped
    return True


# --- do_routing() ---------------------------------------------------------------------------------------------------


class _Kept(msgspec.Struct, array_like=True):
    """What is known of a do_routing() that asks for the group of the caller."""

    flags: str
    whitelist: str | None
    outputs: list[str]
    user: str
    domain: str
    named: str | None
    """The partition as the script names it."""
    left: list[str]
    """Partitions that are to be asked."""
    groups: list[tuple[str, int]]
    """Found so far: partition and group."""


class GroupOfCaller(db.Query):
    """``do_routing()`` without a group: table dr_groups has it."""

    name = "do_routing"
    keeps = _Kept
    kept: _Kept

    def answer(self, result: db.Result) -> Done | db.Statement:
        kept = self.kept
        partition = kept.left.pop(0)
        group = _group(result)
        if group >= 0:
            kept.groups.append((partition, group))
        following = partitions.get(kept.left[0]) if kept.left else None
        if following is not None:
            self.database = following.database
            return _group_statement(following, kept.user, kept.domain)
        if not kept.groups:
            log(ERROR, "drouting", self.name, f"caller {kept.user} has no group; default_group could give one")
            return Done(_NO)
        return DoneThen.of(lambda ctx: _with_groups(ctx, kept))

    def failed(self, done: Done) -> Done:
        return Done(_NO) if done.rc == BUSY else done


def _group_statement(partition: Partition, user: str, domain: str) -> db.Statement:
    where = {declared.drg_user_col.value: user}
    if declared.use_domain.value:
        where[declared.drg_domain_col.value] = domain
    return db.select([declared.drg_grpid_col.value], partition.groups, where, limit=1)


def _group(result: db.Result) -> int:
    """-1: none."""
    if not result.rows:
        return declared.default_group.value
    text = str(result.rows[0][0])
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1


def _with_groups(ctx: Context, kept: _Kept) -> int:
    outputs = Outputs.by_text(kept.outputs)
    found = [(partitions[name], group) for name, group in kept.groups if name in partitions]
    return _first_routed(ctx, found, kept.named, kept.flags, kept.whitelist, outputs)


def _first_routed(
    ctx: Context,
    choices: list[tuple[Partition, int]],
    named: str | None,
    flags: str,
    whitelist: str | None,
    outputs: Outputs,
) -> int:
    """Route by the first partition that has a rule."""
    for partition, _ in choices:
        (call_avps.clear_rule if CHECK in flags else call_avps.clear)(ctx, partition.avps)
    for partition, group in choices:
        code = _routed(ctx, partition, Asked(group, flags, ctx.ruri, whitelist), outputs)
        if code != _NO:
            arguments.note_partition(ctx, named, partition)
            return code
    return _NO


@module.operation(routes=R | F | B | L)
def do_routing(
    ctx: Context,
    group: int | None = None,
    flags: RoutingFlags | None = None,
    whitelist: str | None = None,
    rule_attrs: Var | None = None,
    gw_attrs: Var | None = None,
    carrier_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> GroupOfCaller | int:
    """Find the rule for the number in the R-URI, with the longest prefix and the highest priority, and aim the request at its
    first gateway that works.

    Without ``group`` the database is asked for that of the caller, in one operation. Flags: F further rules follow when the
    gateways of the first have failed, L the prefix is the whole number, C only see whether there is a rule. ``whitelist``
    (``g1,#c1``): only to these gateways and carriers. The variables get attributes. 1, or -1 when there is no rule or none of its
    gateways works.
    """
    outputs = Outputs(rule_attrs, gw_attrs, carrier_attrs)
    found = arguments.chosen(partition, "do_routing", every=True)
    if not found or not _number(ctx.ruri):
        return _NO
    if group is not None:
        return _first_routed(ctx, [(one, group) for one in found], partition, flags or "", whitelist, outputs)
    address = ctx.msg.from_
    caller = None if address is None else loose_uri(address.uri)
    if caller is None or not caller.user:
        log(ERROR, "drouting", "do_routing", "From has no user, so there is no group")
        return _NO
    names = [one.name for one in found]
    kept = _Kept(flags or "", whitelist, outputs.texts(), caller.user, caller.host or "", partition, names, [])
    return GroupOfCaller(found[0].database, _group_statement(found[0], kept.user, kept.domain), kept)


# --- further functions ----------------------------------------------------------------------------------------------


def _directly(ctx: Context, partition: Partition, chosen: list[Chosen], outputs: Outputs) -> int:
    uri = _target(ctx)
    call_avps.clear(ctx, partition.avps)
    if not chosen or uri is None:
        return _NO
    call_avps.aim(ctx, partition.avps, chosen, uri, outputs)
    return _YES


def _target(ctx: Context) -> Uri | None:
    return loose_uri(ctx.ruri)


@module.function(routes=R | F | B | L)
def route_to_carrier(
    ctx: Context,
    carrier: str,
    gw_attrs: Var | None = None,
    carrier_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Aim the request at the gateways of a carrier, without a rule. 1, or -1 when it is unknown, disabled, or none works."""
    found = arguments.chosen(partition, "route_to_carrier")
    if not found:
        return _NO
    one = found[0].tables.carriers.get(carrier.strip())
    if one is None:
        log(ERROR, "drouting", "route_to_carrier", f"there is no carrier {carrier!r:.100}")
    chosen = [] if one is None else selection.by_carrier(found[0].tables, states.current(found[0]), one)
    return _directly(ctx, found[0], chosen, Outputs(None, gw_attrs, carrier_attrs))


@module.function(routes=R | F | B | L)
def route_to_gw(ctx: Context, gateways: str, gw_attrs: Var | None = None, partition: PartitionName | None = None) -> int:
    """Aim the request at gateways by their ids, ``"g1,g2"``, whether they work or not. 1, or -1 when none is known."""
    found = arguments.chosen(partition, "route_to_gw")
    if not found:
        return _NO
    chosen = []
    for name in filter(None, (piece.strip() for piece in gateways.split(","))):
        gateway = found[0].tables.gateways.get(name)
        if gateway is None:
            log(ERROR, "drouting", "route_to_gw", f"there is no gateway {name!r:.100}")
        else:
            chosen.append(Chosen(gateway, None))
    return _directly(ctx, found[0], chosen, Outputs(None, gw_attrs))


@module.function(routes=R | F | B | L)
def use_next_gw(
    ctx: Context,
    rule_attrs: Var | None = None,
    gw_attrs: Var | None = None,
    carrier_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Aim the request at the next gateway of those that do_routing() or route_to_carrier() has found. 1, or -1: there is none.

    Gateways that have been disabled since, or removed from the table, are passed over. It sends nothing.
    """
    outputs = Outputs(rule_attrs, gw_attrs, carrier_attrs)
    found = arguments.chosen(partition, "use_next_gw")
    if not found:
        return _NO
    avps, tables, down = found[0].avps, found[0].tables, states.current(found[0]).gateways
    if call_avps.aim_at_next(ctx, avps, lambda name: name in tables.gateways and name not in down, outputs):
        return _YES
    asked = call_avps.take_fallback(ctx, avps)
    return _NO if asked is None else max(_routed(ctx, found[0], asked, outputs), _NO)


@module.function(routes=R | F | O | B | L)
def dr_match(
    ctx: Context,
    group: int,
    flags: MatchFlags | None,
    number: str,
    rule_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Whether there is a rule for a number; flag L: with the whole number as prefix. 1, or -1. Nothing is routed."""
    for one in arguments.chosen(partition, "dr_match", every=True):
        call_avps.clear_rule(ctx, one.avps)
        matched = first_rule(one.tables, group, number, EXACT in (flags or ""))
        if matched is not None:
            call_avps.note_rule(ctx, one.avps, matched, Outputs(rule_attrs))
            arguments.note_partition(ctx, partition, one)
            return _YES
    return _NO
