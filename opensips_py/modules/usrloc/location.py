"""Contacts of addresses of record in the shared store: ``c`` + table + NUL + AOR, holding the list of contacts.

Reading takes no lock. A change is written only if nobody else has changed the entry since it was read, so that two REGISTERs for
one user that come to two workers at the same time both count. Expired contacts are never seen; every change, and the timer
process, cleans them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from ipc.prefixes import prefix
from ipc.store import Batch, StoreFull
from opensips_py.modules.usrloc import contact_events
from opensips_py.modules.usrloc.contact import Contact
from opensips_py.server.process import this

PREFIX = prefix(b"c", "contacts of an address", __name__)
MAX_KEY = 511
"""Longest key of the store."""
_AT_ONCE = 500
"""Entries that are read at a time when all are looked through."""


class Bounds:
    """What the parameters allow."""

    aor_size = 65536
    """Bytes that the contacts of one address of record may take."""


class Writer(Protocol):
    """Who writes contacts into a database."""

    def mark(self, batch: Batch, name: bytes, aor: str, before: list[Contact], after: list[Contact]) -> bool:
        """Note a change with it; tells whether :meth:`write` is to be called."""

    def write(self, name: bytes) -> None:
        """The change is stored."""


class Kept:
    """Where contacts are kept beside the store."""

    by: Writer | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Contact]).decode


class AorTooLong(Exception):
    """Table and AOR together do not fit into a key."""


class TooMuch(Exception):
    """The contacts of one address of record would take more than ``max_aor_size`` bytes."""


def _key(table: str, aor: str) -> bytes:
    key = f"c{table}\0{aor}".encode("latin-1")
    if len(key) > MAX_KEY:
        raise AorTooLong
    return key


def fits(table: str, aor: str) -> bool:
    """Whether table and AOR fit into a key."""
    return len(table) + len(aor) + 2 <= MAX_KEY


def find(table: str, aor: str) -> list[Contact]:
    """The contacts that have not expired, in the order in which they are to be tried."""
    try:
        data = this.store.get(_key(table, aor))
    except AorTooLong:
        return []
    if data is None:
        return []
    now = this.clock.now()
    return [contact for contact in _decode(data) if contact.valid(now)]


def change(table: str, aor: str, update: Callable[[list[Contact]], list[Contact] | None]) -> list[Contact]:
    """Replace the contacts by what ``update`` makes of the valid ones; gives those that are there then.

    ``update`` must not wait. It runs outside the store's lock, because a request decides how much it has to do, and once more
    if another process has changed the contacts meanwhile. None from it: leave everything as it is. Raises :class:`AorTooLong`,
    :class:`TooMuch`, and StoreFull.
    """
    key = _key(table, aor)
    while True:
        data = this.store.get(key)
        now = this.clock.now()
        stored = [] if data is None else _decode(data)
        found = [contact for contact in stored if contact.valid(now)]
        changed = update(list(found))
        if changed is None:
            return found
        if _put(key, data, _encode(changed) if changed else None, aor, stored, changed):
            break
    if contact_events.wanted():
        contact_events.raise_for(table, aor, stored, changed)
    return changed


def _put(key: bytes, before: bytes | None, after: bytes | None, aor: str, old: list[Contact], new: list[Contact]) -> bool:
    """Replace the entry; False when it is not as it was."""
    size = 0 if after is None else len(after)
    if before is None or size > len(before):
        if size > Bounds.aor_size:
            raise TooMuch
        if this.store.is_filling:
            raise StoreFull("the shared store is filling up: it takes no new contacts")
    with this.store.batch() as batch:
        if batch.get(key) != before:
            return False
        if after is not None:
            batch.put(key, after)
        elif before is not None:
            batch.delete(key)
        begin = Kept.by is not None and before != after and Kept.by.mark(batch, key[1:], aor, old, new)
    if begin and Kept.by is not None:
        Kept.by.write(key[1:])
    return True


def named(name: bytes) -> tuple[str, str, list[Contact]]:
    """Table, AOR and all contacts of an entry, by its key without the prefix."""
    table, _, aor = name.decode("latin-1").partition("\0")
    data = this.store.get(PREFIX + name)
    return table, aor, [] if data is None else _decode(data)


def fill(users: dict[tuple[str, str], list[Contact]]) -> None:
    """Put contacts that have been read from a database, where there is no entry yet."""
    with this.store.batch() as batch:
        for (table, aor), contacts in users.items():
            batch.put_new(_key(table, aor), _encode(contacts))


def remove(table: str, aor: str) -> bool:
    """Remove all contacts; tells whether there was an entry."""
    try:
        key = _key(table, aor)
    except AorTooLong:
        return False
    begin = False
    with this.store.batch() as batch:
        data = batch.take(key)
        if data is not None and Kept.by is not None:
            begin = Kept.by.mark(batch, key[1:], aor, _decode(data), [])
    if begin and Kept.by is not None:
        Kept.by.write(key[1:])
    if data is not None and contact_events.wanted():
        contact_events.raise_for(table, aor, _decode(data), [])
    return data is not None


def entries(table: str | None = None) -> Iterator[tuple[str, str, list[Contact]]]:
    """(table, AOR, contacts) of all that is stored, expired contacts included."""
    prefix = PREFIX if table is None else f"c{table}\0".encode("latin-1")
    start = b""
    while True:
        rows = this.store.scan(prefix, start, _AT_ONCE)
        for key, value in rows:
            name, _, aor = key[1:].decode("latin-1").partition("\0")
            yield name, aor, _decode(value)
        if len(rows) < _AT_ONCE:
            return
        start = rows[-1][0] + b"\0"


def users(table: str | None = None) -> int:
    """How many addresses of record have contacts."""
    return this.store.count(PREFIX if table is None else f"c{table}\0".encode("latin-1"))


def contacts(table: str) -> int:
    """How many contacts there are; only their numbers are read."""
    prefix = f"c{table}\0".encode("latin-1")
    start = b""
    total = 0
    while True:
        rows = this.store.scan(prefix, start, _AT_ONCE)
        total += sum(map(_number_of, rows))
        if len(rows) < _AT_ONCE:
            return total
        start = rows[-1][0] + b"\0"


def _number_of(row: tuple[bytes, bytes]) -> int:
    """How many contacts an entry holds, by the head of its MessagePack array."""
    head = row[1][0]
    if head < 0xDC:
        return head & 0x0F
    return int.from_bytes(row[1][1:3] if head == 0xDC else row[1][1:5], "big")


def remove_expired() -> dict[str, int]:
    """Remove contacts that have expired; gives their number by table."""
    now = this.clock.now()
    removed: dict[str, int] = {}
    for table, aor, found in entries():
        expired = sum(not contact.valid(now) for contact in found)
        if expired:
            change(table, aor, lambda valid: valid)
            removed[table] = removed.get(table, 0) + expired
    return removed
