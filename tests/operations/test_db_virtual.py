"""Sets of databases behind one URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db import virtual
from opensips_py.db.script_queries import AvpDbQuery, SqlInsert, SqlSelect
from opensips_py.db.sqlite.database import SqliteDatabase
from opensips_py.db.statement import Raw
from opensips_py.engine.operation import Done
from opensips_py.modules import db_mysql, db_sqlite, db_virtual
from opensips_py.script.declarations import ConfigError, MIError
from tests.operations.driving import Driver, Taker, run

REFUSING = "mysql://u:p@127.0.0.1:1/d"
assert db_mysql and db_sqlite

Make = Callable[..., db.Database]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two databases that know their names."""
    found = []
    for name in ("one", "two"):
        with sqlite3.connect(tmp_path / name) as connection:
            connection.executescript(
                f"create table me(name char(9)); insert into me values('{name}'); create table log(what char(9));"
            )
        connection.close()
        found.append(tmp_path / name)
    return found


@pytest.fixture
def make(process: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make the set ``main`` of databases: files or URLs."""
    databases.forget_all()
    monkeypatch.setattr(virtual, "log", lambda level, module, function, text: None)

    def define(mode: str, *members: Path | str) -> db.Database:
        databases.forget_all()
        urls = [f"sqlite://{one}" if isinstance(one, Path) else one for one in members]
        db_virtual.db_urls.value = [f"define main {mode}", *urls]
        db_virtual.configure()
        return databases.open("virtual://main")

    yield define
    for one in databases.opened():
        while isinstance(one, SqliteDatabase) and (one._reader.threads.busy or one._writer.threads.busy):
            pass
    databases.forget_all()
    db_virtual.db_urls.value = []
    db_virtual.configure()


def name_of(database: db.Database, mode: str = "async") -> str:
    done = run(SqlSelect(database, db.select(["name"], "me"), ["$avp(n)"]), mode)
    return str(done.outputs[0][1]) if done.outputs else str(done.rc)


def logs(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        found = [what for (what,) in connection.execute("select what from log")]
    connection.close()
    return found


def log_row(database: db.Database, what: str) -> Done:
    return run(SqlInsert(database, db.insert("log", {"what": what})))


@pytest.mark.parametrize("mode", ["plain", "async"])
def test_failover_uses_the_first_one_that_answers(make: Make, files: list[Path], mode: str) -> None:
    assert name_of(make("FAILOVER", *files), mode) == "one"
    assert name_of(make("FAILOVER", REFUSING, Path("/nonexistent/file"), files[1]), mode) == "two"
    assert name_of(make("FAILOVER", REFUSING, REFUSING.replace("/d", "/e")), mode) == "-1"


def test_a_database_that_did_not_answer_comes_last_for_a_while(
    make: Make, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = make("FAILOVER", *files)
    away = files[0].rename(files[0].with_name("away"))
    assert name_of(database) == "two"
    away.rename(files[0])
    assert name_of(database) == "two"
    [one, _] = db_virtual.db_get()["Sets"][0]["Databases"]
    assert (one["May use"], one["Can use"]) == (1, 0)
    for member in db_virtual._made()["main"].members:
        member.down_until = min(member.down_until, 1.0)  # long ago
    assert name_of(database) == "one"
    assert db_virtual.db_get()["Sets"][0]["Databases"][0]["Can use"] == 1


def test_a_statement_that_is_refused_is_not_asked_elsewhere(make: Make, files: list[Path]) -> None:
    database = make("FAILOVER", *files)
    assert run(SqlInsert(database, db.insert("missing", {"a": 1}))) == Done(-1)
    assert [one["Can use"] for one in db_virtual.db_get()["Sets"][0]["Databases"]] == [1, 1]


def test_round_robin_takes_turns(make: Make, files: list[Path]) -> None:
    database = make("ROUND", *files)
    assert [name_of(database) for _ in range(4)] == ["one", "two", "one", "two"]
    files[0].unlink()
    assert [name_of(database) for _ in range(4)] == ["two"] * 4


def test_parallel_changes_all_and_reads_one(make: Make, files: list[Path]) -> None:
    database = make("PARALLEL", *files)
    assert log_row(database, "x") == Done(1)
    assert run(AvpDbQuery(database, Raw("insert into log values('y')"))) == Done(-2)
    assert name_of(database) == "one"
    assert logs(files[0]) == logs(files[1]) == ["x", "y"]
    database = make("PARALLEL", REFUSING, *files)
    assert log_row(database, "z") == Done(1)
    assert logs(files[0]) == logs(files[1]) == ["x", "y", "z"]
    assert log_row(make("PARALLEL", REFUSING), "z") == Done(-1)


def test_a_database_that_is_switched_off_is_not_used(make: Make, files: list[Path]) -> None:
    database = make("FAILOVER", *files)
    assert db_virtual.db_set(0, 0, 0) == "OK"
    assert name_of(database) == "two"
    assert db_virtual.db_set(0, 1, 0) == "OK"
    assert name_of(database) == "-1"
    assert db_virtual.db_set(0, 0, 1) == "OK"
    assert name_of(database) == "one"
    for arguments in ((1, 0, 0), (0, 2, 0), (-1, 0, 0)):
        with pytest.raises(MIError, match="No such"):
            db_virtual.db_set(*arguments)


def test_another_process_goes_on_where_the_first_one_was(make: Make, files: list[Path]) -> None:
    database = make("PARALLEL", *files)
    other = sqlite3.connect(files[1], isolation_level=None)
    other.execute("begin immediate")
    driver = Driver(SqlInsert(database, db.insert("log", {"what": "once"})))
    while logs(files[0]) != ["once"] or driver.op._call._current != 1:  # type: ignore[attr-defined]
        driver.turn(0.01)
    setup = f"from opensips_py.modules import db_virtual\ndb_virtual.db_urls.value = {db_virtual.db_urls.value!r}"
    heir = Taker(["opensips_py.db.script_queries", "opensips_py.modules.db_sqlite", "opensips_py.modules.db_virtual"], setup)
    heir.hand_over("sql_insert", driver.state, [], b"")
    driver.op.close()
    driver.result = Done(-1)
    other.execute("commit")
    other.close()
    assert heir.result() == Done(1)
    heir.close()
    assert logs(files[0]) == logs(files[1]) == ["once"]


def test_reading_before_the_fork(make: Make, files: list[Path]) -> None:
    assert make("FAILOVER", REFUSING, *files).read(db.select([], "me")).rows == [["one"]]
    database = make("PARALLEL", *files)
    database.read(db.insert("log", {"what": "x"}))
    assert logs(files[0]) == logs(files[1]) == ["x"]
    with pytest.raises(db.DatabaseError, match="no such table"):
        database.read(db.select([], "missing"))


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        ([REFUSING], "belongs to no set"),
        (["define main"], "is not of the form"),
        (["define main SOMEHOW", REFUSING], "is not of the form"),
        (["define main FAILOVER"], "no databases"),
        (["define a ROUND", REFUSING, "define a ROUND", REFUSING], "two sets a"),
        (["define a ROUND", "virtual://b"], "cannot have a set in it"),
        (["define a ROUND", "oracle://b"], "not supported"),
    ],
)
def test_sets_that_cannot_be(make: Make, urls: list[str], complaint: str) -> None:
    db_virtual.db_urls.value = urls
    with pytest.raises(ConfigError, match=complaint):
        db_virtual.configure()


def test_a_set_that_does_not_exist(make: Make, files: list[Path]) -> None:
    make("FAILOVER", *files)
    with pytest.raises(ValueError, match="there is no set other"):
        databases.open("virtual://other")
