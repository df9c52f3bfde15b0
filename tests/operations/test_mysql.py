"""avp_db_query(): a real MariaDB, its connections, its ends."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pymysql
import pytest

from opensips_py.db import database as databases
from opensips_py.db import statement
from opensips_py.db.mysql import pool as pools
from opensips_py.db.mysql.database import MysqlDatabase
from opensips_py.db.mysql.pool import Pool
from opensips_py.db.mysql.url import parse_database_url
from opensips_py.db.script_queries import AvpDbQuery, SqlInsert
from opensips_py.db.statement import Raw
from opensips_py.engine.operation import LOST, Done
from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from tests.operations.driving import Driver, Taker, drive, run, takers

pytestmark = pytest.mark.usefixtures("no_leaks")

ACCOUNT = "voip:pa:ss@word"
"""Name and password of the account that the pools under test use."""


def url_of(server: MariaDB, host: str = "127.0.0.1") -> str:
    return f"mysql://{ACCOUNT}@{host}:{server.port}/voip"


def connections(server: MariaDB) -> list[int]:
    """Ids of the connections that the pools have."""
    return [int(row[0]) for row in server.as_root("select id from information_schema.processlist where user='voip'")]


@pytest.fixture(scope="module")
def database() -> Iterator[MariaDB]:
    server = MariaDB("voip")
    name, _, password = ACCOUNT.partition(":")
    server.as_root(
        f"create user '{name}'@'%' identified by '{password}'",
        f"grant all on voip.* to '{name}'@'%'",
        "create table kv(k char(32), v varchar(64), n int)",
        "insert into kv values('bob','bob value',7),('multi','m1',1),('multi','m2',2),('nul',NULL,NULL)",
        "create table types(t tinyint, b bigint, d decimal(8,2), f double, at datetime, x blob, s varchar(200))",
        "insert into types values(-3, 5000000000, 12.50, 1.5, '2026-01-02 03:04:05', x'00ff0a', 'äöü ß')",
        "create table big(id int, body longtext)",
        "insert into big values(1, repeat('abcdefghij', 100000)), (2, repeat('x', 300)), (3, repeat('y', 70000))",
        "create table log(id int primary key auto_increment, what varchar(64))",
    )
    yield server
    server.remove()


@pytest.fixture
def db(database: MariaDB, process: SimpleNamespace, no_leaks: None) -> Iterator[Pool]:
    """A fresh pool."""
    pools._pools.clear()
    databases.forget_all()
    one = pools.pool(url_of(database))
    yield one
    one.close()
    assert (one.size, one.connecting, len(one.waiting)) == (0, 0, 0)
    assert process.keeper.held == {}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    for module in ("clients.connection_pool", "db.mysql.call"):
        monkeypatch.setattr(f"opensips_py.{module}.log", lambda level, module, function, text: texts.append(text))
    return texts


@pytest.fixture
def taker() -> Iterator[Callable[[], Taker]]:
    yield from takers("opensips_py.db.script_queries", "opensips_py.modules.db_mysql")


def query(pool: Pool, text: str, *targets: str) -> AvpDbQuery:
    database = MysqlDatabase(pool.url.text)
    database.pool = pool
    return AvpDbQuery(database, Raw(text.encode().decode("latin-1")), list(targets) or None)


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
        ("select v,n from kv where k='bob'", [], Done(1, [("$avp(1)", "bob value"), ("$avp(2)", 7)])),
        ("select v,n from kv where k='bob'", ["$avp(v)"], Done(1, [("$avp(v)", "bob value")])),
        ("bad sql", ["$avp(v)"], Done(-1)),
        ("insert into log(what) values('x')", [], Done(-2)),
        ("select count(*) from kv", ["$avp(c)"], Done(1, [("$avp(c)", 4)])),
    ],
)
def test_results(db: Pool, mode: str, text: str, targets: list[str], done: Done) -> None:
    assert run(query(db, text, *targets), mode) == done


@pytest.mark.parametrize(
    "text",
    ["select 1; select 2", "select ';' ; delete from kv", 'select "\'";select 2;', "update kv set n=9;\nselect `k` from kv"],
)
def test_of_several_statements_in_a_query_none_is_run(db: Pool, logged: list[str], text: str) -> None:
    assert run(query(db, text)).rc == -1
    assert any("error 1064: several statements in one query are not supported, none of them was run" in line for line in logged)
    assert run(query(db, "select n from kv where k='bob';", "$avp(n)")) == Done(1, [("$avp(n)", 7)])


@pytest.mark.parametrize("text", ["selec 1", "select 'a;b' fro kv", "select 1 fro kv;", "select 1 fro kv; ;"])
def test_another_syntax_error_is_told_as_the_server_says_it(db: Pool, logged: list[str], text: str) -> None:
    assert run(query(db, text)).rc == -1
    assert any("You have an error in your SQL syntax" in line for line in logged)


def test_types_and_bytes_of_columns(db: Pool) -> None:
    names = [f"$avp({name})" for name in ("t", "b", "d", "f", "at", "x", "s")]
    at = int(time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1)))
    text = "äöü ß".encode().decode("latin-1")
    assert [value for _, value in run(query(db, "select * from types", *names)).outputs] == [
        -3,
        "5000000000",
        "12.50",
        "1.5",
        at,
        "\0\xff\n",
        text,
    ]
    assert run(query(db, "select s from types where s='äöü ß'", "$avp(s)")).outputs == [("$avp(s)", text)]


def test_long_values_cross_packets_and_reads(db: Pool) -> None:
    done = run(query(db, "select body, id from big order by id desc", "$avp(body)", "$avp(id)"))
    assert [len(value) for name, value in done.outputs if isinstance(value, str)] == [1_000_000, 300, 70_000]
    assert [value for name, value in done.outputs if name == "$avp(id)"] == [1, 2, 3]


def test_a_query_longer_than_the_send_buffer_is_sent_whole(db: Pool) -> None:
    text = "z" * 9_000_000
    assert run(query(db, f"select length('{text}')", "$avp(n)")).outputs == [("$avp(n)", 9_000_000)]


def test_connections_are_used_again_and_the_fd_store_is_told_once(db: Pool, database: MariaDB, process: SimpleNamespace) -> None:
    for _ in range(20):
        assert run(query(db, "select 1", "$avp(x)")).rc == 1
    assert (db.size, len(connections(database))) == (1, 1)
    assert list(process.keeper.held) == [db.idle[0].stream.fd_key]


def test_unix_socket(database: MariaDB, process: SimpleNamespace, no_leaks: None) -> None:
    database.as_root(
        "create user if not exists 'voip'@'localhost' identified by 'pa:ss@word'", "grant all on voip.* to voip@localhost"
    )
    one = pools.pool(f"mysql://{ACCOUNT}@localhost/voip?unix_socket={database.home}/socket")
    assert run(query(one, "select 5", "$avp(x)")).outputs == [("$avp(x)", 5)]
    one.close()


def test_a_host_name_is_looked_up_without_blocking(database: MariaDB, process: SimpleNamespace, no_leaks: None) -> None:
    one = pools.pool(url_of(database, "localhost"))
    assert run(query(one, "select 5", "$avp(x)")).rc == 1
    one.close()


def test_wrong_password_and_unknown_database(
    database: MariaDB, process: SimpleNamespace, logged: list[str], no_leaks: None
) -> None:
    for url in (url_of(database).replace("pa:ss", "wrong"), url_of(database).replace("/voip", "/nothing")):
        one = pools.pool(url)
        assert run(query(one, "select 5")) == Done(-1)
        assert one.size == 0
    assert len(logged) == 2
    assert "denied" in logged[0]


def test_more_queries_than_connections_wait_in_order(db: Pool, database: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this.program.settings, "db_max_async_connections", 4)
    drivers = [Driver(query(db, f"select {n}, sleep(0.02)", "$avp(n)", "$avp(s)")) for n in range(20)]
    assert (db.size, len(db.waiting)) == (4, 16)
    assert [done.outputs[0][1] for done in drive(*drivers)] == list(range(20))
    assert (db.size, len(connections(database))) == (4, 4)


def test_a_plain_query_does_not_wait_for_parked_ones(db: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this.program.settings, "db_max_async_connections", 1)
    parked = [Driver(query(db, "select sleep(1.5)")), Driver(query(db, "select 2"))]
    began = this.clock.now()
    assert run(query(db, "select 3", "$avp(x)"), "plain").rc == 1
    assert this.clock.now() - began < 1.2
    assert [done.rc for done in drive(*parked)] == [1, 1]


def test_a_hundred_queries_run_side_by_side(db: Pool) -> None:
    began = this.clock.now()
    results = drive(*(Driver(query(db, "select sleep(0.1)")) for _ in range(100)))
    assert [done.rc for done in results] == [1] * 100
    assert this.clock.now() - began < 8


def test_those_who_wait_are_served_when_others_give_up(db: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this.program.settings, "db_max_async_connections", 1)
    first, second, third = (Driver(query(db, f"select {n}", "$avp(x)")) for n in range(3))
    assert first.op.expire() == Done(-1)  # while connecting
    second.op.close()
    assert drive(third)[0] == Done(1, [("$avp(x)", 2)])
    first.result = second.result = Done(-1)


def test_database_down_at_start_and_back_later(process: SimpleNamespace, logged: list[str], database: MariaDB) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = pools.pool(url_of(database).replace(str(database.port), str(port)))
    for _ in range(50):
        assert run(query(one, "select 1")) == Done(-1)
    assert len(logged) == 1
    one.url = parse_database_url(url_of(database))
    until = this.clock.now() + 20
    while run(query(one, "select 1")).rc != 1:
        assert this.clock.now() < until
        time.sleep(0.01)
    assert len(logged) == 2
    assert logged[1].endswith("is back")
    one.close()


def test_a_server_that_closes_an_idle_connection_costs_no_query(db: Pool, database: MariaDB) -> None:
    assert run(query(db, "select 1")).rc == 1
    (connection,) = connections(database)
    database.as_root(f"kill {connection}")
    time.sleep(0.05)
    assert run(query(db, "select 2", "$avp(x)")) == Done(1, [("$avp(x)", 2)])
    assert db.size == 1


def test_a_connection_lost_during_the_query_gives_minus_1(db: Pool, database: MariaDB, logged: list[str]) -> None:
    driver = Driver(query(db, "select sleep(10)"))
    while not driver.op.fd_key:
        driver.turn(0.1)
    (connection,) = connections(database)
    database.as_root(f"kill {connection}")
    assert drive(driver)[0] == Done(-1)
    assert db.size == 0
    assert run(query(db, "select 2")).rc == 1
    assert len(logged) == 1


def test_database_killed_and_restarted(db: Pool, database: MariaDB, logged: list[str]) -> None:
    drivers = [Driver(query(db, "select sleep(10)")) for _ in range(5)]
    while not all(driver.op.fd_key for driver in drivers):
        for driver in drivers:
            driver.turn(0.01)
    database.kill()
    assert drive(*drivers) == [Done(-1)] * 5
    assert run(query(db, "select 1")) == Done(-1)
    assert run(query(db, "select 1")) == Done(-1)
    database.start()
    until = this.clock.now() + 20
    while run(query(db, "select 1")).rc != 1:
        assert this.clock.now() < until
        time.sleep(0.01)
    assert [text.split()[0] for text in logged] == ["connection", "database", "database"]


def test_a_host_that_swallows_the_connection_is_given_up(
    process: SimpleNamespace, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools.settings, "patience", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, says nothing
        one = pools.pool(f"mysql://u:p@127.0.0.1:{silent.getsockname()[1]}/d")
        began = this.clock.now()
        assert run(query(one, "select 1"), "plain") == Done(-1)
        assert 0.09 < this.clock.now() - began < 5
    assert (one.size, one.connecting) == (0, 0)


def test_the_deadline_closes_the_connection(db: Pool, database: MariaDB) -> None:
    driver = Driver(query(db, "select sleep(5)"))
    while not driver.op.fd_key:
        driver.turn(0.1)
    assert driver.op.expire() == Done(-1)
    assert db.size == 0
    driver.op.close()


def test_a_plain_query_is_not_waited_for_endlessly(db: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools.settings, "patience", 0.2)
    assert run(query(db, "select sleep(5)"), "plain") == Done(-1)
    assert db.size == 0


def test_another_process_goes_on_with_a_half_read_answer(db: Pool, taker: Callable[[], Taker], process: SimpleNamespace) -> None:
    assert run(query(db, "select 1")).rc == 1
    text = "select id, if(id = 3, sleep(0.4), sleep(0.02)), body from big order by id"
    driver = Driver(query(db, text, "$avp(id)", "$avp(s)", "$avp(b)"))
    while not driver.journal:
        driver.turn(0.1)
    assert driver.result is None
    key = driver.op.fd_key or ""
    other = taker()
    other.hand_over("avp_db_query", driver.state, process.keeper.held[key], driver.journal)
    process.keeper.drop(key)
    driver.op.forget()
    done = other.result()
    assert done.rc == 1
    assert [value for name, value in done.outputs if name == "$avp(id)"] == [3, 2, 1]
    assert [len(str(value)) for name, value in done.outputs if name == "$avp(b)"] == [70_000, 300, 1_000_000]
    driver.op.close()


def test_a_query_not_yet_sent_is_sent_by_the_other_process(
    db: Pool, database: MariaDB, taker: Callable[[], Taker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(this.program.settings, "db_max_async_connections", 1)
    database.as_root("delete from log")
    first = Driver(query(db, "select sleep(0.2)"))
    waiting = Driver(query(db, "insert into log(what) values('once')"))
    other = taker()
    other.hand_over("avp_db_query", waiting.op.freeze(), [], b"")
    waiting.op.forget()
    assert other.result() == Done(-2)
    assert drive(first)[0].rc == 1
    assert len(database.as_root("select * from log")) == 1


def test_a_query_whose_connection_is_lost_to_the_other_process(db: Pool) -> None:
    assert run(query(db, "select 1")).rc == 1
    driver = Driver(query(db, "select sleep(0.2)"))
    assert run(AvpDbQuery.thaw(driver.op.freeze(), [], b"")).rc == 1, "what only reads is asked again"
    assert drive(driver)[0].rc == 1
    for change in ("update log set what = sleep(0.1)", "select 1 into @a"):
        driver = Driver(query(db, change))
        heir = AvpDbQuery.thaw(driver.op.freeze(), [], b"")
        assert heir.start() == Done(LOST), change
        heir.close()
        drive(driver)


def test_forgetting_disturbs_nothing_that_the_taker_uses(db: Pool, process: SimpleNamespace) -> None:
    assert run(query(db, "select 1")).rc == 1
    driver = Driver(query(db, "select 42, sleep(0.1)", "$avp(x)"))
    fd = os.dup(driver.op.fileno())
    heir = AvpDbQuery.thaw(driver.op.freeze(), [fd], b"")
    driver.op.forget()
    process.keeper.drop(next(iter(process.keeper.held)))
    assert run(heir).outputs == [("$avp(x)", 42)]
    assert db.size == 1


def insert(pool: Pool, once: str, table: str = "log") -> SqlInsert:
    database = MysqlDatabase(pool.url.text)
    database.pool = pool
    return SqlInsert(database, statement.insert(table, {"what": "x"}), once=once)


def test_a_change_with_a_name_is_made_once(db: Pool, database: MariaDB, taker: Callable[[], Taker], logged: list[str]) -> None:
    database.as_root("drop table if exists opensips_py_done", "delete from log")
    for mode in ("plain", "async", "launch"):
        assert run(insert(db, "call 1"), mode) == Done(1)
    heir = taker()
    heir.hand_over("sql_insert", insert(db, "call 1").freeze(), [], b"")
    assert heir.result() == Done(1)
    assert len(database.as_root("select * from log")) == 1
    assert run(insert(db, "call 2", "missing")) == Done(-1)
    assert run(insert(db, "call 2")) == Done(1), "it was not made"
    assert len(database.as_root("select * from log")) == 2


@contextlib.contextmanager
def locked(database: MariaDB) -> Iterator[None]:
    """Nobody can write to table ``log`` meanwhile."""
    other = pymysql.connect(unix_socket=f"{database.home}/socket", user="root", database=database.database)
    with other, other.cursor() as cursor:
        cursor.execute("lock tables log write")
        yield


def waiting(database: MariaDB, driver: Driver) -> int:
    """The connection on which the change waits for the lock."""
    while not (found := database.as_root("select id from information_schema.processlist where state like '%metadata lock'")):
        assert driver.turn(0.01) is None
    return int(found[0][0])


def test_a_change_with_a_name_whose_connection_is_lost_is_made_once(db: Pool, database: MariaDB) -> None:
    database.as_root("delete from log")
    assert run(insert(db, "call 3")) == Done(1)
    with locked(database):
        driver = Driver(insert(db, "call 4"))
        database.as_root(f"kill {waiting(database, driver)}")
        while database.as_root("select id from information_schema.processlist where command = 'Killed'"):
            driver.turn(0.01)
    assert drive(driver)[0] == Done(1)
    assert len(database.as_root("select * from log")) == 2


def test_two_processes_that_make_the_same_change_make_it_once(db: Pool, database: MariaDB, taker: Callable[[], Taker]) -> None:
    database.as_root("delete from log")
    heir = taker()
    with locked(database):
        driver = Driver(insert(db, "call 5"))
        waiting(database, driver)
        heir.hand_over("sql_insert", driver.state, [], b"")
    assert drive(driver)[0] == Done(1)
    assert heir.result() == Done(1)
    assert len(database.as_root("select * from log")) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("postgres://u:p@h/d", "postgres"),
        ("mysql:u", "form"),
        ("mysql://host/d", "no user"),
        ("mysql://u:p@host", "no database"),
        ("mysql://u:p@host:99999/d", "port"),
        ("mysql://u:p@host/d?compress=1", "compress"),
    ],
)
def test_bad_database_urls_are_refused_with_a_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_database_url(text)


def test_database_urls() -> None:
    url = parse_database_url("mysql://opensips:p@ss:w?rd@[::1]:3307/sip?charset=latin1")
    assert (url.user, url.password, url.host, url.port, url.database, url.charset) == (
        "opensips", "p@ss:w?rd", "::1", 3307, "sip", "latin1",
    )  # fmt: skip
    assert "p@ss" not in url.name
