"""Who gets whose operations: the law of engine/take_over.py, situation by situation, without a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.engine import parked as parking
from opensips_py.engine.parked import OWNER_SIZE, TOKEN_SIZE, Parked
from opensips_py.engine.take_over import Name, Tenure, may_take, stuck_key
from opensips_py.server.process import this
from workers import take_over
from workers.take_over import RUNNING_SECONDS, STOPPED_LOOKS, STUCK_SECONDS, TakeOver, is_stuck

NODE = 7


class Worker:
    """A process that is not there."""

    def __init__(self, slot: int, incarnation: int = 1) -> None:
        self.name = Name(this.node, slot, incarnation)
        self.pid = slot * 1000
        self.receives = True
        self.interrupted: list[tuple[float, bytes]] = []
        self.stopped = 0
        self.status = SimpleNamespace(busy_since_ns=0, epoch=0, parked=0)

    def __str__(self) -> str:
        return f"worker {self.name}"

    def is_in_a_callback_for(self, seconds: float) -> None:
        self.status.busy_since_ns = this.clock.ticks() - int(seconds * 1e9)


class World:
    """An attendant with its workers: what it hands over lies in ``sent`` until somebody reads it."""

    def __init__(self, store: LmdbStore) -> None:
        self.store = store
        self.workers = [Worker(1), Worker(2), Worker(3)]
        self.own = SimpleNamespace(busy_since_ns=0, epoch=0, parked=0)
        self.sent: list[tuple[int, bytes, list[int]]] = []
        self.descriptors: dict[str, list[int]] = {}
        self.stopped: set[int] = set()
        self.runnable: set[int] = set()
        self.tokens: dict[int, parking.Tokens] = {}
        self.taking = TakeOver(store, self, self.own, lambda slot: self.worker(slot).status.epoch, lambda: self.workers)

    def worker(self, slot: int) -> Worker:
        return next(worker for worker in self.workers if worker.name.slot == slot)

    # what the attendant's store of descriptors does

    def drain(self) -> bool:
        return False

    def rename(self, key: str, new: str) -> None:
        self.descriptors[new] = self.descriptors.pop(key)

    def get(self, key: str) -> list[int]:
        return self.descriptors.get(key, [])

    def hand_over(self, slot: int, message: bytes, fds: list[int]) -> None:
        self.sent.append((slot, message, fds))

    # what happens

    def parks(self, slot: int, **told: Any) -> bytes:
        """The worker in ``slot`` parks an operation; its token."""
        worker = self.worker(slot)
        token = self.tokens.setdefault(slot, parking.Tokens(*worker.name)).next()
        values: dict[str, Any] = {
            "function": "f", "route": None, "mode": "launch", "started": 0.0, "deadline": None, "fd_key": None, "has_fds": False,
            "owner": slot, "incarnation": worker.name.incarnation, "node": this.node, "epoch": worker.status.epoch,
        }  # fmt: skip
        self.store.put(parking.PREFIX + token, parking.encode(Parked(**(values | told))))
        worker.status.parked += 1
        return token

    def dies(self, slot: int) -> None:
        dead = self.worker(slot)
        self.workers[self.workers.index(dead)] = Worker(slot, dead.name.incarnation + 1)
        self.worker(slot).receives = False  # the new one is not ready yet
        self.taking.has_died(dead, None)

    def gifts(self) -> list[tuple[int, bytes, bytes]]:
        """Taker, token and former owner of all that was given and is not read yet."""
        found = []
        for slot, message, _ in self.sent:
            if message[:1] in (b"P", b"M"):
                size = TOKEN_SIZE + OWNER_SIZE
                for at in range(1, len(message), size):
                    found.append((slot, message[at : at + TOKEN_SIZE], message[at + TOKEN_SIZE : at + size]))
        self.sent.clear()
        return found

    def takes(self, slot: int, token: bytes, owner: bytes) -> bool:
        """The worker reads that it was given an operation."""
        _, this.slot, this.incarnation = self.worker(slot).name
        raw = self.store.get(parking.PREFIX + token)
        if raw is None or not may_take(raw, owner):
            return False
        return Tenure(self.worker(slot).status).take(token, owner, parking.decode(raw))

    def owner(self, token: bytes) -> int:
        return parking.decode(self.store.get(parking.PREFIX + token) or b"").owner


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    store = LmdbStore.create(str(tmp_path), 32 << 20)
    for name in ("slot", "incarnation"):
        monkeypatch.setattr(this, name, 0, raising=False)
    monkeypatch.setattr(this, "node", NODE)
    made = World(store)
    monkeypatch.setattr(this, "store", store, raising=False)
    monkeypatch.setattr(take_over, "is_stopped", lambda pid: pid in made.stopped)
    monkeypatch.setattr(take_over, "is_runnable", lambda pid: pid in made.runnable)
    yield made
    store.close()


def test_operations_of_the_dead_are_dealt_out_to_the_living(world: World) -> None:
    tokens = {world.parks(1) for _ in range(4)}
    kept = world.parks(2)
    world.dies(1)
    gifts = world.gifts()
    assert {token for _, token, _ in gifts} == tokens
    assert sorted(slot for slot, _, _ in gifts) == [2, 2, 3, 3]
    assert all(world.takes(*gift) for gift in gifts)
    assert world.owner(kept) == 2


def test_what_a_process_of_another_server_has_is_not_given_away(world: World) -> None:
    """It has the slot and the incarnation of a process that has died here, or that never was."""
    world.parks(1, node=NODE + 1)
    world.parks(1, node=NODE + 1, owner=9)
    world.worker(1).is_in_a_callback_for(STUCK_SECONDS * 20)
    world.taking.look()
    assert world.gifts() == []
    own = world.parks(1)
    world.dies(1)
    assert [token for _, token, _ in world.gifts()] == [own]


def test_descriptors_come_along_and_a_pooled_connection_becomes_the_operations_own(world: World) -> None:
    own, pooled, bare = world.parks(1, has_fds=True), world.parks(1, fd_key="mysql:7"), world.parks(1)
    world.descriptors = {parking.fd_key(own): [11], "mysql:7": [12]}
    world.dies(1)
    sent = {message[1 : 1 + TOKEN_SIZE]: (message[:1], fds) for _, message, fds in world.sent}
    assert sent == {own: (b"P", [11]), pooled: (b"P", [12]), bare: (b"M", [])}


def test_what_was_given_to_one_that_dies_before_it_has_taken_it_is_given_again(world: World) -> None:
    token = world.parks(1)
    world.dies(1)
    [(first, _, _)] = world.gifts()
    world.dies(first)
    [(second, again, owner)] = world.gifts()
    assert again == token
    assert second not in (1, first)
    assert world.takes(second, token, owner)


def test_a_gift_that_is_under_way_is_not_given_twice(world: World) -> None:
    world.parks(1)
    world.dies(1)
    assert len(world.gifts()) == 1
    for _ in range(3):
        world.taking.from_dead()
    assert world.gifts() == []


def test_of_two_takers_the_first_has_it(world: World) -> None:
    token = world.parks(1)
    world.dies(1)
    [(first, _, owner)] = world.gifts()
    world.dies(first)
    [(second, _, owner_again)] = world.gifts()
    assert world.takes(second, token, owner_again)
    assert not world.takes(5 - second, token, owner)
    assert world.owner(token) == second


def test_a_gift_is_forgotten_when_it_was_taken_and_when_its_operation_has_ended(world: World) -> None:
    taken, ended, open_still = world.parks(1), world.parks(1), world.parks(1)
    world.dies(1)
    for slot, token, owner in world.gifts():
        if token == taken:
            assert world.takes(slot, token, owner)
    world.store.delete(parking.PREFIX + ended)
    world.taking.settle()
    assert world.taking.ledger.tokens() == {open_still}


def test_with_nobody_to_take_them_operations_wait_for_the_next_receiver(world: World) -> None:
    token = world.parks(1)
    for worker in world.workers[1:]:
        worker.receives = False
    world.dies(1)
    assert world.sent == []
    world.worker(3).receives = True
    world.taking.from_dead()
    assert [(slot, given) for slot, given, _ in world.gifts()] == [(3, token)]


def test_the_stuck_lose_what_they_had_and_keep_what_they_park_afterwards(world: World) -> None:
    token, bound = world.parks(1), world.parks(1, bound=True)
    stuck = world.worker(1)
    stuck.is_in_a_callback_for(1)
    assert world.taking.look()
    assert [given for _, given, _ in world.gifts()] == [token]
    assert (stuck.status.epoch, stuck.status.parked) == (1, 0)
    world.parks(1)
    world.taking.from_dead()
    assert world.gifts() == [], "neither what is new, nor what must stay with its process"
    assert world.owner(bound) == 1


def test_what_was_given_to_one_that_gets_stuck_is_taken_from_it_unread(world: World) -> None:
    token = world.parks(1)
    world.dies(1)
    [(first, _, _)] = world.gifts()
    world.worker(first).is_in_a_callback_for(1)
    world.taking.look()
    assert [(slot, given) for slot, given, _ in world.gifts()] == [(5 - first, token)]


@pytest.mark.parametrize(
    ("busy", "parked", "runnable", "stuck"),
    [
        (0, 10, False, False),
        (STUCK_SECONDS / 2, 1, False, False),
        (STUCK_SECONDS * 1.5, 1, False, True),
        (STUCK_SECONDS * 1.5, 10_000, False, False),
        (STUCK_SECONDS * 1.5, 1, True, False),
        (RUNNING_SECONDS * 1.5, 1, True, True),
    ],
)
def test_who_is_stuck(busy: float, parked: int, runnable: bool, stuck: bool) -> None:
    now = this.clock.ticks()
    status = SimpleNamespace(busy_since_ns=now - int(busy * 1e9) if busy else 0, parked=parked, epoch=0)
    assert is_stuck(status, now, lambda: runnable) is stuck


def _comes_back(world: World) -> Callable[[float], None]:
    def while_the_attendant_looks(seconds: float) -> None:
        world.worker(1).status.busy_since_ns = 0

    return while_the_attendant_looks


def test_one_that_comes_back_while_it_is_decided_on_keeps_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.parks(1)
    tenure = Tenure(world.worker(1).status)
    world.worker(1).is_in_a_callback_for(1)
    monkeypatch.setattr(take_over, "time", SimpleNamespace(sleep=_comes_back(world)))
    world.taking.look()
    assert world.gifts() == []
    assert world.worker(1).status.epoch == 0
    assert tenure.ended() is None
    assert world.owner(token) == 1


def test_what_the_stuck_parks_while_the_attendant_looks_is_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    old = world.parks(1)
    new: list[bytes] = []
    world.worker(1).is_in_a_callback_for(1)

    def parks_another(seconds: float) -> None:
        new.append(world.parks(1))

    monkeypatch.setattr(take_over, "time", SimpleNamespace(sleep=parks_another))
    world.taking.look()
    assert len(new) == 1
    assert [given for _, given, _ in world.gifts()] == [old]


def test_one_that_is_taking_something_over_is_left_alone(world: World) -> None:
    world.parks(1)
    world.worker(1).is_in_a_callback_for(1)

    busy = world.store.try_lock
    asked: list[bytes] = []

    def taken(key: bytes) -> bool:
        asked.append(key)
        return False

    world.store.try_lock = taken
    world.taking.look()
    world.store.try_lock = busy
    assert asked == [stuck_key(1)]
    assert world.gifts() == []
    assert world.worker(1).status.epoch == 0


def test_the_stopped_lose_their_operations_though_they_look_idle(world: World) -> None:
    token = world.parks(1)
    world.stopped.add(world.worker(1).pid)
    for _ in range(STOPPED_LOOKS - 1):
        world.taking.look_for_stopped()
    assert world.gifts() == [], "a profiler stops processes for moments"
    world.taking.look_for_stopped()
    [(slot, given, owner)] = world.gifts()
    assert given == token
    assert world.takes(slot, token, owner)


def test_nobody_gives_to_the_stuck_or_the_stopped(world: World) -> None:
    token = world.parks(1)
    world.stopped.add(world.worker(2).pid)
    world.worker(3).is_in_a_callback_for(1)
    world.dies(1)
    assert world.gifts() == []
    world.stopped.clear()
    world.taking.look_at_end()
    assert [(slot, given) for slot, given, _ in world.gifts()] == [(2, token)]


def test_a_process_learns_once_that_its_epoch_has_moved(world: World) -> None:
    status = world.worker(1).status
    tenure = Tenure(status)
    assert tenure.holds()
    assert tenure.ended() is None
    status.epoch += 1
    assert not tenure.holds()
    assert tenure.ended() == 1
    assert tenure.ended() is None


def test_transactions_whose_script_died_are_answered_by_another_and_by_a_third_if_that_one_dies_too(world: World) -> None:
    world.taking.has_died(Worker(9), b"t-key")
    [(first, message, _)] = world.sent
    assert message == b"Tt-key"
    world.sent.clear()
    world.dies(first)
    assert [(slot == first, message) for slot, message, _ in world.sent] == [(False, b"Tt-key")]


def test_draining_receivers_are_told_what_is_on_its_way_to_them(world: World) -> None:
    world.taking.end()
    assert world.own.parked == 0
    world.parks(1)
    world.dies(1)
    assert world.own.parked == 1
    for gift in world.gifts():
        assert world.takes(*gift)
    world.taking.look_at_end()
    assert world.own.parked == 0
    assert world.taking.unanswered() == 1
