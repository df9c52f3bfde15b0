"""Where requests go, when that must be looked up first: the one place that waits for the DNS on behalf of a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opensips_py.dns.lookup import HostLookUp
from opensips_py.dns.rfc3263 import Hop
from opensips_py.engine.engine import Engine
from opensips_py.net import destinations
from opensips_py.net.destinations import Destinations
from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.process import this


def destinations_of(
    ctx: Context,
    hop: Hop,
    preferred: ListenSocket | None,
    draw: int = 0,
    *,
    received_on: ListenSocket | None = None,
    others: Sequence[Hop] = (),
) -> Destinations:
    """Where a request goes, in the order to be tried; empty: nowhere. ``others`` are looked up at the same time.

    While the DNS is asked the process serves others, and the transaction of ``ctx`` is not held (Engine.wait_cooperatively).
    """
    received_on = received_on or ctx.socket
    hop = destinations.over(hop, preferred)
    known = destinations.known_destinations(hop, preferred, received_on, draw)
    if known is not None:
        return known
    operation = destinations.look_up([hop, *others], draw)
    this.engine.wait_cooperatively(ctx, operation)
    return destinations.through_sockets(operation.found[hop].targets, preferred, received_on)


def wait_for_destinations(hop: Hop, preferred: ListenSocket | None, received_on: ListenSocket) -> Destinations:
    """Where ``hop`` leads, on behalf of what has no context at hand; empty: nowhere."""
    hop = destinations.over(hop, preferred)
    known = destinations.known_destinations(hop, preferred, received_on)
    if known is not None:
        return known
    operation = destinations.look_up([hop])
    Engine.wait_without_context(operation)
    return destinations.through_sockets(operation.found[hop].targets, preferred, received_on)


def when_located(
    hop: Hop, preferred: ListenSocket | None, received_on: ListenSocket, send: Callable[[Destinations], object]
) -> None:
    """Call ``send`` with where ``hop`` leads: at once when that is known, else when the DNS has answered. Never waits."""
    hop = destinations.over(hop, preferred)
    known = destinations.known_destinations(hop, preferred, received_on)
    if known is not None:
        send(known)
        return
    destinations.look_up([hop]).then(lambda found: send(destinations.through_sockets(found[hop].targets, preferred, received_on)))


def first_address(ctx: Context, name: str) -> str | None:
    """The first address of a host, for ``{ip.resolve}``: of IPv4, or of IPv6 when there is none. Others are served meanwhile."""
    operation = HostLookUp(name)
    this.engine.wait_cooperatively(ctx, operation)
    return operation.first
