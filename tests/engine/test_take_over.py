"""An operation that is given back and forth between processes which are stuck in turn: one drives it, none keeps the old one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.engine import engine
from opensips_py.engine import parked as parking
from opensips_py.engine.engine import Engine
from opensips_py.engine.operation import LOST, Done, Operation
from opensips_py.script.parameters import Settings
from opensips_py.server.process import this


class Waiting(Operation):
    """An operation whose descriptor never becomes readable."""

    name = "waiting"

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def start(self) -> Done | None:
        return None

    def fileno(self) -> int:
        return self.fd

    def advance(self) -> Done | None:
        return None

    def freeze(self) -> bytes:
        return b""

    def fds(self) -> list[int]:
        return [self.fd]

    def forget(self) -> None:
        os.close(self.fd)

    def close(self) -> None:
        os.close(self.fd)

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        return cls(fds[0])


class Search(Waiting):
    """One that may be done twice: without its descriptor it begins again, with a later deadline of its own."""

    name = "search"
    repeatable = True
    begun = 0

    def start(self) -> Done | None:
        Search.begun += 1
        return None

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        assert not fds or not journal
        op = cls(fds[0] if fds else _open())
        op.deadline = this.clock.now() + 60
        return op


class Loop:
    """A reactor in which nothing happens."""

    running = True

    def __init__(self) -> None:
        self.watched: list[int] = []

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None:
        self.watched.append(fd)

    def remove(self, fd: int, callback: object = None) -> None:
        self.watched.remove(fd)

    def call_at(self, when: float, callback: Callable[[], None]) -> float:
        self.due = when
        return when

    def cancel(self, handle: object) -> None:
        pass


class Receiver:
    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.status = SimpleNamespace(busy_since_ns=1, epoch=0, parked=0)
        self.loop = Loop()
        self.engine = self.run(lambda: Engine(self.status))

    def run(self, work: Callable[[], Any]) -> Any:
        """Do something in this process."""
        this.slot, this.incarnation, this.reactor = self.slot, 1, self.loop  # type: ignore[assignment]
        return work()

    def drives(self, token: bytes) -> bool:
        return bool(self.run(lambda: self.engine.drives(token)))

    def take(self, token: bytes, owner: bytes, fd: int | None) -> None:
        self.run(lambda: self.engine.take_over(token, owner, [] if fd is None else [fd]))

    def taken_to_be_stuck(self) -> None:
        """What the attendant does before it looks for the operations of this process."""
        self.status.epoch += 1
        self.status.parked = 0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LmdbStore]:
    made = LmdbStore.create(str(tmp_path), 32 << 20)
    for name in ("slot", "incarnation", "reactor"):
        monkeypatch.setattr(this, name, None, raising=False)
    monkeypatch.setattr(this, "store", made, raising=False)
    monkeypatch.setattr(this, "fd_keeper", SimpleNamespace(keep=lambda *_: None, drop=lambda *_: None), raising=False)
    monkeypatch.setattr(engine, "observers", [])
    monkeypatch.setitem(Operation.registry, Waiting.name, Waiting)
    monkeypatch.setitem(Operation.registry, Search.name, Search)
    yield made
    made.close()


def _open() -> int:
    """A descriptor, to be closed by whom it is given to."""
    return os.open(os.devnull, os.O_RDONLY)


def _park(receiver: Receiver, fd: int, operation: type[Waiting] = Waiting, deadline: float | None = None) -> bytes:
    op = operation(fd)
    op.deadline = deadline
    token: bytes = receiver.run(lambda: receiver.engine._park(None, op, "launch", None, None, None, "here", None)).token
    return token


def _owner(store: LmdbStore, token: bytes) -> bytes:
    return parking.pack_owner(parking.decode(store.get(parking.PREFIX + token) or b""))


def test_who_hears_too_late_that_an_operation_was_given_to_it_leaves_it_alone(store: LmdbStore) -> None:
    one, other = Receiver(1), Receiver(2)
    token = _park(one, _open())
    one.taken_to_be_stuck()
    to_other = _owner(store, token)
    other.taken_to_be_stuck()  # before it has read that
    one.take(token, _owner(store, token), new := _open())
    assert one.drives(token)
    other.take(token, to_other, _open())
    assert one.drives(token)
    assert not other.drives(token)
    assert one.loop.watched == [new], "the operation as it was before it was given away is gone"
    assert other.loop.watched == []


def test_of_two_that_were_given_an_operation_the_first_has_it(store: LmdbStore) -> None:
    dead, one, other = Receiver(1), Receiver(2), Receiver(3)
    token = _park(dead, _open())
    owner = _owner(store, token)
    one.take(token, owner, _open())
    other.take(token, owner, _open())
    assert one.drives(token)
    assert not other.drives(token)


def test_one_that_cannot_be_read_is_lost_and_nothing_waits_for_it(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, one = Receiver(1), Receiver(2)
    token = _park(dead, _open())

    def unreadable(*arguments: object) -> Operation:
        raise ValueError("not what it was")

    monkeypatch.setattr(Waiting, "thaw", unreadable)
    fd = _open()
    one.take(token, _owner(store, token), fd)
    assert not one.drives(token)
    assert store.get(parking.PREFIX + token) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_is_parked_by_a_process_that_is_taken_to_be_stuck_meanwhile_is_not_lost(store: LmdbStore) -> None:
    receiver = Receiver(1)
    running = receiver.run(lambda: receiver.engine._running_of(None, Waiting(_open()), "launch", None, None, None, "here", None))
    receiver.taken_to_be_stuck()  # it waits for the store, where nobody can see the operation yet
    store.put(*running.entry())
    receiver.run(lambda: receiver.engine._parked(running))
    assert receiver.drives(running.token)
    # if it has been seen after all, it is another's
    later = receiver.run(lambda: receiver.engine._running_of(None, Waiting(_open()), "launch", None, None, None, "here", None))
    store.put(*later.entry())
    receiver.taken_to_be_stuck()
    other = Receiver(2)
    other.take(later.token, _owner(store, later.token), _open())
    receiver.run(lambda: receiver.engine._parked(later))
    assert not receiver.drives(later.token)
    assert other.drives(later.token)


def test_what_has_read_more_than_the_store_is_to_hold_is_not_handed_over(
    store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MOST_JOURNALED", 1000)
    program = SimpleNamespace(settings=Settings(), locate=lambda error: None)
    monkeypatch.setattr(this, "program", program, raising=False)
    one = Receiver(1)
    small, big = _park(one, _open()), _park(one, _open())

    def read(token: bytes, size: int) -> None:
        journal = one.engine._running[token].op.journal
        assert journal is not None
        one.run(lambda: journal(bytes(size)))

    read(small, 400)
    for _ in range(5):
        read(big, 300)  # 1,000 bytes are not exceeded by 400 + 2 * 300
    rows = {token: sum(len(data) for _, data in store.scan(parking.JOURNAL + token)) for token in (small, big)}
    assert rows == {small: 400, big: 0}, "incomplete, it would be taken for what has come"
    done: list[int] = []
    other = Receiver(2)
    monkeypatch.setattr(engine, "report", lambda result, route, text: done.append(result.rc))
    one.taken_to_be_stuck()
    other.take(small, _owner(store, small), _open())
    other.take(big, _owner(store, big), _open())
    assert done == [LOST]
    assert other.drives(small)
    read_before = one.engine._journaled
    one.drives(small)  # it lets go
    assert (read_before, one.engine._journaled) == (400, 0)


def test_without_its_descriptor_an_operation_begins_again_where_it_may(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(engine, "report", lambda result, route, text: done.append(result.rc))
    one, other = Receiver(1), Receiver(2)
    old_deadline = this.clock.now() + 5
    search, change = _park(one, _open(), Search, old_deadline), _park(one, _open())
    begun = Search.begun
    one.taken_to_be_stuck()
    for token in (search, change):
        other.take(token, _owner(store, token), None)
    assert Search.begun == begun + 1
    assert other.drives(search) and not one.drives(search)
    assert other.loop.due == old_deadline, "it has no more time than it had"
    assert done == [LOST] and not other.drives(change)
