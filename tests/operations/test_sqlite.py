"""Queries to SQLite files: types and bytes, locks, processes that die, files that go away."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db.script_queries import AvpDbQuery, SqlInsert
from opensips_py.db.sqlite import call, file, ledger, thread
from opensips_py.db.sqlite.database import SqliteDatabase
from opensips_py.db.statement import Raw
from opensips_py.engine.background import Background
from opensips_py.engine.operation import BUSY, LOST, Done, Operation
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from tests.operations.driving import Driver, Taker, drive, run, spin, takers

TABLES = """
create table kv(k char(32), v varchar(64), n int);
insert into kv values('bob','bob value',7),('multi','m1',1),('multi','m2',2),('nul',NULL,NULL);
create table types(t tinyint, b bigint, f double, at datetime, x blob, s varchar(200));
insert into types values(-3, 5000000000, 1.5, '2026-01-02 03:04:05', x'00ff0a', 'äöü ß');
create table log(id integer primary key autoincrement, what varchar(64));
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "case.db"
    with sqlite3.connect(made) as connection:
        connection.executescript(TABLES)
    connection.close()
    return made


@pytest.fixture
def database(path: Path, process: SimpleNamespace, no_leaks: None) -> Iterator[SqliteDatabase]:
    """A file that this process has not opened before."""
    databases.forget_all()
    databases.register("sqlite", SqliteDatabase)
    found = databases.open(f"sqlite://{path}")
    assert isinstance(found, SqliteDatabase)
    yield found
    until = this.clock.now() + 10
    while found._reader.threads.busy or found._writer.threads.busy:
        assert this.clock.now() < until
        time.sleep(0.001)
    databases.forget_all()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    for module in (call, db.query):
        monkeypatch.setattr(module, "log", lambda level, module, function, text: texts.append(text))
    return texts


@pytest.fixture
def taker() -> Iterator[Callable[[], Taker]]:
    yield from takers("opensips_py.db.script_queries", "opensips_py.modules.db_sqlite")


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that uses the file."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    yield connection
    connection.close()


def query(database: SqliteDatabase, text: str, *targets: str) -> AvpDbQuery:
    return AvpDbQuery(database, Raw(text.encode().decode("latin-1")), list(targets) or None)


def logs(other: sqlite3.Connection) -> list[str]:
    return [what for (what,) in other.execute("select what from log order by id")]


def test_a_column_that_a_table_lacks_is_an_error_and_no_text(database: SqliteDatabase) -> None:
    for statement in (db.select(["missing"], "kv"), db.select(["k"], "kv", {"missing": "missing"})):
        with pytest.raises(db.DatabaseError, match="no such column"):
            database.read(statement)


@pytest.mark.parametrize("mode", ["plain", "async", "launch"])
@pytest.mark.parametrize(
    ("text", "targets", "done"),
    [
        ("select v,n from kv where k='bob'", ["$avp(v)", "$avp(n)"], Done(1, [("$avp(v)", "bob value"), ("$avp(n)", 7)])),
        ("select v from kv where k='none'", ["$avp(v)"], Done(-2)),
        ("select v,n from kv where k='nul'", ["$avp(v)", "$avp(n)"], Done(1, [("$avp(v)", "<null>"), ("$avp(n)", "<null>")])),
        (
            "select v,n from kv where k='multi' order by n",
            ["$avp(v)", "$avp(n)"],
            Done(1, [("$avp(v)", "m2"), ("$avp(n)", 2), ("$avp(v)", "m1"), ("$avp(n)", 1)]),
        ),
        ("with x as (select 8 as y) select y from x", ["$avp(y)"], Done(1, [("$avp(y)", 8)])),
        ("bad sql", ["$avp(v)"], Done(-1)),
        ("select 1; select 2", ["$avp(v)"], Done(-1)),
        ("insert into log(what) values('x')", [], Done(-2)),
        ("insert into log(what) values('x') returning what", ["$avp(w)"], Done(1, [("$avp(w)", "x")])),
        ("insert into missing values('x')", [], Done(-1)),
        ("select count(*) from kv", ["$avp(c)"], Done(1, [("$avp(c)", 4)])),
        ("pragma user_version", ["$avp(c)"], Done(1, [("$avp(c)", 0)])),
        ("begin", [], Done(-2)),
    ],
)
def test_results(database: SqliteDatabase, mode: str, text: str, targets: list[str], done: Done) -> None:
    assert run(query(database, text, *targets), mode) == done
    assert run(query(database, "select 3", "$avp(x)"), mode) == Done(1, [("$avp(x)", 3)])


def test_types_of_columns_for_scripts_and_for_modules(database: SqliteDatabase) -> None:
    at = int(time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1)))
    text = "äöü ß".encode().decode("latin-1")
    names = [f"$avp({name})" for name in ("t", "b", "f", "at", "x", "s")]
    found = [value for _, value in run(query(database, "select * from types", *names)).outputs]
    assert found == [-3, "5000000000", "1.5", at, "\0\xff\n", text]
    assert database.read(db.select([], "types")).rows == [[-3, 5000000000, 1.5, at, "\0\xff\n", text]]


@pytest.mark.parametrize(
    "value", ["it's", "a\\b", "\0", "\xff\xfe", "a\0b", "äöü".encode().decode("latin-1"), '"', "--", "?", ""]
)
def test_a_value_is_data_whatever_bytes_it_has(database: SqliteDatabase, value: str) -> None:
    run(SqlInsert(database, db.insert("kv", {"k": value, "v": value, "n": None})))
    assert database.read(db.select(["k", "v", "n"], "kv", {"k": value})).rows == [[value, value, None]]
    assert run(AvpDbQuery(database, Raw("select v from kv where k=?", (value,)), ["$avp(v)"])).outputs == [("$avp(v)", value)]


def test_statements_by_names_and_values(database: SqliteDatabase, other: sqlite3.Connection) -> None:
    other.execute("create table u(a char(9) primary key, b int, c datetime)")
    for statement in (
        db.insert("u", {"a": "x", "b": 1, "c": db.Time(0)}, {"a": "y", "b": 2, "c": None}),
        db.insert_update("u", {"a": "x", "b": 5}, key=["a"]),
        db.replace("u", {"a": "y", "b": 6}, {"a": "z", "b": 7}, key=["a"]),
        db.update("u", {"b": 8}, [db.Condition("b", ">", 6)]),
        db.insert_new("kv", {"k": "bob", "v": "bob value", "n": 7}, {"k": "new", "v": None, "n": 1}),
        db.insert_new("kv", {"k": "new", "v": None, "n": 1}),
        db.delete("kv", {"k": "multi"}),
    ):
        assert run(SqlInsert(database, statement)) == Done(1), statement
    assert database.read(db.select(["a", "b", "c"], "u", order="a")).rows == [["x", 5, 0], ["y", 6, None], ["z", 8, None]]
    assert other.execute("select k from kv order by k").fetchall() == [("bob",), ("new",), ("nul",)]


def test_all_rows_of_an_insert_or_none(database: SqliteDatabase, other: sqlite3.Connection) -> None:
    other.execute("create table u(a char(9) primary key)")
    assert run(SqlInsert(database, db.insert("u", {"a": "x"}, {"a": "y"}, {"a": "x"}))) == Done(-1)
    assert other.execute("select count(*) from u").fetchone() == (0,)


# --- locks --------------------------------------------------------------------------------------------------------------


def test_reading_does_not_wait_for_who_writes(database: SqliteDatabase, other: sqlite3.Connection) -> None:
    assert run(query(database, "insert into log(what) values('first')")) == Done(-2)  # the file keeps a log from now on
    other.execute("begin immediate")
    other.execute("insert into log(what) values('unfinished')")
    assert run(query(database, "select what from log", "$avp(w)")) == Done(1, [("$avp(w)", "first")])
    other.execute("rollback")


def test_a_change_waits_until_the_file_is_unlocked(database: SqliteDatabase, other: sqlite3.Connection) -> None:
    other.execute("begin immediate")
    waiting = [Driver(query(database, f"insert into log(what) values('{n}')")) for n in range(3)]
    for driver in waiting:
        assert driver.turn(0.01) is None
    other.execute("commit")
    assert drive(*waiting) == [Done(-2)] * 3
    assert logs(other) == ["0", "1", "2"]


@pytest.mark.parametrize("mode", ["plain", "async"])
def test_a_file_that_stays_locked_is_given_up(
    database: SqliteDatabase, other: sqlite3.Connection, mode: str, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file.settings, "patience", 0.1)
    other.execute("begin immediate")
    assert run(query(database, "insert into log(what) values('x')"), mode) == Done(-1)
    other.execute("rollback")
    assert "locked" in logged[0] or "no answer in time" in logged[0]
    assert run(query(database, "insert into log(what) values('y')"), mode) == Done(-2)
    assert logs(other) == ["y"]


def test_a_statement_that_nobody_waits_for_is_ended(database: SqliteDatabase) -> None:
    endless = "with recursive c(x) as (select 1 union all select x+1 from c) select count(*) from c"
    driver = Driver(query(database, endless))
    behind = Driver(query(database, "select 5", "$avp(x)"))
    never = Driver(query(database, "select 6", "$avp(x)"))
    assert driver.turn(0.05) is None
    assert never.op.expire() == Done(-1)
    assert driver.op.expire() == Done(-1)
    driver.result = never.result = Done(-1)
    assert drive(behind)[0].outputs == [("$avp(x)", 5)]


def test_more_statements_than_may_wait_are_refused(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(file.settings, "waiting", 2)
    drivers = [Driver(query(database, f"insert into log(what) values('{n}')")) for n in range(50)]
    done = drive(*drivers)
    assert {one.rc for one in done} == {-2, BUSY}
    shown = database.describe()
    assert (shown["State"], shown["Open"], shown["Limit"], shown["Waiting"]) == ("up", 1, 2, 0)
    assert shown["Refused"] == sum(one.rc == BUSY for one in done)


def test_an_answer_that_is_too_large(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    monkeypatch.setattr(file.settings, "answer", 100_000)
    endless = "with recursive c(x) as (select 1 union all select x+1 from c) select x from c"
    assert run(query(database, endless)) == Done(-1)
    assert "max_result_size" in logged[0]


# --- processes that die -------------------------------------------------------------------------------------------------


def test_what_reads_is_read_again_by_another_process(database: SqliteDatabase, taker: Callable[[], Taker]) -> None:
    driver = Driver(query(database, "select v from kv where k='bob'", "$avp(v)"))
    heir = taker()
    heir.hand_over("avp_db_query", driver.state, [], b"")
    assert heir.result() == Done(1, [("$avp(v)", "bob value")])
    driver.op.forget()


def test_a_change_that_was_made_is_not_made_again(
    database: SqliteDatabase, taker: Callable[[], Taker], other: sqlite3.Connection
) -> None:
    driver = Driver(query(database, "insert into log(what) values('once') returning id", "$avp(id)"))
    assert logs(other) == [], "it is begun when it is parked"
    assert driver.turn(0.1) is None
    while not logs(other):
        time.sleep(0.001)
    heir = taker()  # as if the process had died before it could take the answer
    heir.hand_over("avp_db_query", driver.state, [], b"")
    assert heir.result() == Done(1, [("$avp(id)", 1)])
    assert logs(other) == ["once"]
    driver.op.forget()


def test_a_change_that_was_not_made_is_made_by_the_other_process(
    database: SqliteDatabase, taker: Callable[[], Taker], other: sqlite3.Connection
) -> None:
    other.execute("begin immediate")
    driver = Driver(query(database, "insert into log(what) values('once')"))
    driver.turn(0.01)
    driver.op.close()  # it dies while it waits for the lock
    other.execute("commit")
    heir = taker()
    heir.hand_over("avp_db_query", driver.state, [], b"")
    assert heir.result() == Done(-2)
    assert logs(other) == ["once"]


def test_two_processes_that_make_the_same_change_make_it_once(
    database: SqliteDatabase, taker: Callable[[], Taker], other: sqlite3.Connection
) -> None:
    heirs = [taker() for _ in range(2)]
    run(query(database, "delete from log"))
    other.execute("begin immediate")
    driver = Driver(query(database, "insert into log(what) values('once') returning what", "$avp(w)"))
    for heir in heirs:
        heir.hand_over("avp_db_query", driver.state, [], b"")
    other.execute("commit")
    assert drive(driver)[0] == Done(1, [("$avp(w)", "once")])
    assert [heir.result() for heir in heirs] == [Done(1, [("$avp(w)", "once")])] * 2
    assert logs(other) == ["once"]


def test_a_statement_of_which_nobody_can_know_is_lost(database: SqliteDatabase) -> None:
    driver = Driver(query(database, "pragma user_version=5"))
    assert Operation.registry["avp_db_query"].thaw(driver.state, [], b"").start() == Done(LOST)
    drive(driver)


def test_a_change_with_a_name_is_made_once(
    database: SqliteDatabase, taker: Callable[[], Taker], other: sqlite3.Connection
) -> None:
    row = db.insert("log", {"what": "call 1"})
    for mode in ("plain", "async", "launch"):
        assert run(SqlInsert(database, row, once="acc call 1"), mode) == Done(1)
    heir = taker()
    heir.hand_over("sql_insert", SqlInsert(database, row, once="acc call 1").freeze(), [], b"")
    assert heir.result() == Done(1)
    assert run(SqlInsert(database, row, once="acc call 2")) == Done(1)
    assert logs(other) == ["call 1", "call 1"]
    assert run(SqlInsert(database, db.insert("missing", {"what": 1}), once="acc call 3")) == Done(-1)
    assert run(SqlInsert(database, row, once="acc call 3")) == Done(1), "it was not made"


def test_tokens_are_removed_when_nobody_can_ask_for_them(
    database: SqliteDatabase, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "KEPT", 0.0)
    for _ in range(5):
        run(query(database, "insert into log(what) values('x')"))
    assert other.execute(f"select count(*) from {databases.LEDGER}").fetchone() == (1,)
    run(query(database, "insert into log(what) values('x')"), "plain")  # not handed over: it needs none
    assert other.execute(f"select count(*) from {databases.LEDGER}").fetchone() == (1,)


# --- files --------------------------------------------------------------------------------------------------------------


def test_a_file_that_goes_away_and_comes_back(database: SqliteDatabase, path: Path, tmp_path: Path, logged: list[str]) -> None:
    assert run(query(database, "insert into log(what) values('x')")) == Done(-2)
    path.rename(tmp_path / "aside")
    assert database.describe()["State"] == "up"
    assert run(query(database, "select 1", "$avp(x)")) == Done(-1)
    assert run(query(database, "insert into log(what) values('x')")) == Done(-1)
    with pytest.raises(db.DatabaseError, match="unable to open"):
        database.read(db.select([], "log"))
    assert database.describe()["State"] == "down"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
    connection.close()
    assert run(query(database, "insert into log(what) values('y')")) == Done(-2)
    assert run(query(database, "select what from log", "$avp(w)")) == Done(1, [("$avp(w)", "y")])


def test_a_file_that_is_no_database(database: SqliteDatabase, path: Path, logged: list[str]) -> None:
    path.unlink()
    path.write_bytes(b"nonsense" * 1000)
    assert run(query(database, "select 1", "$avp(x)")) == Done(-1)
    assert "not a database" in logged[0]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [("sqlite://relative.db", "absolute"), ("sqlite:", "absolute"), ("sqlite:///", "no file"), ("sqlite:///dir/", "no file")],
)
def test_urls_that_name_no_file(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SqliteDatabase(url)


@pytest.mark.parametrize("url", ["sqlite:///a/b.db", "sqlite:////a/b.db", "sqlite:/a/b.db"])
def test_urls_with_any_number_of_slashes(url: str) -> None:
    assert SqliteDatabase(url).path == "/a/b.db"


def test_versions_of_tables(database: SqliteDatabase, other: sqlite3.Connection) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the version of table log .*no such table: version"):
        database.check_version("log", 7)
    other.execute("create table version(table_name char(32), table_version int)")
    with pytest.raises(ConfigError, match="invalid version 0 for table log found, expected 7"):
        database.check_version("log", 7)
    other.execute("insert into version values('log', 5)")
    with pytest.raises(ConfigError, match="invalid version 5 for table log found, expected 7"):
        database.check_version("log", 7)
    database.check_version("log", 5)


class Chain(db.Query):
    """Three statements in turn."""

    name = "test_chain"
    keeps = list[int]

    def answer(self, result: db.Result) -> Done | db.Statement:
        self.kept.append(result.rows[0][0])
        if len(self.kept) < 3:
            return db.select(["n"], "kv", {"k": "multi", "n": len(self.kept)})
        return Done(1, [("$avp(n)", str(self.kept))])


class Sorry(db.Query):
    """No answer has a return code of its own."""

    name = "test_sorry"

    def answer(self, result: db.Result) -> Done:
        return Done(1)

    def failed(self, done: Done) -> Done:
        return Done(done.rc - 40)


def test_what_no_answer_means_says_the_function(
    database: SqliteDatabase, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(Sorry(database, db.select([], "missing"))) == Done(-41)
    assert run(Sorry(database, db.select(["a b"], "kv"))) == Done(-41)
    driver = Driver(Sorry(database, db.select([], "kv")))
    assert driver.op.expire() == Done(-41)
    driver.result = Done(-41)
    lost = Driver(Sorry(database, Raw("pragma user_version=5")))
    drive(lost)
    assert Sorry.thaw(lost.state, [], b"").start() == Done(LOST - 40)


def test_a_query_that_asks_again_is_woken_each_time(database: SqliteDatabase, process: SimpleNamespace) -> None:
    ends: list[Done] = []
    for _ in range(3):
        Background(Chain(database, db.select(["n"], "kv", {"k": "bob"}), []), ends.append)
    spin(until=lambda: len(ends) == 3)
    assert ends == [Done(1, [("$avp(n)", "[7, 1, 2]")])] * 3


def test_another_process_goes_on_with_a_query_that_asks_again(database: SqliteDatabase) -> None:
    driver = Driver(Chain(database, db.select(["n"], "kv", {"k": "bob"}), []))
    while len(driver.op.kept) < 1:  # type: ignore[attr-defined]
        driver.turn(0.01)
    driver.op.close()
    driver.result = Done(-1)
    assert run(Chain.thaw(driver.state, [], b"")) == Done(1, [("$avp(n)", "[7, 1, 2]")])


def test_asking_beside_other_work(database: SqliteDatabase, process: SimpleNamespace, logged: list[str]) -> None:
    answers: list[db.Result | None] = []
    db.ask(database, db.select(["n"], "kv", {"k": "bob"}), answers.append)
    assert answers == []
    spin(until=lambda: len(answers) == 1)
    db.ask(database, db.select(["n"], "missing"), answers.append)
    spin(until=lambda: len(answers) == 2)
    assert answers == [db.Result([[7]], 1), None]


@pytest.mark.parametrize("lead", ["", "  \n", "-- why\n", "/* why */ ", "/* a */ -- b\n /* c */"])
def test_comments_before_a_statement_do_not_hide_what_it_is(lead: str) -> None:
    assert thread.is_change(lead + "insert into t values (1)") and not thread.only_reads(lead + "insert into t values (1)")
    assert thread.only_reads(lead + "select 1") and not thread.is_change(lead + "select 1")
