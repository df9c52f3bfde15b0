"""Rows appended to text files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensips_py import db
from opensips_py.db import flatstore
from opensips_py.db.flatstore import FlatDatabase
from opensips_py.db.script_queries import SqlInsert, SqlSelect
from opensips_py.engine.operation import Done
from opensips_py.modules import db_flatstore
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from tests.operations.driving import run
from tests.support.script_context import SOCKET, registry


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlatDatabase]:
    monkeypatch.setattr(this, "slot", 3)
    yield FlatDatabase(f"flatstore:{tmp_path}")
    flatstore.settings.__dict__.clear()


def put(database: FlatDatabase, *rows: dict[str, db.SqlValue]) -> Done:
    return run(SqlInsert(database, db.insert("acc", *rows)))


def test_a_row_is_a_line_of_the_file_of_its_table(database: FlatDatabase, tmp_path: Path) -> None:
    assert put(database, {"a": "x", "b": None, "c": 5, "d": db.Time(1700000000), "e": 1.5}) == Done(1)
    assert put(database, {"a": "y"}, {"a": ""}) == Done(1)
    assert (tmp_path / "acc_3.log").read_bytes() == b"x||5|1700000000|1.5\ny\n\n"


def test_what_is_in_a_value_ends_no_field_and_no_line(database: FlatDatabase, tmp_path: Path) -> None:
    put(database, {"a": "a|b", "b": "c\r\nd\\\0", "c": "\xff"})
    assert (tmp_path / "acc_3.log").read_bytes() == b"a\\|b|c\\r\\nd\\\\\\0|\xff\n"


def test_a_file_that_was_moved_away_gets_no_further_line(database: FlatDatabase, tmp_path: Path) -> None:
    flatstore.settings.single_file = True
    put(database, {"a": "first"})
    (tmp_path / "acc.log").rename(tmp_path / "old")
    put(database, {"a": "second"})
    assert (tmp_path / "old").read_text() == "first\n"
    assert (tmp_path / "acc.log").read_text() == "second\n"


def _write(directory: str, letter: str) -> None:
    flatstore.settings.single_file = True
    database = FlatDatabase(f"flatstore:{directory}")
    for _ in range(500):
        put(database, {"a": letter * 200})


def test_lines_of_processes_that_share_a_file_are_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(str(tmp_path), letter)) for letter in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = (tmp_path / "acc.log").read_text().splitlines()
    assert sorted(lines) == sorted(letter * 200 for letter in "abc" for _ in range(500))


def test_nothing_but_adding_rows(database: FlatDatabase) -> None:
    assert run(SqlSelect(database, db.select([], "acc"))) == Done(-1)
    assert run(SqlInsert(database, db.insert("../acc", {"a": 1}))) == Done(-1)
    with pytest.raises(db.StatementError, match="nothing else"):
        database.read(db.delete("acc"))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    database = FlatDatabase(f"flatstore:{tmp_path}/missing")
    assert put(database, {"a": "x"}) == Done(-1)
    with pytest.raises(ConfigError, match="not a directory"):
        database.check_version("acc", 7)
    with pytest.raises(ValueError, match="names no directory"):
        FlatDatabase("flatstore:relative")


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(this, "program", type("P", (), {"registry": registry()}), raising=False)
    monkeypatch.setattr(this, "sockets", [SOCKET], raising=False)
    before = [(parameter, parameter.value) for parameter in (db_flatstore.delimiter, db_flatstore.prefix, db_flatstore.suffix)]
    yield
    for parameter, value in before:
        parameter.value = value
    flatstore.settings.__dict__.clear()


def test_names_of_files_with_variables(parameters: None, database: FlatDatabase, tmp_path: Path) -> None:
    db_flatstore.prefix.value, db_flatstore.suffix.value = "$time(%Y)-", ".csv"
    db_flatstore.configure()
    put(database, {"a": "x"})
    [file] = tmp_path.iterdir()
    assert file.name.endswith("-acc_3.csv") and file.name[:4].isdecimal()


@pytest.mark.parametrize(
    ("parameter", "value"), [("delimiter", "ab"), ("delimiter", "\\"), ("prefix", "../"), ("suffix", "$nosuch")]
)
def test_parameters_that_cannot_be(parameters: None, parameter: str, value: str) -> None:
    db_flatstore.module.params[parameter].value = value
    with pytest.raises(ConfigError, match=parameter):
        db_flatstore.configure()


def test_a_row_that_may_have_been_written_is_written_once(database: FlatDatabase, tmp_path: Path) -> None:
    put(database, {"a": "written"}, {"a": "other"})
    this.slot = 4  # the process that wrote it has died
    assert run(SqlInsert(database, db.insert_new("acc", {"a": "written"}, {"a": "new"}))) == Done(1)
    assert run(SqlInsert(database, db.insert_new("acc", {"a": "written"}, {"a": "new"}))) == Done(1)
    assert (tmp_path / "acc_3.log").read_bytes() == b"written\nother\n"
    assert (tmp_path / "acc_4.log").read_bytes() == b"new\n"
