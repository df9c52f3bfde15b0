"""The destinations that remain for a request, in AVPs of its partition; ds_next_dst(), ds_next_domain(), ds_mark_dst().

The one in use is the first value of each AVP, as scripts see them. AVPs go with the transaction, so any process can go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from opensips_py.core.functions_network import socket_named
from opensips_py.core.functions_uri import sethostport
from opensips_py.modules.dispatcher import changes
from opensips_py.modules.dispatcher.arguments import PartitionName, StateName, named, state_of_word
from opensips_py.modules.dispatcher.declared import module
from opensips_py.modules.dispatcher.partitions import Partition
from opensips_py.modules.dispatcher.sets import Destination, State
from opensips_py.net.destinations import hop_of_uri
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import F, R
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.sip.uri import uri_or_none


class Chosen(NamedTuple):
    """A destination for a request."""

    destination: Destination
    script_attrs: str

    @property
    def socket(self) -> str:
        sock = self.destination.socket
        return "" if sock is None else f"{sock.proto}:{f'[{sock.host}]' if ':' in sock.host else sock.host}:{sock.port}"


def keep(ctx: Context, partition: Partition, chosen: Sequence[Chosen], *, append: bool) -> None:
    """Keep destinations for ds_next_dst(), the first one being in use; ``append``: before those that are there."""
    names = partition.avps
    columns: dict[str, list[str | int]] = {
        "dst_avp": [one.destination.uri for one in chosen],
        "grp_avp": [one.destination.group for one in chosen],
        "sock_avp": [one.socket for one in chosen],
        "attrs_avp": [one.destination.attrs for one in chosen],
        "script_attrs_avp": [one.script_attrs for one in chosen],
    }
    remaining = len(ctx.avps.get(names["dst_avp"], ())) if append else 0
    for parameter, values in columns.items():
        if names[parameter]:
            ctx.avps[names[parameter]] = ctx.avps.get(names[parameter], [])[:remaining] + values[::-1]
    ctx.avps[names["cnt_avp"]] = [len(ctx.avps[names["dst_avp"]])]


def show_attrs(ctx: Context, partition: Partition, chosen: Chosen) -> None:
    """Let the script see the attributes of a destination that is not kept, before those of the ones that are."""
    remaining = len(ctx.avps.get(partition.avps["dst_avp"], ()))
    for parameter, value in (("attrs_avp", chosen.destination.attrs), ("script_attrs_avp", chosen.script_attrs)):
        name = partition.avps[parameter]
        if name:
            values = ctx.avps.get(name, [])[:remaining] + ([value] if value else [])
            if values:
                ctx.avps[name] = values
            else:
                ctx.avps.pop(name, None)


class Current(NamedTuple):
    """The destination in use, as the AVPs have it."""

    uri: str
    group: Value
    socket: str


def current(ctx: Context, partition: Partition) -> Current | None:
    """The destination in use; None: there is no list."""

    def top(parameter: str) -> Value:
        values = ctx.avps.get(partition.avps[parameter])
        return values[-1] if values else None

    uri = top("dst_avp")
    return None if uri is None else Current(str(uri), top("grp_avp"), str(top("sock_avp") or ""))


def _next(ctx: Context, partition: Partition) -> Current | None:
    """Go over to the next destination; None when there is none, and what was kept is gone then."""
    names = partition.avps
    remaining = max(0, len(ctx.avps.get(names["dst_avp"], ())) - 1)
    for parameter in ("dst_avp", "grp_avp", "sock_avp", "attrs_avp", "script_attrs_avp"):
        values = ctx.avps.get(names[parameter])
        if values is not None:
            del values[remaining:]
            if not values:
                del ctx.avps[names[parameter]]
    if not remaining:
        ctx.avps.pop(names["cnt_avp"], None)
        return None
    ctx.avps[names["cnt_avp"]] = [remaining]
    return current(ctx, partition)


def aim(ctx: Context, uri: str, socket: str, before: str = "") -> int:
    """Send the request to a destination, which does not inherit ``before``, the socket for the one that was tried last."""
    ctx.dst_uri = uri
    _from_socket(ctx, socket, before)
    return 1


def aim_domain(ctx: Context, uri: str, socket: str, before: str = "") -> int:
    """Put host and port of a destination into the R-URI."""
    read = uri_or_none(uri)
    if read is None or read.host is None:
        return -1
    _from_socket(ctx, socket, before)
    return sethostport(ctx, read.host if read.port is None else f"{read.host}:{read.port}")


def _from_socket(ctx: Context, socket: str, before: str) -> None:
    if socket:
        ctx.send_socket = socket_named(socket) or ctx.send_socket
    elif before and ctx.send_socket is not None and ctx.send_socket == socket_named(before):
        ctx.send_socket = None


@module.function(routes=R | F)
def ds_next_dst(ctx: Context, partition: PartitionName | None = None) -> int:
    """Make the next destination, of those that ds_select_dst() with flag ``f`` has kept, that of the request (`$du`).

    1, or -1 when none is left.
    """
    return _go_on(ctx, "ds_next_dst", partition, domain=False)


@module.function(routes=R | F)
def ds_next_domain(ctx: Context, partition: PartitionName | None = None) -> int:
    """The same, putting its host and port into the R-URI."""
    return _go_on(ctx, "ds_next_domain", partition, domain=True)


def _go_on(ctx: Context, function: str, name: str | None, *, domain: bool) -> int:
    partition = named(name, function)
    if partition is None:
        return -1
    before = current(ctx, partition)
    following = None if before is None else _next(ctx, partition)
    if before is None or following is None:
        return -1
    if hop_of_uri(following.uri) is None:
        log(ERROR, "dispatcher", function, f"[{following.uri[:200]}] is not a SIP URI: the script has changed the AVP")
        return -1
    return (aim_domain if domain else aim)(ctx, following.uri, following.socket, before.socket)


@module.function(routes=R | F)
def ds_mark_dst(ctx: Context, state: StateName | None = None, partition: PartitionName | None = None) -> int:
    """Set the state of the destination in use: ``i`` inactive (also without one), ``a`` active, ``p`` probing.

    Probing is counted: only the last of so many calls as `ds_probing_threshhold` says changes the state. 1, or -1 when no
    destination was chosen with flag ``f``, or it is in the table no more.
    """
    found = named(partition, "ds_mark_dst")
    wanted = state_of_word(state or "i")
    if found is None or wanted is None:
        if found is not None:
            log(ERROR, "dispatcher", "ds_mark_dst", f"[{state}] is not a state: write a, i or p")
        return -1
    used = current(ctx, found)
    if used is None or not isinstance(used.group, int):
        log(WARNING, "dispatcher", "ds_mark_dst", "no destination is in use: select one with flag f")
        return -1
    decide = changes.failed if wanted == State.PROBING else changes.to(wanted)
    return 1 if changes.change(found, used.group, used.uri, decide) else -1
