from __future__ import annotations

import errno
import os
import time
from functools import partial

import pytest

from ipc.lmdb_store import LmdbStore
from ipc.store import StoreError, StoreFull
from opensips_py.server.process import this
from tests.ipc.processes import die, fork, killed, succeeded


def test_what_one_process_puts_another_gets(store: LmdbStore, directory: str) -> None:
    store.put(b"t1", b"from the parent")

    def child() -> None:
        own = LmdbStore.open(directory)
        assert own.get(b"t1") == b"from the parent"
        own.put(b"t2", b"from the child")

    assert succeeded(fork(child))
    assert store.get(b"t2") == b"from the child"
    assert store.get(b"t3") is None


def test_put_new_does_not_overwrite(store: LmdbStore) -> None:
    assert store.put_new(b"k", b"1") is True
    assert store.put_new(b"k", b"2") is False
    assert store.get(b"k") == b"1"


def test_a_batch_of_heads_gives_beginnings_and_changes_together_or_not_at_all(store: LmdbStore) -> None:
    store.put(b"long", bytes(range(250)) * 200)
    store.put(b"short", b"xy")
    with store.batch_of_heads() as batch:
        assert batch.head(b"long", 13) == bytes(range(13))
        assert batch.head(b"short", 13) == b"xy"
        assert batch.head(b"none", 13) is None
        assert batch.delete(b"long")
        batch.put(b"new", b"12")
        assert batch.head(b"long", 13) is None
        assert batch.head(b"new", 1) == b"1"
    with pytest.raises(RuntimeError), store.batch_of_heads() as batch:
        batch.delete(b"short")
        raise RuntimeError
    assert store.get(b"long") is None
    assert store.get(b"short") == b"xy"


def test_take_gives_the_value_once(store: LmdbStore) -> None:
    store.put(b"k", b"v")
    assert store.take(b"k") == b"v"
    assert store.take(b"k") is None
    assert store.delete(b"k") is False


def test_of_many_claimants_exactly_one_wins_each_key(store: LmdbStore, directory: str) -> None:
    keys = [b"p%d" % n for n in range(300)]
    for key in keys:
        store.put(key, b"")

    def claim_all(slot: int) -> None:
        own = LmdbStore.open(directory)
        won = sum(own.claim(key) for key in keys)
        own.put(b"won%d" % slot, b"%d" % won)

    children = [fork(partial(claim_all, slot)) for slot in range(3)]
    assert all([succeeded(pid) for pid in children])
    assert sum(int(value) for _, value in store.scan(b"won")) == len(keys)
    assert store.count(b"p") == 0


def test_scan_is_ordered_and_stays_within_its_prefix(store: LmdbStore) -> None:
    for key in (b"b2", b"a1", b"b1", b"c1", b"b3"):
        store.put(key, key.upper())
    assert store.scan(b"b") == [(b"b1", b"B1"), (b"b2", b"B2"), (b"b3", b"B3")]
    assert store.scan(b"b", start=b"b2") == [(b"b2", b"B2"), (b"b3", b"B3")]
    assert store.scan(b"b", limit=1) == [(b"b1", b"B1")]
    assert store.scan(b"b", limit=0) == []
    assert [key for key, _ in store.scan(b"")] == [b"a1", b"b1", b"b2", b"b3", b"c1"]
    assert store.scan(b"d") == []
    assert (store.count(b"b"), store.count(b"")) == (3, 5)


def test_a_batch_is_made_as_a_whole(store: LmdbStore) -> None:
    store.put(b"old", b"1")
    with store.batch() as batch:
        batch.put(b"new", b"2")
        assert batch.get(b"new") == b"2"
        assert batch.put_new(b"new", b"3") is False
        assert batch.take(b"old") == b"1"
        assert store.get(b"new") is None, "nobody sees it before its end"
    assert (store.get(b"old"), store.get(b"new")) == (None, b"2")


def test_an_exception_undoes_a_batch(store: LmdbStore) -> None:
    with pytest.raises(ZeroDivisionError), store.batch() as batch:
        batch.put(b"k", b"v")
        raise ZeroDivisionError
    assert store.get(b"k") is None
    store.put(b"k", b"later")
    assert store.get(b"k") == b"later"


def test_writing_past_an_open_batch_is_refused_instead_of_hanging(store: LmdbStore) -> None:
    with store.batch() as batch:
        batch.put(b"k", b"v")
        for write in (lambda: store.put(b"x", b""), lambda: store.delete(b"x"), lambda: store.put_new(b"x", b"")):
            with pytest.raises(StoreError, match="through it"):
                write()
    assert store.get(b"k") == b"v"


def test_a_writer_killed_within_its_batch_leaves_nothing_and_blocks_nobody(store: LmdbStore, directory: str) -> None:
    for n in range(100):
        store.put(b"t%d" % n, b"clean" * 100)

    def child() -> None:
        own = LmdbStore.open(directory)
        with own.batch() as batch:
            for n in range(100):
                batch.put(b"t%d" % n, b"dirty" * 300)
            die()

    for attempt in range(20):
        assert killed(fork(child))
        began = this.clock.now()
        store.put(b"n", b"%d" % attempt)
        assert this.clock.now() - began < 10
        assert all(store.get(b"t%d" % n) == b"clean" * 100 for n in range(100))
        assert store.get(b"n") == b"%d" % attempt


def test_a_writer_that_waits_goes_on_when_the_holder_is_killed(store: LmdbStore, directory: str) -> None:
    ready, told = os.pipe()

    def holder() -> None:
        own = LmdbStore.open(directory)
        with own.batch() as batch:
            batch.put(b"k", b"dirty")
            os.write(told, b"1")
            time.sleep(0.1)
            die()

    pid = fork(holder)
    os.read(ready, 1)
    store.put(b"k", b"clean")  # waits for the holder's end
    assert killed(pid)
    assert store.get(b"k") == b"clean"


def test_reader_slots_of_killed_processes_are_freed(store: LmdbStore, directory: str) -> None:
    store.put(b"k", b"v")
    ready, told = os.pipe()

    def child() -> None:
        os.read(ready, 1)  # a fork makes this process open its store anew, which frees the slots of those already dead
        own = LmdbStore.open(directory)
        with own._begin() as txn:
            assert txn.get(b"k") == b"v"
            die()

    children = [fork(child) for _ in range(5)]
    os.write(told, b"12345")
    assert all([killed(pid) for pid in children])
    assert store.reap_readers() > 0
    assert store.reap_readers() == 0
    for n in range(20_000):  # a leaked reader would keep every old page and fill the map
        store.put(b"k", b"%d" % n * 500)


def fill(store: LmdbStore, prefix: bytes) -> None:
    for n in range(20_000):
        store.put(prefix + b"%d" % n, b"x" * 1000)


def test_a_full_store_says_so_keeps_what_it_has_and_can_be_emptied(directory: str) -> None:
    store = LmdbStore.create(directory, 4 << 20)
    store.put(b"first", b"kept")
    with pytest.raises(StoreFull, match=r"is full \(4 MiB"):
        fill(store, b"t")
    assert store.get(b"first") == b"kept"
    held = store.count(b"t")
    assert held > 2000
    with pytest.raises(StoreFull):
        store.put(b"one more", b"x" * 1000)
    for key, _ in store.scan(b"t"):
        assert store.delete(key)
    store.put(b"again", b"room")
    with pytest.raises(StoreFull):
        fill(store, b"u")
    assert store.count(b"u") > 0.9 * held, "room is used again"
    store.close()


def test_a_batch_that_does_not_fit_changes_nothing(directory: str) -> None:
    store = LmdbStore.create(directory, 4 << 20)
    with pytest.raises(StoreFull), store.batch() as batch:
        for n in range(20_000):
            batch.put(b"u%d" % n, b"x" * 1000)
    assert store.count(b"") == 0
    store.put(b"small", b"fits")
    store.close()


def test_a_full_store_takes_deletions_in_every_process(directory: str) -> None:
    store = LmdbStore.create(directory, 4 << 20)
    with pytest.raises(StoreFull):
        fill(store, b"t")

    def child() -> None:
        own = LmdbStore.open(directory)
        with pytest.raises(StoreFull), own.batch() as batch:
            batch.put(b"x", b"x" * 1000)
        for key, _ in own.scan(b"t"):
            assert own.claim(key)

    assert succeeded(fork(child))
    store.put(b"again", b"room")
    store.close()


def test_a_full_store_takes_what_ends_things(directory: str) -> None:
    store = LmdbStore.create(directory, 4 << 20)
    with pytest.raises(StoreFull):
        fill(store, b"t")
    for n in range(2000):
        store.put(b"t%d" % n, b"y" * 1000)  # a state in place of another that is no smaller
        store.put(b"d%d" % n, b"a timer row")
        store.delete(b"d%d" % (n - 100))
    with store.batch() as batch:
        batch.put(b"t1", b"final")
        assert batch.put_new(b"mark", b"small")
        assert not batch.put_new(b"mark", b"small")
        with pytest.raises(StoreFull):
            batch.put(b"t2", b"y" * 1001)
    assert store.get(b"t1") == b"final"
    assert store.get(b"t2") == b"y" * 1000
    store.close()


def test_a_store_says_that_it_is_filling_before_it_is_full(directory: str) -> None:
    store = LmdbStore.create(directory, 16 << 20)
    told = {}
    for n in range(20_000):
        try:
            store.put(b"t%d" % n, b"x" * 1000)
        except StoreFull:
            told["full"] = n
            break
        for mark in ("is_filling", "is_low"):
            if getattr(store, mark):
                told.setdefault(mark, n)
    assert list(told) == ["is_filling", "is_low", "full"]
    for n in range(told["full"] // 2):
        store.delete(b"t%d" % n)
    store.look()
    assert not (store.is_filling or store.is_low)
    store.close()


def test_memory_of_a_store_is_allocated_ahead_of_its_use(directory: str) -> None:
    store = LmdbStore.create(directory, 1 << 30, allocate=True)
    file = os.path.join(directory, "data.mdb")

    def allocated() -> int:
        return os.stat(file).st_blocks * 512

    before = allocated()
    for n in range(100):
        store.put(b"t%d" % n, b"x" * (1 << 20))
        assert allocated() >= store.info().max_used_size + (8 << 20)
    assert before < allocated() < 400 << 20
    store.close()


def test_a_store_whose_memory_cannot_grow_is_full(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LmdbStore.create(directory, 1 << 30, allocate=True)

    def none_left(fd: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", none_left)
    with pytest.raises(StoreFull):
        for n in range(1000):
            store.put(b"t%d" % n, b"x" * 100_000)
    low = store.is_low
    assert low
    assert store.info().max_used_size < 32 << 20
    monkeypatch.undo()
    store.put(b"more", b"x" * 100_000)
    assert not store.is_low
    store.close()


def test_a_fork_does_not_disturb_the_parent(store: LmdbStore) -> None:
    store.put(b"k", b"v")
    store.get(b"k")

    def child() -> None:
        with pytest.raises(StoreError, match="opens its own"):
            store.get(b"k")

    for _ in range(3):
        assert succeeded(fork(child))
        assert store.get(b"k") == b"v"
        store.put(b"k", b"v")


def test_creating_removes_what_was_there(directory: str) -> None:
    first = LmdbStore.create(directory)
    first.put(b"k", b"v")
    first.close()
    second = LmdbStore.create(directory)
    assert second.get(b"k") is None
    second.close()


def test_opening_what_does_not_exist_is_a_clear_error(directory: str) -> None:
    with pytest.raises(StoreError, match="there is no shared store in"):
        LmdbStore.open(directory)


def test_info_tells_how_full_the_store_is(store: LmdbStore) -> None:
    for n in range(1000):
        store.put(b"t%d" % n, b"x" * 1000)
    full = store.info()
    for n in range(1000):
        store.delete(b"t%d" % n)
    empty = store.info()
    assert (full.entries, empty.entries) == (1000, 0)
    assert full.used_size > 1_000_000 > empty.used_size
    assert empty.max_used_size >= full.used_size
    assert full.total_size == 64 << 20
