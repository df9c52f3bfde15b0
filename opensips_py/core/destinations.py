"""Where messages go: URIs to addresses, replies to the source, and the socket to send from."""

from __future__ import annotations

import re
import socket as sockets_api
from functools import lru_cache
from typing import NamedTuple

from opensips_py.core.process import this
from opensips_py.core.resolve import address_family, resolve_name
from opensips_py.script.context import Context, ListenSocket

_URI = re.compile(
    r"(?P<scheme>sips?):(?:[^@]*@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[;?].*)?",
    re.IGNORECASE | re.DOTALL,
).fullmatch
_TRANSPORT = re.compile(r";transport=([A-Za-z]+)", re.IGNORECASE).search
_MADDR = re.compile(r";maddr=(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)", re.IGNORECASE).search
_PROXY = re.compile(r"(?:(?P<proto>[A-Za-z]+):)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?").fullmatch


class Hop(NamedTuple):
    """A next hop before name resolution; an IPv6 address is without brackets."""

    host: str
    port: int
    proto: str


class Destination(NamedTuple):
    """An address to send to."""

    ip: str
    port: int
    socket: ListenSocket


def protocols() -> frozenset[str]:
    """Transports that can be sent over: those that the server has a socket of."""
    return frozenset(socket.proto for socket in this.sockets)


LIMIT = 4096

_located: dict[tuple[Hop, ListenSocket | None, ListenSocket], Destination] = {}
"""Destinations whose next hop is an address."""


@lru_cache(LIMIT)
def hop_of_uri(uri: str) -> Hop | None:
    """The next hop that a sip: or sips: URI names (without DNS: RFC 3263 4.1, 4.2); None when it is not a usable URI."""
    m = _URI(uri)
    if m is None:
        return None
    host, port, rest = m["host"], m["port"], m["rest"] or ""
    proto = "tls" if m["scheme"].lower() == "sips" else "udp"
    if rest:
        found = _TRANSPORT(rest)
        if found is not None:
            proto = found[1].lower()
        found = _MADDR(rest)
        if found is not None:
            host = found[1]
    number = int(port) if port else (5061 if proto == "tls" else 5060)
    if number > 65535:
        return None
    return Hop(host.strip("[]"), number, proto)


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
    port = int(m["port"]) if m["port"] else 5060
    if port > 65535:
        return None
    return Hop(m["host"].strip("[]"), port, (m["proto"] or "udp").lower())


def locate(hop: Hop, preferred: ListenSocket | None, received_on: ListenSocket) -> Destination | None:
    """Resolve a next hop and choose the socket: the forced one, the receiving one, or the first that fits.

    None: no address, or no socket for its family or transport.
    """
    known = _located.get((hop, preferred, received_on))
    if known is not None:
        return known
    if hop.proto not in protocols():
        return None
    family = address_family(hop.host)
    ip: str | None = hop.host
    if family is None:
        wanted = preferred or received_on
        family = address_family(wanted.host) or sockets_api.AF_INET
        ip = resolve_name(hop.host, family)
        if ip is None:
            return None
    sock = _fitting(family, hop.proto, preferred, received_on)
    if sock is None or ip is None:
        return None
    destination = Destination(ip, hop.port, sock)
    if ip is hop.host:  # an address: the answer cannot change
        if len(_located) >= LIMIT:
            _located.clear()
        _located[hop, preferred, received_on] = destination
    return destination


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
