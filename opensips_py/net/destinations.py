"""Where messages go: URIs to addresses, replies to the source, and the socket to send from."""

from __future__ import annotations

import os
import re
import socket as sockets_api
from collections.abc import Sequence
from math import inf as NEVER
from typing import TYPE_CHECKING, NamedTuple

from opensips_py.dns.lookup import Location
from opensips_py.dns.records import Answer, Question
from opensips_py.dns.resolver import resolver
from opensips_py.dns.rfc3263 import PORT_OPEN, SECURE, TRANSPORT_OPEN, Abilities, Hop, Target, default_port, family_of, locate
from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.process import this
from opensips_py.sip.remembered import remembered
from opensips_py.sip.uri import DEFAULT_PORTS, uri_or_none

if TYPE_CHECKING:
    from opensips_py.script.program import Program

_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+").fullmatch
_PROXY = re.compile(r"(?:(?P<proto>[A-Za-z]+):)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?").fullmatch


class Destination(NamedTuple):
    """An address to send to."""

    ip: str
    port: int
    socket: ListenSocket


Destinations = tuple[Destination, ...]

LIMIT = 4096
"""Destinations that are remembered. Their hosts have a bound, their sockets are few."""
_LONGEST_HOST = 255
"""Of a name in the DNS (RFC 1035 2.3.4)."""

_located: dict[tuple[Hop, ListenSocket | None, ListenSocket], Destinations] = {}
"""Destinations whose next hop is an address."""
_named: dict[tuple[Hop, ListenSocket | None, ListenSocket], tuple[float, Destinations]] = {}
"""Those of a name, without anything left to chance, and ``this.clock.now()`` up to which they hold."""


@remembered
def hop_of_uri(uri: str) -> Hop | None:
    """The next hop that a sip: or sips: URI names; None when it is not a usable URI."""
    read = uri_or_none(uri)
    if read is None or read.kind not in DEFAULT_PORTS:
        return None
    host = read.params.get("maddr") or read.host
    if host is None or _HOST(host) is None:
        return None
    proto = read.transport
    return _hop(host, read.port, proto.lower() if proto else None, SECURE if read.kind == "sips" else 0)


def valid_uri(uri: str) -> bool:
    """Whether a transaction can be made for this R-URI: sip:, sips: or tel:."""
    return hop_of_uri(uri) is not None or uri[:4].lower() == "tel:"


def hop_of_proxy(text: str) -> Hop | None:
    """``[proto:]host[:port]``, as t_relay() and forward() take it; a SIP URI is accepted too."""
    if text[:4].lower() in ("sip:", "sips"):
        return hop_of_uri(text)
    m = _PROXY(text)
    if m is None:
        return None
    return _hop(m["host"], int(m["port"]) if m["port"] else None, m["proto"] and m["proto"].lower(), 0)


def _hop(host: str, port: int | None, proto: str | None, secure: int) -> Hop | None:
    """None when there is no such host or port."""
    if len(host) > _LONGEST_HOST:
        return None
    given = secure
    if proto is None:
        given |= TRANSPORT_OPEN
        proto = "tls" if secure else "udp"
    if port is None:
        given |= PORT_OPEN
        port = default_port(proto)
    elif port > 65535:
        return None
    return Hop(host.strip("[]"), port, proto, given)


def over(hop: Hop, forced: ListenSocket | None) -> Hop:
    """A next hop as it is reached from a forced socket, which decides the transport over anything that the URI says."""
    if forced is None or hop.proto == forced.proto:
        return hop
    port = default_port(forced.proto) if hop.open & PORT_OPEN else hop.port
    return Hop(hop.host, port, forced.proto, hop.open & ~TRANSPORT_OPEN)


def forced_for(proxy: Hop | None, forced: ListenSocket | None) -> ListenSocket | None:
    """The forced socket, unless an outbound proxy is given that says over which other transport it is reached."""
    if proxy is None or forced is None or proxy.proto == forced.proto or proxy.open & TRANSPORT_OPEN:
        return forced
    return None


def known_destinations(hop: Hop, preferred: ListenSocket | None, received_on: ListenSocket, draw: int = 0) -> Destinations | None:
    """Where a next hop leads, in the order to be tried, as far as this can be said at once.

    None: the DNS must be asked first (:func:`look_up`). Empty: no address, or no socket for its family or transport.
    ``draw`` decides where chance does (:func:`opensips_py.dns.rfc3263.locate`).
    """
    hop = over(hop, preferred)
    known = _located.get((hop, preferred, received_on))
    if known is not None:
        return known
    if family_of(hop.host) is not None:  # the answer cannot change, unless it depends on the routing table
        if preferred is None and _by_route():
            return through_sockets([Target(hop.host, hop.port, hop.proto)], None, received_on)
        if len(_located) >= LIMIT:
            _located.clear()
        known = _located[hop, preferred, received_on] = through_sockets(
            [Target(hop.host, hop.port, hop.proto)], preferred, received_on
        )
        return known
    kept = _named.get((hop, preferred, received_on))
    if kept is not None and kept[0] > this.clock.now():
        return kept[1]
    consulted = _Consulted()
    found = locate(hop, abilities(), consulted.known, draw)
    if found.missing:
        return None
    known = through_sockets(found.targets, preferred, received_on)
    if not found.by_chance:
        if len(_named) >= LIMIT:
            _named.clear()
        _named[hop, preferred, received_on] = (consulted.until, known)
    return known


def forget() -> None:
    """Find out anew where names lead."""
    _named.clear()


class _Consulted:
    """The resolver, and how long what was asked of it holds."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = NEVER

    def known(self, question: Question) -> Answer | None:
        answer = resolver().known(question)
        if answer is not None:
            self.until = min(self.until, resolver().until(question))
        return answer


def look_up(hops: list[Hop], draw: int = 0) -> Location:
    """The operation that asks the DNS for the servers of ``hops``."""
    return Location(hops, abilities(), draw)


def through_sockets(targets: Sequence[Target], preferred: ListenSocket | None, received_on: ListenSocket) -> Destinations:
    """Choose the socket for each address: the forced one, the receiving one, or the first that fits.

    With ``mhomed`` it is, unless one is forced, that of the interface by which the kernel would send.
    """
    out = []
    by_route = preferred is None and _by_route()
    for ip, port, proto in targets:
        sock = _of_interface(ip, proto, received_on) if by_route else None
        sock = sock or _fitting(family_of(ip) or sockets_api.AF_INET, proto, preferred, received_on)
        if sock is not None:
            out.append(Destination(ip, port, sock))
    return tuple(out)


def _by_route() -> bool:
    return bool(this.program.settings.mhomed)


_probes: dict[tuple[int, int], sockets_api.socket] = {}
"""A socket for each process and address family, to ask the kernel with."""


def _of_interface(ip: str, proto: str, received_on: ListenSocket) -> ListenSocket | None:
    """The socket on the address from which the kernel would send to ``ip``; None when the server has none there."""
    family = family_of(ip) or sockets_api.AF_INET
    name = (os.getpid(), family)
    probe = _probes.get(name)
    try:
        if probe is None:
            probe = _probes[name] = sockets_api.socket(family, sockets_api.SOCK_DGRAM | sockets_api.SOCK_CLOEXEC)
        probe.connect((ip, 9))  # sends nothing
        source = str(probe.getsockname()[0])
    except OSError:
        return None
    fitting = [sock for sock in this.sockets if sock.host == source and sock.proto == proto]
    return received_on if received_on in fitting else next(iter(fitting), None)


class _Abilities:
    """What :func:`abilities` was computed from, and what it was."""

    sockets: list[ListenSocket] | None = None
    program: Program | None = None
    known = Abilities((), True, False)


def abilities() -> Abilities:
    """What can be sent over, of what the DNS offers."""
    program = this.program
    kept = _Abilities
    if kept.sockets is not this.sockets or kept.program is not program:
        kept.sockets, kept.program = this.sockets, program
        served = {sock.proto for sock in this.sockets}
        ipv4 = any(":" not in sock.host for sock in this.sockets)
        ipv6 = any(":" in sock.host for sock in this.sockets)
        try_ipv6 = not ipv4 or bool(program.settings.dns_try_ipv6)
        naptr = bool(program.settings.dns_try_naptr)
        kept.known = Abilities(tuple(proto for proto in _PREFERENCE if proto in served), ipv4, ipv6 and try_ipv6, naptr)
    return kept.known


_PREFERENCE = ("udp", "tcp", "tls", "sctp", "ws", "wss")
"""Transports in the order in which they are tried when a domain says nothing itself."""


def _fitting(family: int, proto: str, preferred: ListenSocket | None, received_on: ListenSocket) -> ListenSocket | None:
    wants_v6 = family == sockets_api.AF_INET6
    for sock in (preferred, received_on):
        if sock is not None and (":" in sock.host) == wants_v6 and sock.proto == proto:
            return sock
    for sock in this.sockets:
        if (":" in sock.host) == wants_v6 and sock.proto == proto:
            return sock
    return None


def reply_address(ctx: Context) -> tuple[str, int]:
    """Where the replies to a request go: RFC 3261 18.2.2, RFC 3581 4.

    Over a stream that is the connection of the request; when it has gone the reply's own Via tells the way.
    """
    msg = ctx.msg
    via = msg.via
    source = ctx.source
    if ctx.socket.proto != "udp":
        return source.ip, source.port
    if msg.force_rport or (not via.plain and "rport" in via.params):
        return source.ip, source.port
    return source.ip, via.port or 5060
