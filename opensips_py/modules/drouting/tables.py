"""Gateways, carriers and rules as they are kept in memory, and how they are found.

A process that gets new tables does not read all rules of them: it has the place of each one's bytes, by group and prefix, and
decodes those that calls need.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

# states, as in column ``state``
ACTIVE = 0
DISABLED = 1
"""By a person: only a person enables it again."""
INACTIVE = 2
"""It has failed: a probe that succeeds enables it again."""

# values of column ``probe_mode``
PROBE_INACTIVE = 1
PROBE_ALWAYS = 2

FIRST_ONLY = 1
"""Flag of a carrier: only its first gateway that works is used."""

LONGEST_PREFIX = 64

States = dict[str, int]
"""States other than ACTIVE, by id."""


class Address(msgspec.Struct, array_like=True, frozen=True):
    """Where a gateway is."""

    ip: str
    port: int
    proto: str


class Gateway(msgspec.Struct, array_like=True, frozen=True):
    """A row of dr_gateways."""

    id: str
    type: int
    address: str
    """As in the table, without the scheme."""
    uri: str
    """Its URI: scheme, host, port and parameters."""
    strip: int
    prefix: str
    attrs: str
    probe_mode: int
    state: int
    """That of the table."""
    socket: str
    addresses: tuple[Address, ...]
    """Empty when its name has not been looked up (``force_dns`` 0)."""


class Listed(msgspec.Struct, array_like=True, frozen=True):
    """An item of a gwlist: a gateway or a carrier."""

    id: str
    is_carrier: bool
    weight: int


class Carrier(msgspec.Struct, array_like=True, frozen=True):
    """A row of dr_carriers."""

    id: str
    gateways: tuple[Listed, ...]
    flags: int
    sort: str
    attrs: str
    state: int


class Rule(msgspec.Struct, array_like=True, frozen=True):
    """A row of dr_rules."""

    id: int
    prefix: str
    timerec: str
    """As the core reads it; empty: always."""
    route: str
    listed: tuple[Listed, ...]
    sort: str
    attrs: str


Index = dict[int, dict[str, int | list[int]]]
"""Numbers of rules by group and prefix; of several the one with the highest priority comes first."""


class Packed(msgspec.Struct, array_like=True):
    """All tables of a partition, as they are kept in the shared store."""

    gateways: list[Gateway]
    carriers: list[Carrier]
    index: Index
    ends: bytes
    """Where the bytes of each rule end in ``rules``, 4 bytes for each."""
    rules: bytes
    digits: str
    """Characters that a prefix may have."""
    read_at: float
    """Seconds since 1970."""


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Packed).decode
_rule = msgspec.msgpack.Decoder(Rule).decode
encode_rule = msgspec.msgpack.Encoder().encode


def pack(packed: Packed) -> bytes:
    """The tables as bytes."""
    return _pack(packed)


class Matched(NamedTuple):
    """A rule that fits a number."""

    rule: Rule
    length: int
    """Digits of its prefix."""


class Tables:
    """All tables of a partition."""

    def __init__(self, data: bytes) -> None:
        packed = _unpack(data)
        self.read_at = packed.read_at
        self.gateways = {one.id: one for one in packed.gateways}
        self.carriers = {one.id: one for one in packed.carriers}
        """Both in the order of their ids."""
        self._index = packed.index
        self._ends = memoryview(packed.ends).cast("I")
        self._rules = packed.rules
        self._digits = frozenset(packed.digits)
        self._decoded: dict[int, Rule] = {}
        self._by_ip: dict[str, list[Gateway]] = {}
        for gateway in packed.gateways:
            for ip in {address.ip for address in gateway.addresses}:
                self._by_ip.setdefault(ip, []).append(gateway)
        self._carrier_of: dict[str, Carrier] = {}
        for carrier in packed.carriers:
            for listed in carrier.gateways:
                self._carrier_of.setdefault(listed.id, carrier)

    def matching(self, group: int, number: str, *, exact: bool = False, longest: int = LONGEST_PREFIX) -> Iterator[Matched]:
        """The rules of a group that fit a number: those with the longest prefix first, and then by priority.

        ``exact``: the prefix is the whole number. ``longest``: prefixes that are longer do not count.
        """
        prefixes = self._index.get(group)
        if prefixes is None:
            return
        if exact:
            lengths = range(len(number), len(number) - 1, -1) if len(number) <= longest else range(0)
        else:
            lengths = range(self._leading(number, longest), -1, -1)
        for length in lengths:
            found = prefixes.get(number[:length])
            if found is None:
                continue
            for rule in (found,) if isinstance(found, int) else found:
                yield Matched(self._decode(rule), length)

    def _leading(self, number: str, longest: int) -> int:
        """How many characters at the beginning a prefix may have."""
        digits = self._digits
        for length, character in enumerate(number[:longest]):
            if character not in digits:
                return length
        return min(len(number), longest)

    def _decode(self, number: int) -> Rule:
        rule = self._decoded.get(number)
        if rule is None:
            start = self._ends[number - 1] if number else 0
            rule = self._decoded[number] = _rule(self._rules[start : self._ends[number]])
        return rule

    def at(self, ip: str, port: int | None, proto: str | None, type: int | None) -> Gateway | None:
        """The first gateway at an address; None for a port, protocol or type that does not matter."""
        for gateway in self._by_ip.get(canonical(ip), ()):
            if type is not None and gateway.type != type:
                continue
            for address in gateway.addresses:
                if (
                    address.ip == canonical(ip)
                    and (port is None or address.port == port)
                    and (proto is None or address.proto == proto)
                ):
                    return gateway
        return None

    def carrier_of(self, gateway: Gateway) -> Carrier | None:
        """The first carrier that has a gateway."""
        return self._carrier_of.get(gateway.id)

    @property
    def rules(self) -> int:
        """How many rules there are."""
        return len(self._ends)


def canonical(ip: str) -> str:
    """An address as it is compared; what is no address stays as it is."""
    if ":" not in ip:
        return ip
    text = ip.strip("[]")
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return text
