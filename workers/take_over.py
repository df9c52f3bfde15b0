"""The attendant's side of taking operations over; the law is at the head of :mod:`opensips_py.engine.take_over`.

The attendant looks at the status rows of its processes (:meth:`TakeOver.look`, :meth:`TakeOver.look_for_stopped`), decides who
is stuck, and gives the operations of the stuck, the stopped and the dead to receivers that are well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from ipc.descriptors import LONGEST
from ipc.store import Store
from opensips_py.engine import parked as parking
from opensips_py.engine.parked import OWNER_SIZE, TOKEN_SIZE, ParkedHead
from opensips_py.engine.take_over import Name, leaves, owner_of, stuck_key
from opensips_py.server.log import NOTICE, WARNING, log
from opensips_py.server.process import this
from workers.linux import is_runnable, is_stopped

STUCK_SECONDS = 0.06
"""A receiver that has been in one callback for longer loses its parked operations to the others."""
STUCK_SECONDS_EACH = 20e-6
"""So much longer for each of its operations: giving many away costs the others more than a short wait costs anybody."""
RUNNING_SECONDS = 0.3
"""The same for one that computes, or would if it got a processor: on a busy machine it is not stuck."""
TOLD_SECONDS = 5.0
"""How long a receiver may take to answer transactions of a dead one, at most."""
STOPPED_LOOKS = 2
"""How often in a row a process must be found stopped: a profiler stops processes for moments."""
OPERATIONS = (LONGEST - 1) // (TOKEN_SIZE + OWNER_SIZE)
"""Operations without descriptors that are given away in one message."""


class Status(Protocol):
    """What is read and written in a process' row (:class:`ipc.counters.SlotStatus`)."""

    busy_since_ns: int
    epoch: int
    parked: int


class Descriptors(Protocol):
    """The attendant's store of descriptors (:class:`ipc.descriptors.FdStore`)."""

    def drain(self) -> bool: ...

    def rename(self, key: str, new: str, /) -> None: ...

    def get(self, key: str, /) -> list[int]: ...

    def hand_over(self, slot: int, message: bytes, fds: list[int], /) -> object: ...


class Worker(Protocol):
    """A living process."""

    pid: int
    interrupted: list[tuple[float, bytes]]
    """Transactions that it was told to answer, and when: should it die before it has, another is told."""
    stopped: int
    """How often in a row it has been found to be stopped."""

    @property
    def name(self) -> Name: ...

    @property
    def status(self) -> Status: ...

    @property
    def receives(self) -> bool: ...


W = TypeVar("W", bound=Worker)


class Ledger:
    """Which operations have been given to whom, until the takers have written themselves into the store."""

    def __init__(self) -> None:
        self._given: dict[bytes, tuple[Name, bytes]] = {}
        """By token: taker, and (packed) the owner from whom it was taken."""

    def __len__(self) -> int:
        return len(self._given)

    def takers(self) -> set[Name]:
        """Who has been given something that it may not have taken yet."""
        return {taker for taker, _ in self._given.values()}

    def taker(self, token: bytes, record: ParkedHead) -> Name | None:
        """To whom the operation was given; None when it was not, or when somebody has taken it."""
        taker, owner = self._given.get(token, (None, b""))
        return taker if owner == parking.pack_owner(record) else None

    def give(self, token: bytes, record: ParkedHead, taker: Name) -> bytes:
        """Note a gift; what the taker is told of it."""
        owner = parking.pack_owner(record)
        self._given[token] = taker, owner
        return token + owner

    def tokens(self) -> set[bytes]:
        """The operations that have been given away."""
        return set(self._given)

    def forget(self, tokens: Iterable[bytes]) -> None:
        """These operations are no longer on their way to anybody."""
        for token in tokens:
            del self._given[token]

    def settle(self, entry: Callable[[bytes], bytes | None]) -> None:
        """Forget the gifts that have been taken; ``entry`` gives what the store has under a key."""
        for token in self.tokens():
            raw = entry(parking.PREFIX + token)
            if raw is None or self.taker(token, parking.decode_head(raw)) is None:
                del self._given[token]

    def holder(self, token: bytes, record: ParkedHead, alive: Collection[Name], epoch: int) -> Name:
        """Who drives the operation. ``epoch``: the present one in the slot of its owner."""
        owner = owner_of(record)
        if owner in alive and record.epoch == epoch:
            return owner
        return self.taker(token, record) or owner


def is_stuck(status: Status, now: int, runnable: Callable[[], bool]) -> bool:
    """Whether a process has been in one callback (``now``: this.clock.ticks()) for longer than its operations can wait."""
    busy = status.busy_since_ns
    limit = STUCK_SECONDS + status.parked * STUCK_SECONDS_EACH
    if not busy or now - busy <= limit * 1e9:
        return False
    return now - busy >= max(limit, RUNNING_SECONDS) * 1e9 or not runnable()


class TakeOver(Generic[W]):
    """Who has what, and who gets it next.

    ``own`` is the attendant's row: receivers that drain end when nobody has anything parked, and this row says so of what is
    on its way to them. ``epoch`` gives the present epoch of a slot, ``workers`` the living processes.
    """

    def __init__(
        self,
        store: Store,
        descriptors: Descriptors,
        own: Status,
        epoch: Callable[[int], int],
        workers: Callable[[], Sequence[W]],
    ) -> None:
        self._store, self._descriptors, self._own, self._epoch, self._workers = store, descriptors, own, epoch, workers
        self.ledger = Ledger()
        self.stopping = False
        """The server ends."""
        self.homeless = False
        """There was nobody to whom operations could be given."""
        self.interrupted: list[bytes] = []
        """Transactions whose script died with its process, to be answered by another."""

    def alive(self) -> set[Name]:
        """The living processes."""
        return {worker.name for worker in self._workers()}

    def receivers(self, but: Name | None = None) -> list[W]:
        """Receivers that can take work: alive, and neither stuck nor stopped themselves."""
        limit = this.clock.ticks() - int(STUCK_SECONDS * 1e9)
        found = []
        for worker in self._workers():
            if worker.receives and worker.name != but:
                busy = worker.status.busy_since_ns
                if (busy == 0 or busy > limit) and not is_stopped(worker.pid):
                    found.append(worker)
        return found

    # --- from whom ----------------------------------------------------------------------------------------------

    def has_died(self, worker: W, unsettled: bytes | None) -> None:
        """Give its work to others. ``unsettled``: the transaction whose script it was running."""
        if unsettled is not None:
            self.interrupted.append(unsettled)
        lately = this.clock.now() - TOLD_SECONDS
        self.interrupted += [key for told, key in worker.interrupted if told > lately]
        self.from_dead()

    def from_dead(self) -> None:
        """Give away what no living process drives, the transactions that died with a script first."""
        receivers = self.receivers()
        now = this.clock.now()
        while receivers and self.interrupted:
            key = self.interrupted.pop()
            taker = receivers[0]
            taker.interrupted = [entry for entry in taker.interrupted if entry[0] > now - TOLD_SECONDS]
            taker.interrupted.append((now, key))
            self._descriptors.hand_over(taker.name.slot, b"T" + key, [])
        alive = self.alive()

        def lost(token: bytes, record: ParkedHead) -> bool:
            return record.node == this.node and self.ledger.holder(token, record, alive, self._epoch(record.owner)) not in alive

        self._give(lost)
        self._tell_what_is_under_way()

    def look(self) -> bool:
        """Find processes that are stuck in one callback while operations of theirs wait; False when none has any."""
        waiting = False
        takers = self.ledger.takers()
        for worker in list(self._workers()):
            if worker.status.parked or worker.name in takers:
                waiting = True
                busy = worker.status.busy_since_ns
                if is_stuck(worker.status, this.clock.ticks(), partial(is_runnable, worker.pid)):
                    self.from_stuck(worker, busy)
        return waiting

    def look_for_stopped(self) -> None:
        """A process that is stopped while it waits for work looks well, but what it waits for passes it by."""
        self.settle()
        takers = self.ledger.takers()
        for worker in list(self._workers()):
            before, worker.stopped = worker.stopped, worker.stopped + 1 if is_stopped(worker.pid) else 0
            if worker.stopped == STOPPED_LOOKS:
                log(WARNING, "core", "handle_sigs", f"process {worker} is stopped")
            elif before >= STOPPED_LOOKS > worker.stopped:
                log(NOTICE, "core", "handle_sigs", f"process {worker} goes on")
            waits = (worker.status.parked or worker.name in takers) and not worker.status.busy_since_ns
            if waits and worker.stopped >= STOPPED_LOOKS:
                self.from_stuck(worker, 0)

    def from_stuck(self, worker: W, busy: int) -> None:
        """Give its operations to others. ``busy``: since when it has been in its callback; 0: it is stopped while it waits."""
        if not self.receivers(but=worker.name):
            return
        epoch = self._move_epoch(worker, busy)
        if epoch is None:
            return
        if busy:
            log(WARNING, "core", "async", f"process {worker} has been busy for {(this.clock.ticks() - busy) / 1e6:.0f} ms")

        def lost(token: bytes, record: ParkedHead) -> bool:
            # the second: it has not even read that it was given the operation
            return leaves(record, worker.name, epoch) or self.ledger.taker(token, record) == worker.name

        self._give(lost, but=worker.name)
        self._tell_what_is_under_way()

    def _move_epoch(self, worker: W, busy: int) -> int | None:
        """The new epoch; None when the process is not stuck after all, or what it is doing cannot be told."""
        status = worker.status
        key = stuck_key(worker.name.slot)
        if not self._store.try_lock(key):  # stopped while it takes something over: waiting for it could be for ever
            return None
        try:
            status.epoch += 1
            epoch = status.epoch
            time.sleep(0.001)  # lets a write that the process was just making become visible
            if status.busy_since_ns != busy:  # it came back by itself: it must not see the new epoch
                status.epoch -= 1
                return None
            self._own.parked += 1  # receivers must not end for want of work before it has been given to them
            status.parked = 0
        finally:
            self._store.unlock(key)
        return epoch

    # --- to whom ------------------------------------------------------------------------------------------------

    def _give(self, lost: Callable[[bytes, ParkedHead], bool], but: Name | None = None) -> None:
        """Give every parked operation that is ``lost`` to a receiver other than ``but``."""
        self._descriptors.drain()
        receivers = self.receivers(but)
        self.homeless = not receivers
        if not receivers:
            return  # the next receiver that comes up gets them
        gone = self.ledger.tokens()
        without_fds: dict[int, list[bytes]] = {}  # by slot
        count = ended = 0
        for token, record in parking.every(self._store):
            if lost(token, record):
                ended += parking.interrupted(record)
                taker = receivers[count % len(receivers)].name
                count += 1
                gift = self.ledger.give(token, record, taker)
                if record.fd_key is not None:  # from now on the connection belongs to this operation, not to a pool
                    self._descriptors.rename(record.fd_key, parking.fd_key(token))
                fds = self._descriptors.get(parking.fd_key(token))
                if fds:
                    self._descriptors.hand_over(taker.slot, b"P" + gift, fds)
                else:
                    without_fds.setdefault(taker.slot, []).append(gift)
            elif self.ledger.taker(token, record) is None:
                continue
            gone.discard(token)
        self.ledger.forget(gone)
        for slot, gifts in without_fds.items():
            for n in range(0, len(gifts), OPERATIONS):
                self._descriptors.hand_over(slot, b"M" + b"".join(gifts[n : n + OPERATIONS]), [])
        if count > ended:
            log(NOTICE, "core", "async", f"{count - ended} parked operations go on in another process")
        if ended:
            log(NOTICE, "core", "async", f"{ended} scripts in await() are lost, their requests are answered 500")

    def settle(self) -> None:
        """Operations that were given away are their takers' once those have written themselves into the store."""
        self.ledger.settle(self._store.get)

    # --- the end of the server ----------------------------------------------------------------------------------

    def end(self) -> None:
        """Receivers drain: from now on the attendant's row tells them what is on its way to them."""
        self.stopping = True
        self._tell_what_is_under_way()

    def look_at_end(self) -> None:
        """To be called now and then while receivers drain."""
        self.settle()
        if self.homeless or self.interrupted:
            self.from_dead()
        self._tell_what_is_under_way()

    def unanswered(self) -> int:
        """How many operations and transactions nobody is left to answer."""
        self._own.parked = 0
        return sum(record.node == this.node for _, record in parking.every(self._store)) + len(self.interrupted)

    def _tell_what_is_under_way(self) -> None:
        self._own.parked = len(self.ledger) + len(self.interrupted) + self.homeless if self.stopping else 0
