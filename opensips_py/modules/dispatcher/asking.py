"""ds_is_in_list(), ds_count(), and the texts that scripts keep with destinations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from opensips_py.dns.rfc3263 import Hop
from opensips_py.modules.dispatcher import live, loads, script_attrs
from opensips_py.modules.dispatcher.arguments import PartitionName, StateFilter, named, states_of
from opensips_py.modules.dispatcher.declared import module
from opensips_py.modules.dispatcher.failover import Chosen, show_attrs
from opensips_py.modules.dispatcher.partitions import Partition
from opensips_py.modules.dispatcher.sets import Destination, State, packed_address
from opensips_py.net.destinations import Destinations
from opensips_py.net.resolve import destinations_of
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, B, F, L, O, R, T, V, Var
from opensips_py.server.log import ERROR, log

ANY_SET = -1


Locate = Callable[[Hop], Destinations]


def at_address(partition: Partition, ip: bytes, port: int, group: int, locate: Locate) -> Iterator[Destination]:
    """Destinations with this address, and port unless that is 0; of one set, or of any (-1).

    Those that have a name come last: only for them the DNS is asked.
    """
    sets = partition.sets
    yield from (one for one in sets.at(ip, port) if group in (ANY_SET, one.group))
    for one in sets.named:
        if group in (ANY_SET, one.group):
            found = locate(one.hop)
            if any(port in (0, target.port) and packed_address(target.ip) == ip for target in found):
                yield one


def _locate(ctx: Context) -> Locate:
    """Ask the DNS while others are served."""
    return lambda hop: destinations_of(ctx, hop, None)


def _packed(function: str, ip: str, port: int) -> bytes | None:
    packed = packed_address(ip)
    if packed is None or not 0 <= port <= 65535:
        log(ERROR, "dispatcher", function, f"[{ip[:100]}], {port} is no IP address with a port")
        return None
    return packed


@module.function(routes=R | F | O | B | L)
def ds_is_in_list(
    ctx: Context,
    ip: str,
    port: int,
    set: int | None = None,
    partition: PartitionName | None = None,
    active_only: int | None = None,
) -> int:
    """Whether an address is that of a destination. Port 0: any.

    Without a set, or with -1, all are looked at, and `setid_pvar` gets the one that has it. ``active_only``: 1, only active
    destinations count. `attrs_avp` gets the attributes of the destination. One with a name is looked up in the DNS. 1, or -1.
    """
    found = named(partition, "ds_is_in_list")
    packed = _packed("ds_is_in_list", ip, port)
    if found is None or packed is None:
        return -1
    group = ANY_SET if set is None else set
    for one in at_address(found, packed, port, group, _locate(ctx)):
        if active_only and live.state_of(live.read(found.name, one.group), one) != State.ACTIVE:
            continue
        if group == ANY_SET:
            loads.note_set(ctx, one.group)
        show_attrs(ctx, found, Chosen(one, *script_attrs.of(found, [one])))
        return 1
    return -1


@module.function(routes=R | F | B | L | T | V)
def ds_count(ctx: Context, set: int, states: StateFilter, result: Var, partition: PartitionName | None = None) -> int:
    """How many destinations of a set are in one of these states: ``a`` active, ``i`` inactive, ``p`` probing, or several of them.

    1, or -1 when there is no such set.
    """
    found = named(partition, "ds_count")
    destinations = None if found is None else found.sets.groups.get(set)
    wanted = states_of(states)
    if found is None or destinations is None or not wanted:
        if not wanted:
            log(ERROR, "dispatcher", "ds_count", f"[{states[:50]}] is no row of states: write a, i, p, or several of them")
        return -1
    entry = live.read(found.name, set)
    result.set(ctx, sum(live.state_of(entry, one) in wanted for one in destinations))
    return 1


@module.function(routes=ALL)
def ds_push_script_attrs(
    ctx: Context, attrs: str, ip: str, port: int, set: int | None = None, partition: PartitionName | None = None
) -> int:
    """Keep a text with the destinations of an address (port 0: any), of one set or of all.

    `script_attrs_avp` gets it when such a destination is chosen. 1, or -1 when none has the address.
    """
    found = named(partition, "ds_push_script_attrs")
    packed = _packed("ds_push_script_attrs", ip, port)
    if found is None or packed is None:
        return -1
    if len(attrs) > script_attrs.LONGEST:
        log(ERROR, "dispatcher", "ds_push_script_attrs", f"the text is longer than {script_attrs.LONGEST} bytes")
        return -1
    group = ANY_SET if set is None else set
    destinations = list(at_address(found, packed, port, group, _locate(ctx)))
    script_attrs.put(found, destinations, attrs)
    return 1 if destinations else -1


@module.function(routes=ALL)
def ds_get_script_attrs(ctx: Context, uri: str, set: int, partition: PartitionName | None, attrs: Var) -> int:
    """Read the text that ds_push_script_attrs() has set for a destination. 1, or -1 when there is none."""
    found = named(partition, "ds_get_script_attrs")
    destination = None if found is None else found.sets.find(set, uri)
    text = "" if found is None or destination is None else script_attrs.read(found, destination)
    if not text:
        return -1
    attrs.set(ctx, text)
    return 1
