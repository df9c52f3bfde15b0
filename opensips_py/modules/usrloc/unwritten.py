"""Addresses of record whose rows in the database are not yet what the shared store has.

Each has an entry, ``musrloc:`` + table + NUL + AOR, made in the same batch as the change of its contacts. Whoever writes the rows
puts its name into the entry, so that only one process does at a time, and writes what the store has at that moment; when more has
been changed meanwhile it does so again, and otherwise deletes the entry. Writing twice does no harm, so a process that is killed
over it leaves nothing but an entry: the timer process has it written again. So contacts and rows agree in
the end, whoever dies when.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ipc.prefixes import prefix
from ipc.store import Batch
from opensips_py import db
from opensips_py.engine.background import Background
from opensips_py.engine.operation import Done
from opensips_py.modules.usrloc import location, rows
from opensips_py.modules.usrloc.contact import Contact
from opensips_py.server.process import this

PREFIX = prefix(b"musrloc:", "contacts of an address whose rows are to be written", __name__)
LONGEST = 30.0
"""Seconds that writing the rows of one address may take."""
_AT_ONCE = 100
"""Addresses that one process writes at the same time when it goes through all."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most."""


class Entry(msgspec.Struct, array_like=True):
    """What is known of one address."""

    serial: int = 0
    """How often it has been changed since the entry was made."""
    gone: list[int] = []
    """Numbers of contacts whose rows must go."""
    runner: tuple[int, int] | None = None
    """Slot and incarnation of the process that writes."""
    not_before: float = 0.0
    tries: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Writing:
    """How contacts are written; set when the script is configured."""

    database: Callable[[], db.Database]
    with_domain = False
    at_once = True
    """Every change is written when it is made; otherwise by the timer."""


def _mine() -> tuple[int, int]:
    return this.slot, this.incarnation


_under_way: set[bytes] = set()
"""Names of the entries that this process is writing."""


def _lives(runner: tuple[int, int] | None, name: bytes) -> bool:
    """Whether an entry is being written."""
    if runner is None:
        return False
    if runner == _mine():
        return name in _under_way
    return bool(this.counters.status(runner[0]).incarnation == runner[1])


def mark(batch: Batch, name: bytes, aor: str, before: list[Contact], after: list[Contact]) -> bool:
    """Note a change in the batch that makes it; tells whether this process is to :func:`write` it."""
    key = PREFIX + name
    value = batch.get(key)
    entry = Entry() if value is None else _decode(value)
    left = {contact.contact_id(aor) for contact in after}
    entry.gone = sorted(({contact.contact_id(aor) for contact in before} | set(entry.gone)) - left)
    entry.serial += 1
    begin = Writing.at_once and not _lives(entry.runner, name) and entry.not_before <= this.clock.now()
    if begin:
        entry.runner = _mine()
    batch.put(key, _encode(entry))
    return begin


def pending(name: bytes) -> bool:
    """Whether the rows of an address are not up to date."""
    return this.store.get(PREFIX + name) is not None


class _Write(db.Query):
    """One statement after the other; ``kept`` are those that follow."""

    name = "usrloc"
    kept: list[db.Statement]

    def answer(self, result: db.Result) -> Done | db.Statement:
        return self.kept.pop(0) if self.kept else Done(1)


def _statements(name: bytes, entry: Entry) -> list[db.Statement]:
    table, aor, contacts = location.named(name)
    number = rows.columns()[0]
    found: list[db.Statement] = [db.delete(table, {number: one}) for one in entry.gone]
    if contacts:
        values = {one.contact_id(aor): rows.row_of(aor, one, Writing.with_domain) for one in contacts}
        found.append(db.insert_update(table, *values.values(), key=(number,)))
    return found


def write(name: bytes, then: Callable[[bool], None] | None = None) -> None:
    """Write the rows of an address whose entry says that this process does."""
    value = this.store.get(PREFIX + name)
    if value is None:
        return
    entry = _decode(value)
    statements = _statements(name, entry)
    if not statements:
        _written(name, entry.serial, True, then)
        return
    _under_way.add(name)
    query = _Write(Writing.database(), statements[0], statements[1:])
    query.deadline = this.clock.now() + LONGEST
    Background(query, lambda done: _written(name, entry.serial, done.rc >= 0, then))


def _written(name: bytes, serial: int, good: bool, then: Callable[[bool], None] | None) -> None:
    _under_way.discard(name)
    key = PREFIX + name
    more = False
    with this.store.batch() as batch:
        value = batch.get(key)
        entry = None if value is None else _decode(value)
        if entry is not None and entry.runner == _mine():
            more = good and entry.serial != serial
            if good and not more:
                batch.delete(key)
            elif not good:
                entry.runner = None
                entry.tries += 1
                entry.not_before = this.clock.now() + min(2.0 ** min(entry.tries, 10), LONGEST_PAUSE)
                batch.put(key, _encode(entry))
    if more:
        write(name, then)
    elif then is not None:
        then(good)


def _take(name: bytes, again: bool) -> bool:
    """Put this process' name into an entry, unless another process writes or it is not due. ``again``: due in any case."""
    with this.store.batch() as batch:
        value = batch.get(PREFIX + name)
        if value is None:
            return False
        entry = _decode(value)
        if _lives(entry.runner, name) or (not again and entry.not_before > this.clock.now()):
            return False
        entry.runner = _mine()
        batch.put(PREFIX + name, _encode(entry))
    return True


class Sweep:
    """Write everything that is to be written, some at a time."""

    def __init__(self, then: Callable[[], None], *, again: bool = False) -> None:
        """``then`` is called at the end. ``again``: also what has failed a short time ago."""
        self._then, self._again = then, again
        self._start = b""
        self._names: list[bytes] = []
        self._under_way = 0
        self._going = self._ended = False
        self._go_on()

    def _next(self) -> bytes | None:
        if not self._names and not self._ended:
            found = this.store.scan(PREFIX, self._start, _AT_ONCE)
            self._names = [key[len(PREFIX) :] for key, _ in reversed(found)]
            self._ended = len(found) < _AT_ONCE
            if found:
                self._start = found[-1][0] + b"\0"
        return self._names.pop() if self._names else None

    def _go_on(self) -> None:
        if self._going:  # a write that ended at once
            return
        self._going = True
        while self._under_way < _AT_ONCE:
            name = self._next()
            if name is None:
                break
            if _take(name, self._again):
                self._under_way += 1
                write(name, self._done)
        self._going = False
        if not self._under_way and not self._names and self._ended:
            self._then()

    def _done(self, good: bool) -> None:
        self._under_way -= 1
        self._go_on()


def write_all_now() -> None:
    """The server stops: write what is left, waiting for it. Raises DatabaseError."""
    for key, value in this.store.scan(PREFIX):
        for statement in _statements(key[len(PREFIX) :], _decode(value)):
            Writing.database().read(statement)
        this.store.delete(key)
