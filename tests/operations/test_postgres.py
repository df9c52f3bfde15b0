"""Queries to a real PostgreSQL: types and bytes, its ends, processes that die."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psycopg
import pytest

from opensips_py import db
from opensips_py.clients import connection_pool
from opensips_py.db import database as databases
from opensips_py.db.postgres import call, ledger, pool
from opensips_py.db.postgres.database import PostgresDatabase
from opensips_py.db.postgres.url import parse_postgres_url
from opensips_py.db.script_queries import AvpDbQuery, SqlInsert
from opensips_py.db.statement import Raw
from opensips_py.engine.operation import LOST, Done, Operation
from opensips_py.modules import db_postgres
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from scripts.testbed.postgres import Postgres
from tests.operations.driving import Driver, Taker, drive, run, takers

TABLES = """
create table kv(k varchar(32), v varchar(64), n int);
insert into kv values('bob','bob value',7),('multi','m1',1),('multi','m2',2),('nul',NULL,NULL);
create table types(t smallint, b bigint, d numeric(8,2), f double precision, at timestamp, x bytea, s varchar(200), y boolean);
insert into types values(-3, 5000000000, 12.50, 1.5, '2026-01-02 03:04:05', '\\x00ff0a', 'äöü ß', true);
create table log(id serial primary key, what varchar(64));
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    running = Postgres("voip")
    running.execute(TABLES)
    yield running
    running.remove()


@pytest.fixture
def database(server: Postgres, process: SimpleNamespace, no_leaks: None) -> Iterator[PostgresDatabase]:
    """A fresh pool."""
    server.execute("truncate log restart identity")
    databases.forget_all()
    databases.register("postgres", PostgresDatabase)
    found = databases.open(server.url)
    assert isinstance(found, PostgresDatabase)
    yield found
    found.close()
    assert (found.pool.size, found.pool.connecting, len(found.pool.waiting)) == (0, 0, 0)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    for module in (call, connection_pool, db.query):
        monkeypatch.setattr(module, "log", lambda level, module, function, text: texts.append(text))
    return texts


@pytest.fixture
def taker() -> Iterator[Callable[[], Taker]]:
    yield from takers("opensips_py.db.script_queries", "opensips_py.modules.db_postgres")


def query(database: PostgresDatabase, text: str, *targets: str) -> AvpDbQuery:
    return AvpDbQuery(database, Raw(text.encode().decode("latin-1")), list(targets) or None)


def logs(server: Postgres) -> list[str]:
    return [what for (what,) in server.execute("select what from log order by id")]


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
        ("bad sql", ["$avp(v)"], Done(-1)),
        ("insert into log(what) values('x')", [], Done(-2)),
        ("insert into log(what) values('x') returning what", ["$avp(w)"], Done(1, [("$avp(w)", "x")])),
        ("insert into missing values('x')", [], Done(-1)),
        ("select count(*) from kv", ["$avp(c)"], Done(1, [("$avp(c)", 4)])),
        ("", [], Done(-2)),
    ],
)
def test_results(database: PostgresDatabase, mode: str, text: str, targets: list[str], done: Done) -> None:
    assert run(query(database, text, *targets), mode) == done
    assert run(query(database, "select 3", "$avp(x)"), mode) == Done(1, [("$avp(x)", 3)])


def test_types_of_columns_for_scripts_and_for_modules(database: PostgresDatabase) -> None:
    at = int(time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1)))
    text = "äöü ß".encode().decode("latin-1")
    names = [f"$avp({name})" for name in ("t", "b", "d", "f", "at", "x", "s", "y")]
    found = [value for _, value in run(query(database, "select * from types", *names)).outputs]
    assert found == [-3, "5000000000", "12.50", "1.5", at, "\0\xff\n", text, 1]
    assert database.read(db.select([], "types")).rows == [[-3, 5000000000, "12.50", 1.5, at, "\0\xff\n", text, 1]]


@pytest.mark.parametrize("value", ["it's", "a\\b", "\\'", "äöü".encode().decode("latin-1"), '"', "--", "?", "$1", ""])
def test_a_value_is_data_whatever_it_contains(database: PostgresDatabase, server: Postgres, value: str) -> None:
    server.execute("delete from kv where n is null")
    run(SqlInsert(database, db.insert("kv", {"k": value, "v": value, "n": None})))
    assert database.read(db.select(["k", "v", "n"], "kv", {"k": value})).rows == [[value, value, None]]
    assert run(AvpDbQuery(database, Raw("select v from kv where k=?", (value,)), ["$avp(v)"])).outputs == [("$avp(v)", value)]


@pytest.mark.parametrize("value", ["\0", "\xff\xfe"])
def test_bytes_that_the_database_cannot_hold_are_refused(database: PostgresDatabase, value: str, logged: list[str]) -> None:
    assert run(SqlInsert(database, db.insert("kv", {"k": value}))) == Done(-1)
    assert len(logged) == 1


def test_statements_by_names_and_values(database: PostgresDatabase, server: Postgres) -> None:
    server.execute("drop table if exists u", "create table u(a varchar(9) primary key, b int, c timestamp)")
    for statement in (
        db.insert("u", {"a": "x", "b": 1, "c": db.Time(0)}, {"a": "y", "b": 2, "c": None}),
        db.insert_update("u", {"a": "x", "b": 5}, key=["a"]),
        db.replace("u", {"a": "y", "b": 6}, {"a": "z", "b": 7}, key=["a"]),
        db.update("u", {"b": 8}, [db.Condition("b", ">", 6)]),
        db.insert_new("u", {"a": "z", "b": 8, "c": None}, {"a": "new", "b": None, "c": db.Time(5)}),
        db.insert_new("u", {"a": "new", "b": None, "c": db.Time(5)}),
        db.delete("u", {"a": "x"}),
    ):
        assert run(SqlInsert(database, statement)) == Done(1), statement
    rows = [["new", None, 5], ["y", 6, None], ["z", 8, None]]
    assert database.read(db.select(["a", "b", "c"], "u", order="a")).rows == rows
    assert run(SqlInsert(database, db.replace("u", {"a": "y"}))) == Done(-1), "the key is not known"


def test_all_rows_of_an_insert_or_none(database: PostgresDatabase, server: Postgres) -> None:
    server.execute("drop table if exists u", "create table u(a varchar(9) primary key)")
    assert run(SqlInsert(database, db.insert("u", {"a": "x"}, {"a": "y"}, {"a": "x"}))) == Done(-1)
    assert server.execute("select count(*) from u") == [(0,)]


# --- the pool and its ends ----------------------------------------------------------------------------------------------


def test_a_hundred_queries_wait_beside_each_other(database: PostgresDatabase) -> None:
    assert [done.rc for done in drive(*(Driver(query(database, "select pg_sleep(0.05)")) for _ in range(100)))] == [1] * 100


def test_a_connection_is_used_again_and_replaced_when_the_server_has_closed_it(
    database: PostgresDatabase, server: Postgres
) -> None:
    first = run(query(database, "select pg_backend_pid()", "$avp(x)")).outputs
    assert run(query(database, "select pg_backend_pid()", "$avp(x)")).outputs == first
    server.execute(f"select pg_terminate_backend({first[0][1]}, 5000)")
    assert run(query(database, "select 2", "$avp(x)")) == Done(1, [("$avp(x)", 2)])
    assert database.pool.size == 1


def test_database_killed_and_restarted(database: PostgresDatabase, server: Postgres, logged: list[str]) -> None:
    drivers = [Driver(query(database, "insert into log(what) select 'x' from (select pg_sleep(10)) as slow")) for _ in range(3)]
    drivers += [Driver(query(database, "select pg_sleep(10)")) for _ in range(3)]
    while len(server.execute("select 1 from pg_stat_activity where query like '%pg_sleep(10)%'")) < 7:
        for driver in drivers:
            driver.turn(0.01)
    server.kill()
    assert drive(*drivers) == [Done(-1)] * 6
    assert run(query(database, "select 1")) == Done(-1)
    server.start()
    until = this.clock.now() + 20
    while run(query(database, "select 1")).rc != 1:
        assert this.clock.now() < until
        time.sleep(0.01)
    assert logged and not any("\n" in text for text in logged)


def test_a_host_that_swallows_the_connection_is_given_up(
    process: SimpleNamespace, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.settings, "patience", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, says nothing
        one = PostgresDatabase(f"postgres://u:p@127.0.0.1:{silent.getsockname()[1]}/d")
        assert run(query(one, "select 1"), "plain") == Done(-1)
    assert (one.pool.size, one.pool.connecting) == (0, 0)


def test_wrong_passwords_and_databases_are_told(database: PostgresDatabase, server: Postgres, logged: list[str]) -> None:
    for url, complaint in (
        (server.url.replace("opensipsrw", "wrong"), "password authentication failed"),
        (server.url.replace("/voip", "/nosuch"), "does not exist"),
    ):
        other = PostgresDatabase(url)
        assert run(query(other, "select 1")) == Done(-1)
        assert complaint in logged[-1] and "wrong@" not in logged[-1]
        with pytest.raises(db.DatabaseError, match=complaint):
            other.read(Raw("select 1"))


def test_the_password_is_never_sent_in_clear(process: SimpleNamespace, logged: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        database = PostgresDatabase(f"postgres://u:s3cret@127.0.0.1:{listening.getsockname()[1]}/d")
        driver = Driver(query(database, "select 1"))
        heard = b""
        peer, _ = listening.accept()
        with peer:
            peer.settimeout(0.01)
            while driver.result is None:
                driver.turn(0.01)
                with contextlib.suppress(TimeoutError):
                    said = peer.recv(4096)
                    heard += said
                    if said[4:8] == (80877103).to_bytes(4, "big"):  # asks for TLS
                        peer.sendall(b"N")
                    elif said:
                        peer.sendall(b"R\0\0\0\x08\0\0\0\x03")  # AuthenticationCleartextPassword
        assert driver.result == Done(-1)
    assert b"s3cret" not in heard and b"user\0u\0" in heard
    assert "cleartext" in logged[0] or "password" in logged[0]


def test_the_deadline_closes_the_connection(database: PostgresDatabase) -> None:
    driver = Driver(query(database, "select pg_sleep(5)"))
    for _ in range(20):
        driver.turn(0.01)
    assert driver.op.expire() == Done(-1)
    driver.result = Done(-1)
    assert database.pool.size == 0


def test_a_plain_query_is_not_waited_for_endlessly(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.settings, "patience", 0.3)
    assert run(query(database, "select pg_sleep(5)"), "plain") == Done(-1)


def test_an_answer_that_is_too_large(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    monkeypatch.setattr(pool.settings, "answer", 100_000)
    assert run(query(database, "select generate_series(1, 100000000)")) == Done(-1)
    assert "max_result_size" in logged[0]


# --- processes that die -------------------------------------------------------------------------------------------------


def test_what_reads_is_read_again_by_another_process(database: PostgresDatabase, taker: Callable[[], Taker]) -> None:
    driver = Driver(query(database, "select 42, pg_sleep(0.2)", "$avp(x)"))
    heir = taker()
    heir.hand_over("avp_db_query", driver.state, [], b"")
    driver.op.forget()
    assert heir.result() == Done(1, [("$avp(x)", 42)])


@contextlib.contextmanager
def locked(server: Postgres) -> Iterator[None]:
    """Nobody can write to table ``log`` meanwhile."""
    with psycopg.connect(server.url.replace("postgres://", "postgresql://")) as other:
        other.execute("lock table log in exclusive mode")
        yield


def waiting(server: Postgres, driver: Driver) -> int:
    """The connection on which the change waits for the lock."""
    while not (found := server.execute("select pid from pg_stat_activity where wait_event_type = 'Lock'")):
        assert driver.turn(0.01) is None
    return int(found[0][0])


def test_a_change_that_is_being_made_is_not_made_again(
    database: PostgresDatabase, taker: Callable[[], Taker], server: Postgres
) -> None:
    heir = taker()
    with locked(server):
        driver = Driver(query(database, "insert into log(what) values('once')"))
        waiting(server, driver)
        heir.hand_over("avp_db_query", driver.state, [], b"")
        driver.op.forget()  # the server goes on with what the dead process has asked for
    assert heir.result() == Done(-2)
    assert logs(server) == ["once"]


def test_a_change_is_sent_when_it_is_parked(database: PostgresDatabase, server: Postgres) -> None:
    run(query(database, "select 1"))
    driver = Driver(query(database, "insert into log(what) values('once')"))
    assert driver.op.fileno() >= 0, "on a connection that is there"
    driver.op.close()
    driver.result = Done(-1)
    assert run(query(database, "select count(*) from log", "$avp(n)")).outputs == [("$avp(n)", 0)]


def test_a_change_that_was_not_made_is_made_by_the_other_process(
    database: PostgresDatabase, taker: Callable[[], Taker], server: Postgres
) -> None:
    driver = Driver(query(database, "insert into log(what) values('once')"))
    driver.op.forget()  # before it was connected
    heir = taker()
    heir.hand_over("avp_db_query", driver.state, [], b"")
    assert heir.result() == Done(-2)
    assert logs(server) == ["once"]


def test_a_change_whose_connection_is_lost_is_made_once(database: PostgresDatabase, server: Postgres) -> None:
    run(query(database, "select 1"))
    with locked(server):
        driver = Driver(query(database, "insert into log(what) values('once')"))
        server.execute(f"select pg_terminate_backend({waiting(server, driver)}, 5000)")
    assert drive(driver) == [Done(-2)]
    assert logs(server) == ["once"]


def test_the_table_for_tokens_is_made_when_it_is_missing(database: PostgresDatabase, server: Postgres) -> None:
    server.execute(f"drop table if exists {databases.LEDGER}")
    assert run(query(database, "insert into log(what) values('a')"), "plain") == Done(-2)  # needs none
    assert server.execute(f"select to_regclass('{databases.LEDGER}')") == [(None,)]
    assert run(query(database, "insert into log(what) values('b')")) == Done(-2)
    assert logs(server) == ["a", "b"]
    assert server.execute(f"select count(*) from {databases.LEDGER}") == [(1,)]


def test_a_change_with_a_name_is_made_once(database: PostgresDatabase, taker: Callable[[], Taker], server: Postgres) -> None:
    row = db.insert("log", {"what": "call 1"})
    for mode in ("plain", "async", "launch"):
        assert run(SqlInsert(database, row, once="acc call 1"), mode) == Done(1)
    heir = taker()
    heir.hand_over("sql_insert", SqlInsert(database, row, once="acc call 1").freeze(), [], b"")
    assert heir.result() == Done(1)
    assert run(SqlInsert(database, row, once="acc call 2")) == Done(1)
    assert logs(server) == ["call 1", "call 1"]
    assert run(SqlInsert(database, db.insert("missing", {"what": 1}), once="acc call 3")) == Done(-1)
    assert run(SqlInsert(database, row, once="acc call 3")) == Done(1), "it was not made"


def test_old_tokens_are_removed(database: PostgresDatabase, server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    run(query(database, "insert into log(what) values('x')"))
    server.execute(f"update {databases.LEDGER} set at = now() - interval '1 second'")
    monkeypatch.setattr(ledger, "sweep", ledger.Sweep())
    run(query(database, "insert into log(what) values('y')"))
    assert server.execute(f"select count(*) from {databases.LEDGER}") == [(1,)]


def test_processes_that_make_the_table_for_tokens_at_the_same_time(database: PostgresDatabase, server: Postgres) -> None:
    for _ in range(5):
        server.execute(f"drop table {databases.LEDGER}")
        assert [
            done.rc for done in drive(*(Driver(query(database, "insert into log(what) values('x')")) for _ in range(20)))
        ] == [-2] * 20
    assert len(logs(server)) == 100


@pytest.mark.parametrize("text", ["select nextval('log_id_seq')", "select 1; select 2", "vacuum log", "select * into v from kv"])
def test_a_statement_of_which_nobody_can_know_is_lost(database: PostgresDatabase, text: str) -> None:
    driver = Driver(query(database, text))
    assert Operation.registry["avp_db_query"].thaw(driver.state, [], b"").start() == Done(LOST)
    driver.op.close()
    driver.result = Done(-1)


# --- URLs and parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("postgres:u", "form"),
        ("postgres://host/d", "no user"),
        ("postgres://u:p@host", "no database"),
        ("postgres://u:p@host:99999/d", "port"),
        ("postgres://u:p@host/d?compress=1", "compress"),
    ],
)
def test_bad_urls_are_refused_with_a_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_postgres_url(text)


def test_urls() -> None:
    url = parse_postgres_url("postgres://opensips:p@ss:w?rd@[::1]:3307/sip?sslmode=disable")
    assert (url.user, url.password, url.host, url.port, url.database) == ("opensips", "p@ss:w?rd", "::1", 3307, "sip")
    assert "p@ss" not in url.name
    assert parse_postgres_url("postgres://u@h/d").port == 5432


def test_parameters() -> None:
    db_postgres.timeout.value = 7
    db_postgres.configure()
    assert pool.settings.patience == 7.0
    db_postgres.timeout.value = 0
    with pytest.raises(ConfigError, match="timeout"):
        db_postgres.configure()
    db_postgres.timeout.value = 5
    db_postgres.configure()
