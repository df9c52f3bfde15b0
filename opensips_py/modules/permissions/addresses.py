"""The addresses of a partition: single ones, and networks."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import NamedTuple

from opensips_py.db import Row
from opensips_py.script.settings import PROTOCOLS
from opensips_py.script.shell_pattern import matcher
from opensips_py.server.log import WARNING, log

ANY = "any"
NONE = "none"
_KNOWN = frozenset((*PROTOCOLS, NONE))

# what a look-up gives
MATCH = 1
NO_MATCH = -1
NO_GROUP = -2


class Address(NamedTuple):
    """One row."""

    number: int
    """Its place in the table: of several that fit the first counts."""
    group: int
    ip: str
    length: int
    """Bits of the network."""
    port: int
    proto: str
    pattern: str
    info: str


class Asked(NamedTuple):
    """What is looked up."""

    group: int
    ip: str
    port: int
    proto: str
    pattern: str | None = None


_Networks = dict[int, dict[int, list[Address]]]
"""Addresses by the length of their network and its bits."""


@dataclass
class Addresses:
    """All rows of a table."""

    rows: list[Address] = field(default_factory=list)
    groups: set[int] = field(default_factory=set)
    _networks: dict[int, _Networks] = field(default_factory=dict)
    """By bits of an address: 32, 128."""

    def add(self, address: Address) -> None:
        packed = _packed(address.ip)
        assert packed is not None
        bits, value = packed
        networks = self._networks.setdefault(bits, {})
        shifted = value >> (bits - address.length)
        networks.setdefault(address.length, {}).setdefault(shifted, []).append(address)
        self.groups.add(address.group)
        self.rows.append(address)

    def find(self, asked: Asked) -> Address | int:
        """The row that fits, a single address before a network; else ``NO_GROUP`` or ``NO_MATCH``."""
        if asked.group and asked.group not in self.groups:
            return NO_GROUP
        return next((row for row in self._around(asked.ip) if _fits(row, asked)), NO_MATCH)

    def group_of(self, asked: Asked) -> int | None:
        """The group of the first row that fits; None when none does."""
        found = self.find(asked._replace(group=0))
        return found.group if isinstance(found, Address) else None

    def _around(self, ip: str) -> list[Address]:
        """The rows whose network has the address."""
        packed = _packed(ip)
        if packed is None:
            return []
        bits, value = packed
        networks = self._networks.get(bits, {})
        found = [row for length, by_bits in networks.items() for row in by_bits.get(value >> (bits - length), ())]
        found.sort(key=lambda row: (row.length < bits, row.number))
        return found


def _fits(row: Address, asked: Asked) -> bool:
    return (
        (not asked.group or not row.group or row.group == asked.group)
        and (not row.port or not asked.port or row.port == asked.port)
        and (row.proto == ANY or (row.proto != NONE and asked.proto in (ANY, row.proto)))
        and (not row.pattern or asked.pattern is None or matcher(row.pattern)(asked.pattern) is not None)
    )


def _packed(ip: str) -> tuple[int, int] | None:
    """How many bits an address has, and these; None when it is not an address."""
    try:
        if ":" in ip:
            return 128, int.from_bytes(socket.inet_pton(socket.AF_INET6, ip.strip("[]")), "big")
        return 32, int.from_bytes(socket.inet_pton(socket.AF_INET, ip), "big")
    except (OSError, ValueError):
        return None


def is_address(ip: str) -> bool:
    """Whether a text is an IP address."""
    return _packed(ip) is not None


def is_protocol(proto: str) -> bool:
    """Whether a text names a transport protocol, or ``any`` or ``none``."""
    return proto.lower() in _KNOWN


def made_of(rows: list[Row]) -> Addresses:
    """The addresses of a table: group, IP, mask, port, protocol, pattern, information. A row with nonsense is left out."""
    found = Addresses()
    for number, row in enumerate(rows):
        address = _address(number, row)
        if isinstance(address, str):
            log(WARNING, "permissions", "load", f"a row of the address table is left out: {address}")
        else:
            found.add(address)
    return found


def _address(number: int, row: Row) -> Address | str:
    """A row as it is used, or what is wrong with it."""
    group, ip, mask, port, proto, pattern, info = ("" if cell is None else str(cell).strip() for cell in row)
    packed = _packed(ip)
    if packed is None:
        return f"[{ip}] is not an IP address"
    numbers = []
    for what, text, most in (("group", group, 2**31 - 1), ("mask", mask or str(packed[0]), packed[0]), ("port", port, 65535)):
        if not (text or "0").isdecimal() or not text.isascii() or len(text) > 12 or int(text or 0) > most:
            return f"[{text}] is not a valid {what}"
        numbers.append(int(text or 0))
    if not is_protocol(proto or ANY):
        return f"[{proto}] is not a protocol"
    return Address(number, numbers[0], ip, numbers[1], numbers[2], (proto or ANY).lower(), pattern, info)
