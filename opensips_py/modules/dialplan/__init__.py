"""OpenSIPS module dialplan: translating numbers and other strings by rules that are kept in a database."""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py import db
from opensips_py.core import reload
from opensips_py.db.reloaded import reload as reload_tables
from opensips_py.engine.dummy_request import report_context
from opensips_py.mi.dispatcher import Later
from opensips_py.modules.dialplan import partitions
from opensips_py.modules.dialplan.declared import module
from opensips_py.modules.dialplan.partitions import DEFAULT, Partition
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, L, MIError, R, S, T, V, Var
from opensips_py.server.log import ERROR, log

__all__ = ["module"]

module.on_config(partitions.configure)


def _partition_fault(name: str, registry: Any) -> str | None:
    return None if name in partitions.names() else f"partition <{name}> not found"


PartitionName = Annotated[str, "str", _partition_fault]


def _forget() -> None:
    """The script's routes have changed: variables in replacements are compiled anew."""
    for partition in partitions.partitions.values():
        partition.rules.make_again()


@module.on_process
def _start() -> None:
    if _forget not in reload.changed:
        reload.changed.append(_forget)


@module.function(routes=R | F | L | B | S | T | V)
def dp_translate(
    ctx: Context,
    dpid: int,
    text: str,
    output: Var | None = None,
    attributes: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Translate a string by the first rule of ``dpid`` that fits, the lowest priority number first.

    ``output`` gets the translation, unless the rule has no replacement; ``attributes`` the rule's attributes. 1 translated,
    -1 no rule fits, or error.
    """
    where = partitions.partitions.get(partition or DEFAULT)
    if where is None:
        log(ERROR, "dialplan", "dp_translate", f"there is no partition {partition or DEFAULT}")
        return -1
    rule = where.rules.now.find(dpid, text) if text else None
    if rule is None:
        return -1
    result = rule.translate(ctx, text)
    if result is None:
        row = rule.row
        log(ERROR, "dialplan", "dp_translate", f"{text!r} matches {row.match_exp!r} but not the subst_exp {row.subst_exp!r}")
        return -1
    if output is not None and rule.parts is not None:
        output.set(ctx, result)
    if attributes is not None:
        attributes.set(ctx, rule.row.attrs)
    return 1


# --- management -----------------------------------------------------------------------------------------------------


def _named(name: str) -> Partition:
    found = partitions.partitions.get(name)
    if found is None:
        raise MIError(400, "Partition not found")
    return found


@module.mi("dp_reload", (), ("partition",))
def mi_dp_reload(partition: str | None = None) -> Later:
    """Read the rules of one partition, or of all, from the database again. What cannot be read stays as it is."""
    chosen = list(partitions.partitions.values()) if partition is None else [_named(partition)]
    return reload_tables("dialplan", [(each.rules, db.open(each.db_url), each.statement) for each in chosen])


@module.mi("dp_translate", ("dpid", "input"), ("dpid", "input", "partition"))
def mi_dp_translate(dpid: int, input: str, partition: str = DEFAULT) -> dict[str, str]:
    """What dp_translate() makes of a string."""
    where = _named(partition)
    if not input:
        raise MIError(404, "Empty input parameter")
    rules = where.rules.now
    if dpid not in rules:
        raise MIError(404, "No information available for dpid")
    rule = rules.find(dpid, input)
    result = None if rule is None else rule.translate(report_context(), input)
    if rule is None or result is None:
        raise MIError(404, "No translation")
    return {"Output": result, "ATTRIBUTES": rule.row.attrs}


@module.mi("dp_show_partition", (), ("partition",))
def mi_dp_show_partition(partition: str | None = None) -> dict[str, Any]:
    """Table and database of one partition, or of all."""
    if partition is not None:
        return _shown(_named(partition))
    return {"Partitions": [_shown(each, "name") for each in partitions.partitions.values()]}


def _shown(partition: Partition, title: str = "Partition") -> dict[str, str]:
    url = db.open(partition.db_url).name
    shown = url if "@" in url else url.replace("://", "://@", 1)  # as OpenSIPS writes one without a user
    return {title: partition.name, "table": partition.table, "db_url": shown}
