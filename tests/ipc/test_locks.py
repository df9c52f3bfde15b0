from __future__ import annotations

import os
import time
from zlib import crc32

import pytest

from ipc.lmdb_store import LmdbStore
from tests.ipc.processes import die, fork, killed, succeeded


def test_a_lock_keeps_other_processes_out(store: LmdbStore, directory: str) -> None:
    def child() -> None:
        own = LmdbStore.open(directory)
        assert own.try_lock(b"t1") is False
        assert own.try_lock(b"t2") is True
        own.unlock(b"t2")

    with store.lock(b"t1"):
        assert succeeded(fork(child))
    assert store.try_lock(b"t2")
    store.unlock(b"t2")


def test_counting_under_a_lock_loses_nothing(store: LmdbStore, directory: str) -> None:
    store.put(b"n", b"0")

    def child() -> None:
        own = LmdbStore.open(directory)
        for _ in range(200):
            with own.lock(b"n"):
                number = int(own.get(b"n") or b"")
                own.put(b"n", b"%d" % (number + 1))

    children = [fork(child) for _ in range(3)]
    assert all([succeeded(pid) for pid in children])
    assert store.get(b"n") == b"600"


def test_a_killed_holder_releases_its_lock(store: LmdbStore, directory: str) -> None:
    ready, told = os.pipe()

    def child() -> None:
        own = LmdbStore.open(directory)
        with own.lock(b"t1"):
            os.write(told, b"1")
            time.sleep(0.1)
            die()

    pid = fork(child)
    os.read(ready, 1)
    assert store.try_lock(b"t1") is False
    with store.lock(b"t1"):  # waits
        assert killed(pid)


def test_a_holder_may_lock_again_and_holds_until_the_outermost_end(store: LmdbStore, directory: str) -> None:
    def tries(expected: bool) -> bool:
        return succeeded(fork(lambda: expect(expected)))

    def expect(expected: bool) -> None:
        assert LmdbStore.open(directory).try_lock(b"k") is expected

    with store.lock(b"k"):
        with store.lock(b"k"):
            assert store.try_lock(b"k")
            store.unlock(b"k")
        assert tries(False)
    assert tries(True)


def test_a_child_made_by_fork_does_not_inherit_the_lock(store: LmdbStore, directory: str) -> None:
    ready, told = os.pipe()
    go, let_go = os.pipe()

    def child() -> None:
        os.write(told, b"1")
        os.read(go, 1)

    with store.lock(b"k"):
        pid = fork(child)
        os.read(ready, 1)
    # the child lives on: had it the lock, nobody else could take it now
    assert succeeded(fork(lambda: _must_get(directory)))
    os.write(let_go, b"1")
    assert succeeded(pid)


def _must_get(directory: str, name: bytes = b"k") -> None:
    assert LmdbStore.open(directory).try_lock(name)


def test_releasing_what_is_not_held_is_an_error(store: LmdbStore) -> None:
    with pytest.raises(KeyError):
        store.unlock(b"k")


def test_names_of_one_byte_only_wait_for_each_other(store: LmdbStore, directory: str) -> None:
    one, other = b"plumless", b"buckeroo"
    assert crc32(one) == crc32(other)
    assert store.try_lock(one)
    assert store.try_lock(other), "in one process they are held together"
    store.unlock(one)
    assert succeeded(fork(lambda: _must_not_get(directory, other)))
    store.unlock(other)
    assert succeeded(fork(lambda: _must_get(directory, one)))


def _must_not_get(directory: str, name: bytes) -> None:
    assert not LmdbStore.open(directory).try_lock(name)
