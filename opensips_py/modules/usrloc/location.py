"""Contacts of addresses of record in the shared store: ``c`` + table + NUL + AOR, holding the list of contacts.

Reading takes no lock. A change reads and writes in one batch, so that two REGISTERs for one user that come to two
workers at the same time both count. Expired contacts are never seen; every change, and the timer process, cleans them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

import msgspec

from opensips_py.core.process import this
from opensips_py.modules.usrloc import contact_events
from opensips_py.modules.usrloc.contact import Contact

PREFIX = b"c"
MAX_KEY = 511
"""Longest key of the store."""
_AT_ONCE = 500
"""Entries that are read at a time when all are looked through."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Contact]).decode


class AorTooLong(Exception):
    """Table and AOR together do not fit into a key."""


def _key(table: str, aor: str) -> bytes:
    key = f"c{table}\0{aor}".encode("latin-1")
    if len(key) > MAX_KEY:
        raise AorTooLong
    return key


def find(table: str, aor: str) -> list[Contact]:
    """The contacts that have not expired, in the order in which they are to be tried."""
    try:
        data = this.store.get(_key(table, aor))
    except AorTooLong:
        return []
    if data is None:
        return []
    now = monotonic()
    return [contact for contact in _decode(data) if contact.valid(now)]


def change(table: str, aor: str, update: Callable[[list[Contact]], list[Contact] | None]) -> list[Contact]:
    """Replace the contacts by what ``update`` makes of the valid ones; gives those that are there then.

    ``update`` must not wait. None from it: leave everything as it is. Raises :class:`AorTooLong`, and StoreFull.
    """
    key = _key(table, aor)
    now = monotonic()
    with this.store.batch() as batch:
        data = batch.get(key)
        stored = [] if data is None else _decode(data)
        found = [contact for contact in stored if contact.valid(now)]
        changed = update(list(found))
        if changed is None:
            return found
        if changed:
            batch.put(key, _encode(changed))
        elif data is not None:
            batch.delete(key)
    if contact_events.wanted():
        contact_events.raise_for(table, aor, stored, changed)
    return changed


def remove(table: str, aor: str) -> bool:
    """Remove all contacts; tells whether there was an entry."""
    try:
        data = this.store.take(_key(table, aor))
    except AorTooLong:
        return False
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


def remove_expired() -> int:
    """Remove contacts that have expired; gives their number."""
    now = monotonic()
    removed = 0
    for table, aor, contacts in entries():
        expired = sum(not contact.valid(now) for contact in contacts)
        if expired:
            change(table, aor, lambda valid: valid)
            removed += expired
    return removed
