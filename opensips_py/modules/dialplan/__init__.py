"""OpenSIPS module dialplan: translating numbers and other strings by rules that are kept in a database."""

from __future__ import annotations

from typing import Any

from opensips_py import db
from opensips_py.core import reload
from opensips_py.engine.dummy_request import report_context
from opensips_py.mi.dispatcher import Later
from opensips_py.modules.dialplan import partitions
from opensips_py.modules.dialplan.declared import module
from opensips_py.modules.dialplan.partitions import DEFAULT, LoadError, Partition
from opensips_py.modules.dialplan.rules import Row
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, L, MIError, R, S, T, V, Var
from opensips_py.server.log import ERROR, log

__all__ = ["module"]

module.on_config(partitions.configure)


def _forget() -> None:
    """The script's routes have changed: variables in replacements are compiled anew."""
    for partition in partitions.partitions.values():
        partition.rules = None


@module.on_process
def _start() -> None:
    if _forget not in reload.changed:
        reload.changed.append(_forget)


@module.function(routes=R | F | L | B | S | T | V)
def dp_translate(
    ctx: Context, dpid: int, text: str, output: Var | None = None, attributes: Var | None = None, partition: str | None = None
) -> int:
    """Translate a string by the first rule of ``dpid`` that fits, the lowest priority number first.

    ``output`` gets the translation, ``attributes`` the rule's attributes. 1 translated, -1 no rule fits, or error.
    """
    where = partitions.partitions.get(partition or DEFAULT)
    if where is None:
        log(ERROR, "dialplan", "dp_translate", f"there is no partition {partition or DEFAULT}")
        return -1
    rule = partitions.rules(where).find(dpid, text) if text else None
    if rule is None:
        return -1
    result = rule.translate(ctx, text)
    if result is None:
        row = rule.row
        log(ERROR, "dialplan", "dp_translate", f"{text!r} matches {row.match_exp!r} but not the subst_exp {row.subst_exp!r}")
        return -1
    if output is not None:
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
    later = Later()
    loaded: list[tuple[Partition, list[Row]]] = []

    def read_next() -> None:
        if len(loaded) < len(chosen):
            each = chosen[len(loaded)]
            db.ask(db.open(each.db_url), partitions.selection(each), lambda result: read(each, result))
            return
        for each, rows in loaded:
            partitions.publish(each, rows)
        later.done("OK")

    def read(each: Partition, result: db.Result | None) -> None:
        try:
            if result is None:
                raise LoadError(f"partition {each.name}: table {each.table} cannot be read; the log says why")
            loaded.append((each, partitions.rows_of(each, result)))
        except LoadError as error:
            later.failed(MIError(500, "Failed to reload", str(error)))
        else:
            read_next()

    read_next()
    return later


@module.mi("dp_translate", ("dpid", "input"), ("dpid", "input", "partition"))
def mi_dp_translate(dpid: int, input: str, partition: str = DEFAULT) -> dict[str, str]:
    """What dp_translate() makes of a string."""
    where = _named(partition)
    if not input:
        raise MIError(404, "Empty input parameter")
    rules = partitions.rules(where)
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
    return {"Partitions": [_shown(each) for each in partitions.partitions.values()]}


def _shown(partition: Partition) -> dict[str, str]:
    return {"Partition": partition.name, "table": partition.table, "db_url": db.open(partition.db_url).name}
