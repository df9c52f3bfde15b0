"""From rows of the database to tables in memory. A row with nonsense is logged and left out."""

from __future__ import annotations

import re
import socket
from array import array
from collections.abc import Iterator

from opensips_py import db
from opensips_py.core.time_recurrence import matches
from opensips_py.dns.rfc3263 import Hop
from opensips_py.modules.drouting.tables import (
    ACTIVE,
    DISABLED,
    INACTIVE,
    LONGEST_PREFIX,
    PROBE_ALWAYS,
    Address,
    Carrier,
    Gateway,
    Index,
    Listed,
    Packed,
    Rule,
    canonical,
    encode_rule,
    pack,
)
from opensips_py.net.destinations import hop_of_uri
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.sip.uri import Uri, uri_or_none

GATEWAY_COLUMNS = ("gwid", "address", "strip", "pri_prefix", "type", "attrs", "probe_mode", "socket")
CARRIER_COLUMNS = ("carrierid", "gwlist", "flags", "sort_alg", "attrs")
STATE_COLUMN = "state"
"""Read last, with ``persistent_state``."""
RULE_COLUMNS = ("ruleid", "groupid", "prefix", "timerec", "priority", "routeid", "gwlist", "sort_alg", "attrs")
GATEWAYS_VERSION, CARRIERS_VERSION, RULES_VERSION, GROUPS_VERSION, PARTITIONS_VERSION = 6, 3, 4, 2, 1

DIGITS = "0123456789"
DISABLED_FLAG = 2
"""Flag of a carrier that is not used, where states are not read."""
_SHOWN = 20
"""Lines about rows of a table that are left out."""
_STEP = 500
"""Rows that are looked at before other work has its turn."""
_FAR = 4102444800.0
"""A time after every ``dtstart``: all of a recurrence is read then."""
_INT = 2**31 - 1

_id = re.compile(r"[^\s,;=#|\x00-\x20\x7f]+").fullmatch
_item = re.compile(r"(#?)([^\s,;=#|\x00-\x20\x7f]+)\s*(?:=\s*([0-9]{1,9}))?").fullmatch
_number = re.compile(r"[+-]?[0-9]{1,10}").fullmatch
_SORTS = ("N", "W", "Q")

Located = dict[Hop, tuple[Address, ...]]
"""Addresses of the names of gateways."""


class _Refused(ValueError):
    """A row that cannot be used."""


class _Complaints:
    """What is logged about the rows of one table: the first ones, and how many there are."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._count = 0

    def add(self, text: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            log(ERROR, "drouting", "load", f"table {self._table}: {text}")

    def end(self) -> None:
        if self._count > _SHOWN:
            log(ERROR, "drouting", "load", f"table {self._table}: {self._count - _SHOWN} more like these")


def _text(cell: db.Cell) -> str:
    return "" if cell is None else str(cell).strip()


def _integer(cell: db.Cell, what: str, least: int = 0, most: int = _INT, empty: int = 0) -> int:
    text = _text(cell)
    if not text:
        return empty
    if _number(text) is None or not least <= int(text) <= most:
        raise _Refused(f"[{text}] is not a valid {what}")
    return int(text)


def _identifier(cell: db.Cell, what: str) -> str:
    text = "" if cell is None else str(cell)
    if _id(text) is None:
        raise _Refused(f"[{text}] is not the id of a {what}")
    return text


def _sort(cell: db.Cell, what: str) -> str:
    text = _text(cell).upper() or "N"
    if text not in _SORTS:
        raise _Refused(f"[{text}] is not a way to sort: N, W or Q")
    if text == "Q":
        log(WARNING, "drouting", "load", f"{what} is to be sorted by quality (Q), which needs module qrouting: its order stays")
        return "N"
    return text


# --- gateways -------------------------------------------------------------------------------------------------------


def uri_of(address: str) -> Uri | None:
    """The URI of a gateway by column ``address``; None when it is none."""
    text = address if address[:4].lower() == "sip:" or address[:5].lower() == "sips:" else f"sip:{address}"
    uri = uri_or_none(text)
    if uri is None or uri.host is None or hop_of_uri(text) is None:
        return None
    return uri._replace(user=None, password=None, headers_text="")


def hops_of(rows: list[db.Row]) -> list[Hop]:
    """The next hops of gateways that have names, not addresses."""
    found = []
    for row in rows:
        uri = uri_of(_text(row[1]))
        hop = None if uri is None else hop_of_uri(str(uri))
        if hop is not None and not _is_address(hop.host):
            found.append(hop)
    return found


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _gateway(row: db.Row, located: Located | None) -> Gateway:
    name = _identifier(row[0], "gateway")
    address = _text(row[1])
    uri = uri_of(address)
    hop = None if uri is None else hop_of_uri(str(uri))
    if uri is None or hop is None:
        raise _Refused(f"gateway {name}: [{address}] is not an address: host[:port], or a SIP URI")
    addresses: tuple[Address, ...] = ()
    if _is_address(hop.host):
        addresses = (Address(canonical(hop.host), hop.port, hop.proto),)
    elif located is not None:
        addresses = located.get(hop, ())
        if not addresses:
            raise _Refused(f"gateway {name}: {hop.host} has no address in the DNS; force_dns 0 does not look it up")
    scheme, _, rest = address.partition(":")
    return Gateway(
        name,
        _integer(row[4], "type"),
        rest if scheme.lower() in ("sip", "sips") else address,
        str(uri),
        _integer(row[2], "strip"),
        _text(row[3]),
        "" if row[5] is None else str(row[5]),
        _integer(row[6], "probe_mode", 0, PROBE_ALWAYS),
        _integer(row[8], "state", ACTIVE, INACTIVE) if len(row) > 8 else ACTIVE,
        _text(row[7]),
        addresses,
    )


# --- lists of gateways and carriers ---------------------------------------------------------------------------------


class _Lists:
    """Reads gwlists; many rules have the same one."""

    def __init__(self, gateways: dict[str, Gateway], carriers: dict[str, Carrier]) -> None:
        self._gateways, self._carriers = gateways, carriers
        self._known: dict[str, tuple[Listed, ...]] = {}

    def read(self, cell: db.Cell, what: str, complain: _Complaints, *, carriers: bool = True) -> tuple[Listed, ...]:
        """Items that are not known are left out."""
        text = _text(cell)
        found = self._known.get(text) if carriers else None
        if found is None:
            items = []
            for piece in filter(None, (piece.strip() for piece in re.split("[,;]", text))):
                item = _item(piece)
                if item is None or (item[1] and not carriers):
                    raise _Refused(f"{what}: [{piece}] in its gwlist is not ID, #CARRIER, ID=WEIGHT or #CARRIER=WEIGHT")
                if item[2] not in (self._carriers if item[1] else self._gateways):
                    complain.add(f"{what}: there is no {'carrier' if item[1] else 'gateway'} {item[2]}")
                    continue
                items.append(Listed(item[2], bool(item[1]), int(item[3] or 0)))
            found = tuple(items)
            if carriers:
                self._known[text] = found
        return found


def _carrier(row: db.Row, lists: _Lists, complain: _Complaints) -> Carrier:
    name = _identifier(row[0], "carrier")
    flags = _integer(row[2], "flags")
    state = _integer(row[5], "state", ACTIVE, DISABLED) if len(row) > 5 else DISABLED if flags & DISABLED_FLAG else ACTIVE
    listed = lists.read(row[1], f"carrier {name}", complain, carriers=False)
    return Carrier(name, listed, flags, _sort(row[3], f"carrier {name}"), "" if row[4] is None else str(row[4]), state)


# --- rules ----------------------------------------------------------------------------------------------------------


class _Times:
    """Reads time recurrences; many rules have the same one."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {"": ""}

    def read(self, cell: db.Cell) -> str:
        """As the core reads them: a field for dtend follows dtstart, which is not in the table."""
        text = _text(cell)
        found = self._known.get(text)
        if found is None:
            start, bar, rest = text.partition("|")
            found = f"{start}||{rest}" if bar else start
            try:
                matches(found, _FAR)
            except (ValueError, OverflowError) as error:
                raise _Refused(f"timerec [{text}]: {error}") from None
            self._known[text] = found
        return found


def _groups(cell: db.Cell) -> list[int]:
    pieces = [piece.strip() for piece in re.split("[,;]", _text(cell))]
    return list(dict.fromkeys(_integer(piece, "group", empty=-1) for piece in pieces if piece)) or [_no_group()]


def _no_group() -> int:
    raise _Refused("it has no group")


class _Rules:
    """Collects rules."""

    def __init__(self, digits: str) -> None:
        self.bytes = bytearray()
        self._ends = array("I")
        self._priorities: list[int] = []
        self.index: Index = {}
        self._several: list[tuple[int, str]] = []
        self._digits = frozenset(digits)

    @property
    def ends(self) -> bytes:
        return self._ends.tobytes()

    def add(self, row: db.Row, lists: _Lists, times: _Times, complain: _Complaints) -> None:
        number = _integer(row[0], "ruleid")
        prefix = _text(row[2])
        if len(prefix) > LONGEST_PREFIX or not self._digits.issuperset(prefix):
            raise _Refused(f"[{prefix}] is not a prefix")
        what = f"rule {number}"
        rule = Rule(
            number,
            prefix,
            times.read(row[3]),
            _text(row[5]),
            lists.read(row[6], what, complain),
            _sort(row[7], what),
            "" if row[8] is None else str(row[8]),
        )
        priority = _integer(row[4], "priority", -_INT)
        place = len(self._ends)
        for group in _groups(row[1]):
            prefixes = self.index.setdefault(group, {})
            there = prefixes.setdefault(prefix, place)
            if there == place:
                continue
            if isinstance(there, int):
                there = prefixes[prefix] = [there]
                self._several.append((group, prefix))
            there.append(place)
        self.bytes += encode_rule(rule)
        self._ends.append(len(self.bytes))
        self._priorities.append(priority)

    def sort(self) -> None:
        """The highest priority first, else in the order of the table."""
        for group, prefix in self._several:
            found = self.index[group][prefix]
            assert isinstance(found, list)
            found.sort(key=lambda place: -self._priorities[place])


def packing(
    rows: tuple[list[db.Row], list[db.Row], list[db.Row]],
    tables: tuple[str, str, str],
    located: Located | None,
    extra: str,
    now: float,
) -> Iterator[bytes | None]:
    """Make tables of the rows of gateways, carriers and rules, some at a time; what comes last is the outcome.

    ``tables``: their names. ``located``: the addresses of gateways that have names; None: those are not looked up.
    """
    gateways: dict[str, Gateway] = {}
    complain = _Complaints(tables[0])
    for row in rows[0]:
        try:
            gateway = _gateway(row, located)
            gateways.setdefault(gateway.id, gateway)
        except _Refused as reason:
            complain.add(f"a gateway is left out: {reason}")
    complain.end()
    carriers: dict[str, Carrier] = {}
    complain = _Complaints(tables[1])
    lists = _Lists(gateways, carriers)
    for row in rows[1]:
        try:
            carrier = _carrier(row, lists, complain)
            carriers.setdefault(carrier.id, carrier)
        except _Refused as reason:
            complain.add(f"a carrier is left out: {reason}")
    complain.end()
    rules, times, complain = _Rules(DIGITS + extra), _Times(), _Complaints(tables[2])
    for count, row in enumerate(rows[2]):
        if count % _STEP == 0:
            yield None
        try:
            rules.add(row, lists, times, complain)
        except _Refused as reason:
            complain.add(f"rule {_text(row[0])} is left out: {reason}")
    complain.end()
    rules.sort()
    yield pack(
        Packed(
            [gateways[name] for name in sorted(gateways)],
            [carriers[name] for name in sorted(carriers)],
            rules.index,
            rules.ends,
            bytes(rules.bytes),
            DIGITS + extra,
            now,
        )
    )
