"""Statistics for scripts (OpenSIPS module statistics): count, reset, read and walk through them.

Those of the parameter ``variable`` are in group ``script``. ``update_stat`` on a name that does not exist makes the statistic,
in group ``dynamic`` or in the group before the colon, which must be listed in ``stat_groups``.
"""

from __future__ import annotations

import re

from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, ConfigError, LooseInt, Module, Statistic, Var
from opensips_py.server.log import ERROR, log
from opensips_py.server.statistics import DYNAMIC, SCRIPT, StatisticError, registry

module = Module("statistics", doc="Statistics defined by the script (OpenSIPS module statistics)")

_NONE: list[str] = []
variable = module.param(
    "variable", str, _NONE, multiple=True, doc='statistic that exists from the start; "name/no_reset" protects it from resetting'
)
stat_groups = module.param("stat_groups", str, "", doc='groups that the script may use, separated by commas: "method, packet"')

_NUMBER = re.compile("[+-]?[0-9]{1,10}")
"""What a counter of 64 bits takes for many years."""
_groups: set[str] = {DYNAMIC}
_iterators: dict[str, list[Statistic]] = {}
_counted: dict[str, Statistic] = {}
"""Statistics that the script has named so far: saves the search."""


@module.on_check
@module.on_config
def declare() -> None:
    """Make the statistics of ``variable`` and take over ``stat_groups``."""
    _groups.update(group for part in stat_groups.value.split(",") if (group := part.strip()))
    for text in variable.value:
        name, *flags = text.split("/")
        name = name.strip()
        for flag in flags:
            if flag.strip() != "no_reset":
                raise ConfigError(f'variable "{text}": unknown flag "{flag}"; the only one is no_reset')
        group, colon, short = name.rpartition(":")
        if not short:
            raise ConfigError(f'variable "{text}": a name is missing')
        if colon and group not in _groups:
            raise ConfigError(f'variable "{text}": add "{group}" to stat_groups')
        stat = Statistic(short, group or SCRIPT, "defined by the script", no_reset=bool(flags))
        module.statistics[f"{stat.group}:{short}"] = stat


@module.function(routes=ALL)
def update_stat(ctx: Context, variable: str, value: LooseInt) -> int:
    """Add ``value`` to a statistic, which is made if there is none; -1: that cannot be."""
    if not variable:
        return 1
    stat = _counted.get(variable)
    if stat is None:
        try:
            stat = _named(variable)
        except StatisticError as error:
            log(ERROR, "statistics", "update_stat", str(error))
            return -1
    stat.cells[stat.index] += value
    return 1


def _named(name: str) -> Statistic:
    stat = registry.find(name)
    if stat is None:
        group = name.partition(":")[0] if ":" in name else DYNAMIC
        if group not in _groups:
            raise StatisticError(f'"{name}": group "{group}" is not in the parameter stat_groups')
        stat = registry.made_by_script(name)
    if stat.gauge is not None:
        raise StatisticError(f'"{name}" is computed by the server and cannot be updated')
    _counted[name] = stat
    return stat


@module.function(routes=ALL)
def reset_stat(ctx: Context, variable: str) -> int:
    """Set a statistic to zero; one that is not there is made. 1 always: one that cannot be reset stays as it is."""
    stat = registry.find(variable)
    if stat is not None:
        registry.reset(stat)
    elif variable:
        try:
            _named(variable)
        except StatisticError as error:
            log(ERROR, "statistics", "reset_stat", str(error))
    return 1


@module.function(routes=ALL)
def stat_iter_init(ctx: Context, group: str, iter: str) -> int:
    """Let the iterator named ``iter`` begin with the first statistic of ``group``; -1: no such group."""
    found = registry.group(group)
    _iterators[iter] = found[::-1]
    return 1 if found or group in _groups else -1


@module.function(routes=ALL)
def stat_iter_next(ctx: Context, name: Var, val: Var, iter: str) -> int:
    """Store name and value of the iterator's next statistic; -1 at the end, or when it was not initialised."""
    left = _iterators.get(iter)
    if not left:
        return -1
    stat = left.pop()
    name.set(ctx, stat.name)
    val.set(ctx, _as_int(registry.value(stat)))
    return 1


def _as_int(value: int) -> int:
    """A script's integers have 32 bits (OpenSIPS int)."""
    return (value + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def _write(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    if value != 0:
        log(ERROR, "statistics", "$stat", f"$stat({argument}) can only be set to 0, which resets it")
        return
    reset_stat(ctx, argument or "")


@module.variable("stat", argument="required", write=_write)
def stat(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Value of a statistic, ``name`` or ``group:name``, over all processes; NULL when there is none. 0 resets it."""
    found = registry.find(argument or "")
    return None if found is None else _as_int(registry.value(found))
