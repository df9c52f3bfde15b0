"""Who may take a parked operation from whom: the law, and what each process has to do with it.

1. An operation belongs to the process that its entry in the store names: node (which server), slot, incarnation (which
   holder of that slot) and epoch. Only its owner drives it.
2. Only the attendant of its node takes operations away: from a process that has died, from one that has been in one callback
   for too long, and from one that is stopped. ``bound`` operations leave their process only when it dies.
3. Before it takes anything from a process that lives, the attendant moves that process' epoch. What was parked under an
   older epoch is taken; what the process parks afterwards is its own. A process compares epochs before it touches an
   operation, and lets go of the older ones when its epoch has moved.
4. A gift names the owner from whom the operation was taken. A taker may write itself into the entry as long as that still
   names this owner: of two takers the first has it, and one that hears of it too late leaves it alone.
5. Until the taker has done so only the attendant knows of the gift. When the taker dies, or gets stuck itself, the same
   operation is given to another one.
6. Process and attendant decide under one lock for each slot (:func:`stuck_key`). The process writes ``busy_since_ns`` before
   it reads its epoch; the attendant moves the epoch before it reads ``busy_since_ns`` again. So one of them sees the other: the
   process has lost its operations, or the attendant puts the epoch back.
7. Whatever has gone wrong until then: who deletes the entry (``Store.claim``) runs the route, and nobody else.

Here are the rules as functions, and :class:`Tenure`, a process' side of 3, 4 and 6. The attendant's side is
``workers/take_over.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol

from opensips_py.engine import parked as parking
from opensips_py.engine.lost_operation import LostOperation, close_all
from opensips_py.engine.operation import Operation, earliest
from opensips_py.engine.parked import Parked, ParkedHead
from opensips_py.server.guard import report_error
from opensips_py.server.process import this


class Name(NamedTuple):
    """A process, among those of all servers that may read an entry."""

    node: int
    slot: int
    incarnation: int


class Status(Protocol):
    """What a process and the attendant tell each other in shared memory (:class:`ipc.counters.SlotStatus`)."""

    busy_since_ns: int
    epoch: int
    parked: int


def stuck_key(slot: int) -> bytes:
    """Name of the lock under which a take-over of the process in ``slot`` is decided."""
    return b"stuck" + slot.to_bytes(2, "big")


def owner_of(record: ParkedHead) -> Name:
    """The process that the entry names."""
    return Name(record.node, record.owner, record.incarnation)


def leaves(record: ParkedHead, name: Name, epoch: int) -> bool:
    """Whether the operation is taken from process ``name``, whose epoch has just been moved to ``epoch``."""
    return owner_of(record) == name and record.epoch < epoch and not record.bound


def may_take(entry: bytes | None, owner: bytes) -> bool:
    """Whether a process to which an operation of ``owner`` (packed) was given may write itself into its entry."""
    return entry is not None and parking.pack_owner(parking.decode_head(entry)) == owner


def thawed(record: Parked, fds: list[int], journal: bytes) -> Operation:
    """The operation as its process has left it. If its descriptors are gone, or what was read of them, it begins again when it
    is repeatable, and is lost otherwise: what waits for it must not wait for ever.

    ``fds`` is emptied when the operation does not have them.
    """
    operation = Operation.registry[record.function]
    whole = not record.lost and (fds or not (record.has_fds or record.fd_key is not None))
    try:
        if whole:
            return operation.thaw(record.operation, fds, journal)
        close_all(fds)
        fds.clear()
        again = operation.thaw(record.operation, fds, b"")
        if again.repeatable:
            record.limit = earliest(record.limit, record.deadline)
            return again
        again.forget()
    except Exception as error:
        report_error(error, record.where)
        close_all(fds)
        fds.clear()
    return LostOperation()


class Tenure:
    """By what right a process drives its operations: the epoch in which it last looked."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._epoch = status.epoch
        self.lock: Callable[[], AbstractContextManager[None]] = _nothing
        """The lock under which the attendant decides on a take-over of this process."""

    def holds(self) -> bool:
        """False when the attendant has moved the epoch, or is about to. Tells it that this process is not stuck."""
        self._status.busy_since_ns = this.clock.ticks()
        return self._status.epoch == self._epoch

    def ended(self) -> int | None:
        """The new epoch, once, when operations with an older one have been taken away; None when nothing has changed."""
        if self._status.epoch == self._epoch:
            return None
        with self.lock():
            epoch = self._status.epoch
        if epoch == self._epoch:  # the attendant saw that we are alive after all
            return None
        self._epoch = epoch
        return epoch

    def take(self, token: bytes, owner: bytes, record: Parked) -> bool:
        """Write this process into the entry of an operation that was taken from ``owner``; False when it is another's."""
        key = parking.PREFIX + token
        # should the attendant be about to take it from this process too, it sees this entry or this process sees its epoch
        with self.lock():
            record.node = this.node
            record.owner, record.incarnation, record.epoch = this.slot, this.incarnation, self._status.epoch
            with this.store.batch() as batch:
                mine = may_take(batch.get(key), owner)
                if mine:
                    batch.put(key, parking.encode(record))
        return mine

    def renew(self, token: bytes, record: Parked) -> bool:
        """Give an entry the present epoch: it was stored while the attendant looked, which may not have seen it.

        False when it has been seen after all, and is another's.
        """
        key = parking.PREFIX + token
        with self.lock():
            epoch = self._status.epoch
            with this.store.batch() as batch:
                entry = batch.get(key)
                if entry is None or not may_take(entry, parking.pack_owner(record)):
                    return False
                stored = parking.decode(entry)
                stored.epoch = epoch
                batch.put(key, parking.encode(stored))
            record.epoch = epoch
        return True


@contextmanager
def _nothing() -> Iterator[None]:
    yield
