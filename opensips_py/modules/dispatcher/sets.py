"""Sets of destinations, as a table has them."""

from __future__ import annotations

import enum
import socket as sockets_api
from collections.abc import Sequence
from dataclasses import dataclass, field

from opensips_py.core.functions_network import socket_named
from opensips_py.db import Row
from opensips_py.dns.rfc3263 import Hop, family_of
from opensips_py.net.destinations import hop_of_uri
from opensips_py.script.context import ListenSocket


class State(enum.IntEnum):
    """States of a destination, as they stand in the table. Requests go to active ones."""

    ACTIVE = 0
    INACTIVE = 1
    PROBING = 2


@dataclass(frozen=True, slots=True)
class Destination:
    """One row."""

    group: int
    """Number of its set."""
    uri: str
    socket: ListenSocket | None
    state: State
    """In which it begins."""
    weight: int
    priority: int
    attrs: str
    description: str
    hop: Hop


@dataclass
class Sets:
    """All rows of a table."""

    groups: dict[int, list[Destination]] = field(default_factory=dict)
    """By number, the sets that come last in the table first, as OpenSIPS lists them; the highest priority first in each."""
    faults: list[str] = field(default_factory=list)
    """What is wrong with rows that are left out, or with parts of them."""
    named: list[Destination] = field(default_factory=list)
    """Those whose address is in the DNS."""
    _by_address: dict[bytes, list[Destination]] = field(default_factory=dict)

    def add(self, group: int, destinations: list[Destination]) -> None:
        self.groups[group] = destinations
        for destination in destinations:
            packed = packed_address(destination.hop.host)
            if packed is None:
                self.named.append(destination)
            else:
                self._by_address.setdefault(packed, []).append(destination)

    def at(self, packed: bytes, port: int) -> list[Destination]:
        """Those with an address, and with a port unless that is 0."""
        return [one for one in self._by_address.get(packed, ()) if port in (0, one.hop.port)]

    def find(self, group: int, uri: str) -> Destination | None:
        return next((one for one in self.groups.get(group, ()) if one.uri == uri), None)


def packed_address(text: str) -> bytes | None:
    """An IP address as bytes; None when the text is none."""
    text = text.strip("[]")
    family = family_of(text)
    return None if family is None else sockets_api.inet_pton(family, text)


LONGEST = 255
"""Characters of a destination's URI, which is part of keys; the table has 192."""


class _Nonsense(ValueError):
    """A row cannot be used; the text says why."""


def made_of(rows: Sequence[Row], sockets: Sequence[ListenSocket], with_states: bool = True) -> Sets:
    """The sets of a table with the columns of ``declared.COLUMNS``. Rows with nonsense are left out, and named in ``faults``."""
    found = Sets()
    groups: dict[int, list[Destination]] = {}
    for row in rows:
        try:
            destination = _destination(row, sockets, with_states, found.faults)
        except _Nonsense as nonsense:
            found.faults.append(f"a row is left out: {nonsense}")
        else:
            groups.setdefault(destination.group, []).append(destination)
    by_priority = {
        group: sorted(destinations, key=lambda one: -one.priority) for group, destinations in reversed(list(groups.items()))
    }
    for group, destinations in by_priority.items():
        found.add(group, destinations)
    return found


def _destination(row: Row, sockets: Sequence[ListenSocket], with_states: bool, faults: list[str]) -> Destination:
    group, uri, socket, state, weight, priority, attrs, description = ("" if cell is None else str(cell).strip() for cell in row)
    hop = hop_of_uri(uri) if uri.isprintable() and len(uri) <= LONGEST else None
    if hop is None:
        raise _Nonsense(f"[{uri[:200]}] is not a SIP URI")
    where = f"{uri} of set {group}"
    return Destination(
        group=_number("set", group, uri),
        uri=uri,
        socket=_socket(socket, where, sockets, faults),
        state=State(_number("state", state or "0", where, 0, max(State))) if with_states else State.ACTIVE,
        weight=_number("weight", weight or "1", where, 0),
        priority=_number("priority", priority or "0", where),
        attrs=attrs,
        description=description,
        hop=hop,
    )


_LARGEST = 2**31 - 1


def _number(what: str, text: str, where: str, lowest: int = -_LARGEST, highest: int = _LARGEST) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 12 and lowest <= int(text) <= highest):
        raise _Nonsense(f"{where}: [{text[:50]}] is not a {what}")
    return int(text)


def _socket(text: str, where: str, sockets: Sequence[ListenSocket], faults: list[str]) -> ListenSocket | None:
    if not text:
        return None
    found = socket_named(text, sockets)
    if found is None:
        faults.append(f"{where}: this server has no socket {text[:100]}: another one is used")
    return found
