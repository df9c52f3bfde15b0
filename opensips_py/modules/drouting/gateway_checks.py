"""is_from_gw(), goes_to_gw(), dr_is_gw() and dr_disable()."""

from __future__ import annotations

from typing import NamedTuple

from opensips_py.dns.lookup import Location
from opensips_py.dns.rfc3263 import family_of
from opensips_py.modules.drouting import arguments, call_avps, states
from opensips_py.modules.drouting.arguments import CARRIER, ID, NO_PORT, PREFIX, PROTO, STRIP, GatewayFlags, PartitionName
from opensips_py.modules.drouting.declared import module
from opensips_py.modules.drouting.loading import ABLE
from opensips_py.modules.drouting.partitions import Partition
from opensips_py.modules.drouting.selection import stripped
from opensips_py.modules.drouting.tables import ACTIVE, INACTIVE, Gateway, canonical
from opensips_py.net.destinations import hop_of_uri
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, E, F, L, O, R, S, T, V, Var
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.sip.uri import loose_uri

_NO = -1
_YES = 1
_ANY_TYPE = -1


class _Peer(NamedTuple):
    """Who may be a gateway."""

    ips: list[str]
    port: int | None
    """None: any."""
    proto: str | None = None


class _Check(NamedTuple):
    """How a gateway is looked for, and what is done with it."""

    function: str
    type: int | None
    flags: str | None
    attrs: Var | None
    partition: str | None

    def run(self, ctx: Context, peer: _Peer | None) -> int:
        """1 for a gateway, or -1."""
        if peer is None:
            return _NO
        flags = self.flags or ""
        type = None if self.type is None or self.type == _ANY_TYPE else self.type
        port = None if NO_PORT in flags else peer.port
        proto = peer.proto if PROTO in flags else None
        for partition in arguments.chosen(self.partition, self.function, every=True):
            for ip in peer.ips:
                gateway = partition.tables.at(ip, port, proto, type)
                if gateway is not None:
                    self._found(ctx, partition, gateway, flags)
                    return _YES
        return _NO

    def _found(self, ctx: Context, partition: Partition, gateway: Gateway, flags: str) -> None:
        arguments.note_partition(ctx, self.partition, partition)
        if self.attrs is not None:
            self.attrs.set(ctx, gateway.attrs)
        if ID in flags:
            call_avps.replace(ctx, partition.avps.gateway, gateway.id)
        if CARRIER in flags:
            carrier = partition.tables.carrier_of(gateway)
            call_avps.replace(ctx, partition.avps.carrier, *(() if carrier is None else (carrier.id,)))
        uri = loose_uri(ctx.ruri) if STRIP in flags or PREFIX in flags else None
        if uri is None or uri.host is None:
            return
        user = uri.user or ""
        if STRIP in flags:
            user = stripped(user, gateway.strip)
        if PREFIX in flags:
            user = gateway.prefix + user
        if user != (uri.user or ""):
            ctx.new_uri = str(uri._replace(user=user or None, password=uri.password if user else None))


@module.function(routes=R | F | O | B)
def is_from_gw(
    ctx: Context,
    type: int | None = None,
    flags: GatewayFlags | None = None,
    gw_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Whether the message has come from a gateway, by address and port. ``type``: of this type; -1 of any.

    Flags: n the port does not matter, r the transport does; of the gateway that is found: s strip the number in the R-URI, p put
    its prefix in front, i its id goes to gw_id_avp, c its carrier's id to carrier_id_avp.
    """
    source = ctx.source
    return _Check("is_from_gw", type, flags, gw_attrs, partition).run(ctx, _Peer([source.ip], source.port, source.proto))


@module.function(routes=R | F | O | B)
def goes_to_gw(
    ctx: Context,
    type: int | None = None,
    flags: GatewayFlags | None = None,
    gw_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Whether the request goes to a gateway: the destination URI or the R-URI has its address. Names are not looked up.

    Without a port in the URI it does not matter. Flags as for is_from_gw().
    """
    peer = _peer(ctx.dst_uri or ctx.ruri)
    if peer is not None and family_of(peer.ips[0]) is None:
        return _NO
    return _Check("goes_to_gw", type, flags, gw_attrs, partition).run(ctx, peer)


@module.function(routes=R | F | O | B | L | S | T | E | V)
def dr_is_gw(
    ctx: Context,
    uri: str,
    type: int | None = None,
    flags: GatewayFlags | None = None,
    gw_attrs: Var | None = None,
    partition: PartitionName | None = None,
) -> int:
    """Whether a SIP URI names a gateway. A name is looked up in the DNS, while others are served. Flags as for is_from_gw()."""
    peer = _peer(uri)
    if peer is None:
        log(ERROR, "drouting", "dr_is_gw", f"{uri!r:.100} is not a SIP URI")
    elif family_of(peer.ips[0]) is None:
        peer = peer._replace(ips=_looked_up(ctx, uri))
    return _Check("dr_is_gw", type, flags, gw_attrs, partition).run(ctx, peer)


def _looked_up(ctx: Context, uri: str) -> list[str]:
    hop = hop_of_uri(uri)
    if hop is None:
        return []
    look_up = Location([hop], ABLE, 0)
    this.engine.wait_cooperatively(ctx, look_up)
    return [canonical(target.ip) for target in look_up.found[hop].targets]


def _peer(text: str) -> _Peer | None:
    uri, hop = loose_uri(text), hop_of_uri(text)
    if uri is None or hop is None:
        return None
    return _Peer([canonical(hop.host)], uri.port, hop.proto)


@module.function(routes=R | F | O | B | L)
def dr_disable(ctx: Context, partition: PartitionName | None = None) -> int:
    """The gateway that the call has been aimed at last does not work: nothing goes there until a probe succeeds, or a person
    enables it. 1, or -1 when there is none."""
    code = _NO
    for one in arguments.chosen(partition, "dr_disable", every=True):
        name = call_avps.top(ctx, one.avps.gateway)
        gateway = None if name is None else one.tables.gateways.get(name)
        if gateway is not None:
            states.change_gateway(one, gateway, lambda state: INACTIVE if state == ACTIVE else state, "dr_disable()")
            code = _YES
    return code
