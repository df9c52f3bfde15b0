"""Module.shared: a table that all processes see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipc.lmdb_store import LmdbStore
from opensips_py.module_api import Module
from opensips_py.server.process import this
from opensips_py.user_modules import shared_data
from tests.support.driven_clock import DrivenClock


class Rate(msgspec.Struct):
    prefix: str
    cents: float


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LmdbStore]:
    made = LmdbStore.create(str(tmp_path / "store"), 64 << 20)
    monkeypatch.setattr(this, "store", made, raising=False)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "value"),
    [(int, 1 << 40), (str, "Zoë"), (bytes, b"\xff"), (dict, {"a": [1, None, 2.5]}), (Rate, Rate("49", 0.5)), (Any, [1, "x"])],
)
def test_values_come_back_with_their_types(kind: Any, value: Any) -> None:
    table = Module("m").shared("t", kind)
    table.set("Schlüssel", value)
    assert table.get("Schlüssel") == value
    assert list(table.items()) == [("Schlüssel", value)]
    assert table.take("Schlüssel") == value
    assert table.take("Schlüssel") is None


def test_a_value_of_another_type_is_refused_on_reading() -> None:
    Module("m").shared("t", str).set("k", "text")
    with pytest.raises(msgspec.ValidationError):
        Module("m").shared("t", int).get("k")


def test_tables_do_not_see_each_other() -> None:
    tables = [Module("m").shared("t"), Module("m").shared("u"), Module("n").shared("t")]
    for number, table in enumerate(tables):
        table.set("k", number)
    assert [table.get("k") for table in tables] == [0, 1, 2]
    assert [list(table.items()) for table in tables] == [[("k", 0)], [("k", 1)], [("k", 2)]]


def test_long_keys_are_kept_apart() -> None:
    table = Module("m").shared("t", int)
    table.set("k" * 600 + "a", 1)
    table.set("k" * 600 + "b", 2)
    assert sorted(table.items()) == [("k" * 600 + "a", 1), ("k" * 600 + "b", 2)]
    assert table.delete("k" * 600 + "a")
    assert not table.delete("k" * 600 + "a")


def test_values_expire_and_are_removed(clock: DrivenClock, store: LmdbStore) -> None:
    table = Module("m").shared("t", int)
    table.set("short", 1, seconds=10)
    table.set("long", 2)
    assert table.add("count", 5, seconds=10) == 5
    clock.now += 9
    assert table.add("count", 5, seconds=10) == 10, "the end stays"
    assert not table.set_new("short", 3)
    clock.now += 2
    assert (table.get("short"), table.get("short", 7), table.take("count")) == (None, 7, None)
    assert list(table.items()) == [("long", 2)]
    assert table.set_new("short", 3)
    assert table.add("count") == 1
    table.set("gone", 1, seconds=0)
    before = store.info().entries
    assert shared_data.remove_expired() == 1
    assert store.info().entries == before - 1
    assert sorted(table.items()) == [("count", 1), ("long", 2), ("short", 3)]


def test_one_of_many_threads_wins_and_no_count_is_lost(store: LmdbStore) -> None:
    """Also while the thread of the scripts makes changes of its own."""
    table = Module("m").shared("t", int)
    won: list[int] = []
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            for _ in range(200):
                table.add("count")
            if table.set_new("winner", number):
                won.append(number)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for number in range(300):
        with store.batch() as batch:
            batch.put(b"x%d" % number, b"")
        store.put(b"y%d" % number, b"")
        store.delete(b"x%d" % number)
    end = this.clock.now() + 60
    for thread in threads:
        thread.join(max(0, end - this.clock.now()))
    assert not failed
    assert table.get("count") == 800
    assert won == [table.get("winner")]
    assert store.count(b"y") == 300
