"""What is to be done once a change has been stored, by whichever process lives to do it (a transactional outbox).

An item is stored in the same batch as the change that it follows from, so there is one exactly if the change has been made. The
process that made it delivers it as soon as it holds no lock, notes that in shared memory, and deletes it. If the process dies
before it has noted it, the timer process finds the item and delivers it *again*: then the first delivery may have taken place,
wholly or not at all, and only the module can find out (ask the database whether the row is there). So an item is delivered at
least once, and exactly once by a handler that looks when it is told ``again``, or whose work is done at once, but for the
few microseconds between its end and the note.

::

    records = Outbox(module, Record)

    @records.deliver
    def write(record: Record, again: bool) -> Operation | int | None: ...

A delivery that fails (a negative return code, no end within 30 seconds, or an exception, which is logged) is tried again after a
second, two, four, up to a minute, for ``patience`` seconds, or until the shared store is three quarters full; then it is given
up, and the log says what was lost. When the server stops, deliveries under way are waited for, and the last process tries once
more what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ipc.prefixes import prefix
from ipc.store import StoreError
from opensips_py.engine.background import Background
from opensips_py.engine.operation import Done, Operation
from opensips_py.script.declarations import Module
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

if TYPE_CHECKING:
    from ipc.counters import SlotStatus

T = TypeVar("T")

PREFIX = prefix(b"o", "what is to be done once a change is stored", __name__)
SWEEP_AT_ONCE = 500
"""Items that one sweep looks at; the next one goes on after them."""
TRY_SECONDS = 30.0
"""How long one try may take."""
LAST_AT_ONCE = 10_000
"""Items that are tried once more when the server stops."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most."""

Row = tuple[bytes, bytes]
"""Key and value of a stored item."""

Deliver = Callable[[T, bool], Operation | int | None]
"""``deliver(item, again)``: an operation whose return code counts, a return code, or None for 1."""


class _Item(msgspec.Struct, array_like=True):
    """An item as it is stored."""

    box: str
    data: bytes
    posted: float
    """this.clock.now(), as the next one."""
    not_before: float
    tries: int
    """How often its delivery has been begun."""
    runner: tuple[int, int] | None
    """Slot and incarnation of the process that delivers it; None while it waits for another try."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Item).decode

boxes: dict[str, Outbox[Any]] = {}
"""Every outbox that is declared, by name."""


class Outbox(Generic[T]):
    """Items of one kind, and how they are delivered."""

    def __init__(self, module: Module, kind: type[T], *, name: str = "", patience: float = 3600.0) -> None:
        """``name``: of this outbox, when the module has several. ``patience``: seconds for which a delivery is tried."""
        self.name = f"{module.name}.{name}" if name else module.name
        self.patience = patience
        self._owner = module
        other = boxes.get(self.name)
        if other is not None and other._owner is module:
            raise ValueError(f"module {module.name} has an outbox already: give the second one a name")
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._deliver: Deliver[T] | None = None
        boxes[self.name] = self

    def deliver(self, call: Deliver[T]) -> Deliver[T]:
        """Declare how an item is delivered. The handler must not block: what takes time is an Operation."""
        self._deliver = call
        return call

    def row(self, item: T) -> Row:
        """The item as an entry to be stored with the change; whoever has stored it calls :func:`deliver`."""
        now = this.clock.now()
        return _new_key(), _encode(_Item(self.name, _encode(item), now, now, 1, (this.slot, this.incarnation)))

    def post(self, item: T) -> None:
        """Store an item by itself and deliver it."""
        row = self.row(item)
        this.store.put(*row)
        deliver(*row)

    def run(self, item: _Item) -> Operation | int | None:
        """Begin the delivery of an item."""
        if self._deliver is None:
            raise RuntimeError(f"nothing is declared that delivers what module {self.name} posts")
        return self._deliver(self._decode(item.data), item.tries > 1)


class Noted:
    """What this process has delivered last; the attendant reads it when the process has died."""

    row: SlotStatus | None = None
    """Status row of this process; None in one that is not supervised."""

    @staticmethod
    def key(number: int) -> bytes:
        """The item that a process had noted."""
        return PREFIX + number.to_bytes(8, "big")


_number = 0


def _new_key() -> bytes:
    """A key that no other process makes, and none before: microseconds, and the slot. Items are in the order of their making."""
    global _number
    _number = max(_number + 1, int(this.clock.now() * 1e6))
    return PREFIX + ((_number << 10 | this.slot & 0x3FF) & 0x7FFFFFFFFFFFFFFF).to_bytes(8, "big")


def deliver(key: bytes, value: bytes) -> None:
    """Deliver a stored item that says that this process delivers it."""
    item = _decode(value)
    box = boxes.get(item.box)
    if box is None:
        log(ERROR, "core", "outbox", f"nobody delivers what {item.box} has posted any more: it is deleted")
        this.store.delete(key)
        return
    try:
        outcome = box.run(item)
    except Exception as error:
        report_error(error, f"outbox of {item.box}")
        outcome = -1
    if isinstance(outcome, Operation):
        under_way.add(key)
        if outcome.deadline is None:
            outcome.deadline = this.clock.now() + TRY_SECONDS
        try:
            Background(outcome, lambda done: _delivered(box, key, item, done))
        except Exception as error:
            report_error(error, f"outbox of {item.box}")
            _delivered(box, key, item, Done(-1))
    else:
        _delivered(box, key, item, Done(1 if outcome is None else outcome))


under_way: set[bytes] = set()
"""Keys of the items that this process is delivering."""


def _delivered(box: Outbox[Any], key: bytes, item: _Item, done: Done) -> None:
    under_way.discard(key)
    now = this.clock.now()
    try:
        if done.rc >= 0:
            if Noted.row is not None:
                Noted.row.delivered = int.from_bytes(key[1:], "big")
            this.store.delete(key)
        elif now >= item.posted + box.patience or this.store.is_filling:
            _lose(key, item)
        else:
            item.runner = None
            item.not_before = now + min(2.0 ** (item.tries - 1), LONGEST_PAUSE)
            this.store.put(key, _encode(item))
    except StoreError as error:  # the item stays as it is, and is delivered again when this process is gone
        report_error(error)


def _lose(key: bytes, item: _Item) -> None:
    this.store.delete(key)
    what = msgspec.msgpack.decode(item.data)
    log(ERROR, "core", "outbox", f"given up after {item.tries} tries, and lost: {item.box} {what}")


def take(key: bytes, *, last: bool = False) -> None:
    """Deliver an item that is left, unless another process does or it is not due. ``last``: in any case."""
    with this.store.batch() as batch:
        value = batch.get(key)
        if value is None:
            return
        item = _decode(value)
        if not last and ((item.runner is not None and _lives(item.runner)) or item.not_before > this.clock.now()):
            return
        item.runner = (this.slot, this.incarnation)
        item.tries += 1
        value = _encode(item)
        batch.put(key, value)
    deliver(key, value)


class _Place:
    """Where the next sweep begins."""

    start = PREFIX


def sweep() -> None:
    """Deliver what is due again, and what was left by processes that died. For the timer process, once a second."""
    found = this.store.scan(PREFIX, start=_Place.start, limit=SWEEP_AT_ONCE)
    _Place.start = found[-1][0] + b"\0" if len(found) == SWEEP_AT_ONCE else PREFIX
    now = this.clock.now()
    for key, value in found:
        try:
            item = _decode(value)
        except msgspec.MsgspecError as error:
            report_error(error, "outbox: an item that cannot be read is deleted")
            this.store.delete(key)
            continue
        if item.not_before <= now and (item.runner is None or not _lives(item.runner)):
            take(key)


def finish(seconds: float, then: Callable[[], None]) -> None:
    """The server stops, and no other process delivers any more: try what is left once more, for so long, and say what is lost.

    ``then`` is called at the end.
    """
    deadline = this.clock.now() + seconds
    for key, _ in this.store.scan(PREFIX, limit=LAST_AT_ONCE):
        if key not in under_way:
            try:
                take(key, last=True)
            except Exception as error:  # of one item: the others wait behind it
                report_error(error, "outbox")

    def look() -> None:
        if under_way and this.clock.now() < deadline:
            this.reactor.call_at(this.clock.now() + 0.02, look)
            return
        try:
            for key, value in this.store.scan(PREFIX):
                try:
                    _lose(key, _decode(value))
                except msgspec.MsgspecError as error:
                    report_error(error, "outbox: an item that cannot be read is lost")
        finally:
            then()

    look()


def _lives(runner: tuple[int, int]) -> bool:
    return bool(this.counters.status(runner[0]).incarnation == runner[1])
