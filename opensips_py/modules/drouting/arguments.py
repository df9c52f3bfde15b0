"""Arguments of the functions of drouting, as the checker looks at them."""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py.modules.drouting import declared, partitions
from opensips_py.modules.drouting.partitions import Partition
from opensips_py.script import variables
from opensips_py.script.context import Context
from opensips_py.script.declarations import Doubt
from opensips_py.server.log import ERROR, log

FALLBACK, EXACT, CHECK = "F", "L", "C"
STRIP, PREFIX, ID, NO_PORT, CARRIER, PROTO = "s", "p", "i", "n", "c", "r"


def _partition_fault(text: str, registry: Any) -> str | None:
    if declared.use_partitions.value:
        return None
    return "there are no partitions: set use_partitions, or leave the argument out"


def _unknown(text: str, known: str) -> str | None:
    unknown = [flag for flag in text if flag not in known and not flag.isspace()]
    return Doubt(f"unknown flag '{unknown[0]}' has no effect: there are {', '.join(known)}") if unknown else None


def _routing_flags_fault(text: str, registry: Any) -> str | None:
    if "W" in text:
        return Doubt("flag W has no effect: which rules are sorted by weight says their column sort_alg")
    return _unknown(text, FALLBACK + EXACT + CHECK)


def _match_flags_fault(text: str, registry: Any) -> str | None:
    return _unknown(text, EXACT)


def _gateway_flags_fault(text: str, registry: Any) -> str | None:
    return _unknown(text, STRIP + PREFIX + ID + NO_PORT + CARRIER + PROTO)


PartitionName = Annotated[str, "str", _partition_fault]
RoutingFlags = Annotated[str, "str", _routing_flags_fault]
MatchFlags = Annotated[str, "str", _match_flags_fault]
GatewayFlags = Annotated[str, "str", _gateway_flags_fault]


def chosen(name: str | None, function: str, *, every: bool = False) -> list[Partition]:
    """The partitions that a script names; empty, and a line in the log, when there are none. ``every``: ``*`` is allowed."""
    if name == partitions.EVERY and not every:
        log(ERROR, "drouting", function, "the partition must be named: * is not possible here")
        return []
    found = partitions.find(name)
    if not found:
        what = "name a partition" if name is None else f"there is no partition {name!r:.100}"
        log(ERROR, "drouting", function, what)
    return found


def note_partition(ctx: Context, name: str | None, partition: Partition) -> None:
    """Tell the script to which partition ``*`` has led."""
    text = declared.partition_id_pvar.value
    if text and name == partitions.EVERY:
        variables.by_text(text).set(ctx, partition.name)
