"""check_address(), check_source_address(), get_source_group(), and the management of addresses."""

from __future__ import annotations

import socket
from typing import Annotated, Any

from opensips_py import db
from opensips_py.db.reloaded import reload
from opensips_py.mi.dispatcher import Later
from opensips_py.modules.permissions.addresses import MATCH, NO_MATCH, Address, Addresses, Asked, is_address, is_protocol
from opensips_py.modules.permissions.declared import DEFAULT, Partition, module, partitions
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, L, MIError, R, S, T, V, Var
from opensips_py.server.log import ERROR, log


def _partition_fault(name: str, registry: Any) -> str | None:
    return None if name in partitions else f"invoked partition <{name}> not defined"


def _protocol_fault(proto: str, registry: Any) -> str | None:
    return None if is_protocol(proto) else f"unknown protocol <{proto}>"


def _address_fault(ip: str, registry: Any) -> str | None:
    return None if is_address(ip) else f"[{ip}] is not an IP address"


PartitionName = Annotated[str, "str", _partition_fault]
ProtocolName = Annotated[str, "str", _protocol_fault]
AddressText = Annotated[str, "str", _address_fault]


@module.function(routes=R | F | L | B | S | T | V)
def check_address(
    ctx: Context,
    group: int,
    ip: AddressText,
    port: int,
    proto: ProtocolName,
    info: Var | None = None,
    pattern: str | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Whether an address is in a group (0: in any). Port 0 and protocol ``any`` stand for all, here and in the table.

    1 yes, and ``info`` gets the row's information; -1 no; -2 there is no such group. ``pattern`` is compared with the row's
    shell pattern, if both are given.
    """
    if not is_protocol(proto):
        log(ERROR, "permissions", "check_address", f"unknown protocol {proto!r}")
        return NO_MATCH
    return _checked(ctx, "check_address", Asked(group, ip, port, proto.lower(), pattern), info, partition)


@module.function(routes=R | F | L | B)
def check_source_address(
    ctx: Context, group: int, info: Var | None = None, pattern: str | None = None, partition: PartitionName | None = None
) -> int:
    """The same for the address that the message has come from."""
    source = ctx.source
    asked = Asked(group, source.ip, source.port, source.proto, pattern)
    return _checked(ctx, "check_source_address", asked, info, partition)


def _checked(ctx: Context, function: str, asked: Asked, info: Var | None, partition: str | None) -> int:
    addresses = _addresses(partition, function)
    if addresses is None:
        return NO_MATCH
    found = addresses.find(asked)
    if not isinstance(found, Address):
        return found
    if info is not None:
        info.set(ctx, found.info)
    return MATCH


@module.function(routes=R | F | L | B)
def get_source_group(ctx: Context, group: Var, partition: PartitionName | None = None) -> int:
    """The group of the address that the message has come from. 1, or -1 when it is in none."""
    addresses = _addresses(partition, "get_source_group")
    source = ctx.source
    found = None if addresses is None else addresses.group_of(Asked(0, source.ip, source.port, source.proto))
    if found is None:
        return -1
    group.set(ctx, found)
    return 1


def _addresses(partition: str | None, function: str) -> Addresses | None:
    found = partitions.get(partition or DEFAULT)
    if found is None:
        log(ERROR, "permissions", function, f"there is no partition {partition or DEFAULT}")
        return None
    return found.addresses.now


# --- management -----------------------------------------------------------------------------------------------------


def _named(name: str) -> Partition:
    found = partitions.get(name)
    if found is None:
        raise MIError(404, "No such partition")
    return found


@module.mi("address_reload", (), ("partition",))
def mi_address_reload(partition: str | None = None) -> Later:
    """Read the addresses of one partition, or of all, again. What cannot be read stays as it is."""
    chosen = list(partitions.values()) if partition is None else [_named(partition)]
    if not chosen:
        raise MIError(500, "No partitions")
    return reload("permissions", [(each.addresses, db.open(each.url), each.rows) for each in chosen])


@module.mi("address_dump", (), ("partition",))
def mi_address_dump(partition: str | None = None) -> dict[str, Any]:
    """The single addresses of one partition, or of all."""
    return _dump(partition, False)


@module.mi("subnet_dump", (), ("partition",))
def mi_subnet_dump(partition: str | None = None) -> dict[str, Any]:
    """The networks of one partition, or of all."""
    return _dump(partition, True)


def _dump(partition: str | None, networks: bool) -> dict[str, Any]:
    if partition is not None:
        return {"part": partition, "Destinations": _destinations(_named(partition), networks)}
    return {"Partitions": [{"name": each.name, "Destinations": _destinations(each, networks)} for each in partitions.values()]}


def _destinations(partition: Partition, networks: bool) -> list[dict[str, Any]]:
    return [_shown(row) for row in partition.addresses.now.rows if (row.length < _bits(row)) == networks]


def _bits(row: Address) -> int:
    return 128 if ":" in row.ip else 32


def _shown(row: Address) -> dict[str, Any]:
    bits = _bits(row)
    mask = str(row.length)
    if row.length < bits:
        mask = _written(((1 << row.length) - 1) << (bits - row.length), bits)
    return {
        "grp": row.group,
        "ip": _written(_value(row.ip), bits),
        "mask": mask,
        "port": row.port,
        "proto": row.proto,
        "pattern": row.pattern,
        "context_info": row.info,
    }


def _value(ip: str) -> int:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, ip.strip("[]")), "big")


def _written(value: int, bits: int) -> str:
    """As OpenSIPS writes addresses: nothing is left out of an IPv6 one."""
    if bits == 32:
        return socket.inet_ntop(socket.AF_INET, value.to_bytes(4, "big"))
    return ":".join(f"{(value >> shift) & 0xFFFF:x}" for shift in range(112, -1, -16))
