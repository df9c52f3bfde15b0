"""Management commands of dispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opensips_py import db
from opensips_py.db.reloaded import reload
from opensips_py.dns.rfc3263 import Hop
from opensips_py.mi.dispatcher import Later
from opensips_py.modules.dispatcher import changes, live, script_attrs
from opensips_py.modules.dispatcher.arguments import state_of_word
from opensips_py.modules.dispatcher.asking import at_address
from opensips_py.modules.dispatcher.declared import module
from opensips_py.modules.dispatcher.partitions import DEFAULT, Partition, each, partitions
from opensips_py.modules.dispatcher.sets import Destination, packed_address
from opensips_py.net.destinations import Destinations
from opensips_py.net.resolve import wait_for_destinations
from opensips_py.script.declarations import MIError
from opensips_py.server.process import this


def _named(name: str) -> Partition:
    found = partitions.get(name)
    if found is None:
        raise MIError(404, "No such partition")
    return found


def _locate(hop: Hop) -> Destinations:
    return wait_for_destinations(hop, None, this.sockets[0])


def _group(text: str) -> int:
    digits = text.strip()
    if not (digits.removeprefix("-").isdecimal() and digits.isascii() and len(digits) <= 11):
        raise MIError(400, "Bad group", "group is the number of a set, or partition:number")
    return int(digits)


@module.mi("ds_set_state", ("state", "group", "address"))
def mi_ds_set_state(state: str, group: str, address: str) -> str:
    """Set the state of a destination: ``a`` active, ``i`` inactive, ``p`` probing. ``group``: set, or ``partition:set``."""
    wanted = state_of_word(state) if state.isalpha() else None
    if wanted is None:
        raise MIError(400, "Bad state", "state is a, i or p")
    name, colon, number = group.rpartition(":")
    partition = _named(name if colon else DEFAULT)
    if not changes.change(partition, _group(number), address, changes.to(wanted)):
        raise MIError(404, "Destination not found")
    return "OK"


@module.mi("ds_list", (), ("full",))
def mi_ds_list(full: str | None = None) -> dict[str, Any]:
    """All sets with their destinations; ``full``: weights, priorities and descriptions, too."""
    return {"PARTITIONS": [_partition(one, full is not None) for one in each()]}


def _partition(partition: Partition, full: bool) -> dict[str, Any]:
    shown = [
        {"id": group, "Destinations": list(_destinations(partition, group, destinations, full))}
        for group, destinations in partition.sets.groups.items()
    ]
    return {"name": partition.name, "SETS": shown} if shown else {"name": partition.name}


def _destinations(partition: Partition, group: int, destinations: list[Destination], full: bool) -> Iterator[dict[str, Any]]:
    entry = live.read(partition.name, group)
    for one in destinations:
        shown: dict[str, Any] = {
            "URI": one.uri,
            "state": live.state_of(entry, one).name.capitalize(),
            "first_hit_counter": entry.kept[one.uri].hits if one.uri in entry.kept else 0,
        }
        if full:
            shown |= {"weight": one.weight, "priority": one.priority}
        if one.socket is not None:
            shown["socket"] = f"{one.socket.proto}:{one.socket.host}:{one.socket.port}"
        text = script_attrs.read(partition, one)
        for name, value in (("attr", one.attrs), ("script_attr", text), ("description", one.description if full else "")):
            if value:
                shown[name] = value
        yield shown


@module.mi("ds_reload", (), ("partition",))
def mi_ds_reload(partition: str | None = None) -> Later:
    """Read the table of one partition, or of all, again. States stay as they are; what cannot be read stays wholly."""
    chosen = list(each()) if partition is None else [_named(partition)]
    return reload("dispatcher", [(one.destinations, db.open(one.url), one.rows) for one in chosen])


@module.mi("ds_push_script_attrs", ("attrs", "ip", "port", "set"), ("attrs", "ip", "port", "set", "partition"))
def mi_ds_push_script_attrs(attrs: str, ip: str, port: int, set: int, partition: str = DEFAULT) -> str:
    """Keep a text with the destinations of an address (port 0: any) in a set (-1: in any)."""
    found, packed = _named(partition), packed_address(ip)
    if packed is None or not 0 <= port <= 65535:
        raise MIError(400, "Bad address", "ip is an IP address, port a number up to 65535")
    if len(attrs) > script_attrs.LONGEST:
        raise MIError(400, "Bad attrs", f"attrs has at most {script_attrs.LONGEST} bytes")
    destinations = list(at_address(found, packed, port, set, _locate))
    if not destinations:
        raise MIError(404, "Destination not found")
    script_attrs.put(found, destinations, attrs)
    return "OK"
