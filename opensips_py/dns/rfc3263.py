"""Locating SIP servers (RFC 3263 section 4): a function of what is known, without waiting.

:func:`locate` either has all that it needs, or says which questions are to be answered before it is called again. Who waits
for it therefore keeps nothing but the hop and the number of the draw.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

from opensips_py.dns.records import Answer, Naptr, Question, Srv, Status

MOST = 12
"""Addresses tried for one request: as many as a transaction may have branches."""

MOST_WAYS = 6
"""NAPTR records of a domain whose services are looked up.

With MOST it bounds what a zone can make us ask for a name: itself, so many services, the IPv4 and IPv6 addresses of MOST hosts.
"""

# Hop.open
PORT_OPEN = 1
"""No port was given: SRV records may name it."""
TRANSPORT_OPEN = 2
"""No transport was given: NAPTR records may name it."""
SECURE = 4
"""A sips: URI: TLS on every hop."""


class Hop(NamedTuple):
    """A next hop before name resolution; an IPv6 address is without brackets."""

    host: str
    port: int
    """As given, else the default of ``proto``."""
    proto: str
    """As given, else what is used when the DNS says nothing."""
    open: int = 0
    """PORT_OPEN, TRANSPORT_OPEN, SECURE."""


class Target(NamedTuple):
    """An address to send to, and over what."""

    ip: str
    port: int
    proto: str


class Abilities(NamedTuple):
    """What this server can send over."""

    transports: tuple[str, ...]
    """In the order of preference."""
    ipv4: bool
    ipv6: bool
    """Look for IPv6 addresses when there is no IPv4 one."""
    naptr: bool = True


class Located(NamedTuple):
    """What has been found so far."""

    targets: list[Target]
    """In the order in which they are to be tried. Empty with nothing missing: there is no such server."""
    missing: list[Question]
    """What must be known to go on."""
    usable: bool = False
    """The first choice is known: what is missing are only further ones."""
    by_chance: bool = False
    """Another draw might give another order."""


class Chance:
    """Random numbers that one draw decides, made when the first is wanted: most names leave nothing to chance."""

    __slots__ = ("_draw", "_random")

    def __init__(self, draw: int) -> None:
        self._draw = draw
        self._random: Random | None = None

    @property
    def used(self) -> bool:
        """Whether a number was wanted."""
        return self._random is not None

    def number(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        if self._random is None:
            self._random = Random(self._draw)
        return self._random.randint(low, high)


Known = Callable[[Question], Answer | None]

_SERVICES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp.", "sctp": "_sip._sctp."}
"""RFC 3263 4.1."""
_OF_NAPTR = {
    "SIP+D2U": "udp",
    "SIP+D2T": "tcp",
    "SIPS+D2T": "tls",
    "SIP+D2S": "sctp",
    "SIP+D2W": "ws",  # RFC 7118 4.2
    "SIPS+D2W": "wss",
}
_SECURE = ("tls", "wss")


default_ports = {"tls": 5061, "wss": 443, "ws": 80}
"""RFC 3261 19.1.2; others: 5060. The transports' modules may change it (``udp_port``, ``tcp_port``)."""


def default_port(proto: str) -> int:
    """Where requests without a port go."""
    return default_ports.get(proto, 5060)


class _Endpoint(NamedTuple):
    host: str
    port: int
    proto: str


class _Missing(Exception):
    """The next step depends on answers that are not there."""


def locate(hop: Hop, able: Abilities, known: Known, draw: int) -> Located:
    """Where ``hop``, which has a name as its host, leads. ``draw`` decides where chance does (RFC 2782 weights)."""
    missing: list[Question] = []
    chance = Chance(draw)
    try:
        endpoints = _endpoints(hop, able, known, chance, missing)
    except _Missing:
        return Located([], missing)
    targets: list[Target] = []
    usable = False
    for n, endpoint in enumerate(endpoints[:MOST]):
        before = len(missing)
        targets += [Target(ip, endpoint.port, endpoint.proto) for ip in _addresses(endpoint.host, able, known, missing)]
        if n == 0:
            usable = len(missing) == before and bool(targets)
        if len(targets) >= MOST:
            break
    return Located(list(dict.fromkeys(targets))[:MOST], missing, usable, chance.used)


# --- transport and port (4.1, 4.2) -----------------------------------------------------------------------------------


def _endpoints(hop: Hop, able: Abilities, known: Known, chance: Chance, missing: list[Question]) -> list[_Endpoint]:
    host, given = hop.host.lower().rstrip("."), hop.open
    if given & SECURE and hop.proto not in _SECURE:
        return []
    if not given & PORT_OPEN:
        return [_Endpoint(host, hop.port, hop.proto)] if hop.proto in able.transports else []
    if not given & TRANSPORT_OPEN:
        if hop.proto not in able.transports:
            return []
        found = (
            _servers(_SERVICES.get(hop.proto, "") + host, hop.proto, known, chance, missing) if hop.proto in _SERVICES else None
        )
        return [_Endpoint(host, hop.port, hop.proto)] if found is None else found
    usable = [proto for proto in able.transports if not given & SECURE or proto in _SECURE]
    if able.naptr:
        found = _through_naptr(host, usable, known, chance, missing)
        if found:
            return found
    for proto in usable:  # 4.1: without NAPTR records, SRV queries for what can be sent over
        if proto in _SERVICES:
            found = _servers(_SERVICES[proto] + host, proto, known, chance, missing)
            if found is not None:
                return found
    return [_Endpoint(host, hop.port, hop.proto)] if hop.proto in usable else []


def _through_naptr(host: str, usable: list[str], known: Known, chance: Chance, missing: list[Question]) -> list[_Endpoint]:
    """4.1: the services of a domain in its own order; those that cannot be sent over are passed over."""
    answer = _ask(Question(host, "NAPTR"), known, missing)
    ways = [record for record in answer.records if isinstance(record, Naptr) and record.flags.lower() == "s"]
    chosen = [
        (way.replacement, proto)
        for way in sorted(ways, key=lambda way: (way.order, way.preference))
        if (proto := _OF_NAPTR.get(way.service.upper(), "")) in usable
    ][:MOST_WAYS]
    _all_known((Question(name, "SRV") for name, _ in chosen), known, missing)
    found: list[_Endpoint] = []
    for name, proto in chosen:
        found += _servers(name, proto, known, chance, missing) or []
    return found


def _servers(name: str, proto: str, known: Known, chance: Chance, missing: list[Question]) -> list[_Endpoint] | None:
    """The servers of a service in the order in which they are to be tried. None: the service is not in the DNS."""
    answer = _ask(Question(name, "SRV"), known, missing)
    records = [record for record in answer.records if isinstance(record, Srv)]
    if not records:
        return None
    # RFC 2782: a target "." says that the service is decidedly not available
    return [_Endpoint(record.target, record.port, proto) for record in in_order(records, chance) if record.target]


def in_order(records: Iterable[Srv], chance: Chance) -> list[Srv]:
    """RFC 2782: by priority; within one, drawn again and again with the weights as probabilities.

    The number is drawn from 0 on, as written there, only where there is a weight of 0: else the first one would get too much.
    """
    out: list[Srv] = []
    by_priority: dict[int, list[Srv]] = {}
    for record in records:
        by_priority.setdefault(record.priority, []).append(record)
    for priority in sorted(by_priority):
        left = sorted(by_priority[priority], key=lambda record: record.weight)  # those with weight 0 first
        while len(left) > 1:
            point = chance.number(1 if left[0].weight else 0, sum(record.weight for record in left))
            for record in left:
                point -= record.weight
                if point <= 0:
                    break
            left.remove(record)
            out.append(record)
        out += left
    return out


# --- addresses -------------------------------------------------------------------------------------------------------


def _addresses(host: str, able: Abilities, known: Known, missing: list[Question]) -> list[str]:
    """Addresses of a host, those of IPv6 only when there is none of IPv4 (core parameter dns_try_ipv6)."""
    if family_of(host) is not None:
        return [host]
    for type, wanted in (("A", able.ipv4), ("AAAA", able.ipv6)):
        if not wanted:
            continue
        question = Question(host, type)
        answer = known(question)
        if answer is None:
            missing.append(question)
            return []
        if answer.records:
            return [record for record in answer.records if isinstance(record, str)]
        if answer.status is Status.NO_NAME:
            return []
    return []


def family_of(host: str) -> int | None:
    """AF_INET or AF_INET6 when ``host`` is an address (IPv6 without brackets), else None."""
    if ":" in host:
        family = socket.AF_INET6
    elif host[-1:].isdecimal():
        family = socket.AF_INET
    else:
        return None
    try:
        socket.inet_pton(family, host)
    except OSError:
        return None
    return family


# --- what is known ---------------------------------------------------------------------------------------------------


def _ask(question: Question, known: Known, missing: list[Question]) -> Answer:
    answer = known(question)
    if answer is None:
        missing.append(question)
        raise _Missing
    return answer


def _all_known(questions: Iterable[Question], known: Known, missing: list[Question]) -> None:
    """Have all of them asked at once."""
    missing += [question for question in questions if known(question) is None]
    if missing:
        raise _Missing
