"""Workers that are killed between answering a caller and writing the record: each answer has its record, once."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SQLITE = 'modparam("db_sqlite", "busy_timeout", 30)'

SCRIPT = (
    """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "db_sqlite.so"
loadmodule "acc.so"
"""
    + SQLITE
    + """
modparam("acc", "db_url", "DB_URL")
modparam("acc", "extra_fields", "db: number")
modparam("acc", "extra_fields", "log: number")
route {
    do_accounting("log|db", "failed");
    $acc_extra(number) = $rU;
    xlog("@@answered by $pp\\n");
    t_reply(480, "Gone");
}
"""
)

TABLES = """
create table version(table_name char(32), table_version integer);
insert into version values('acc', 7);
create table acc(id integer primary key autoincrement not null, method char(16), from_tag char(64), to_tag char(64),
    callid char(64), sip_code char(3), sip_reason char(32), time datetime not null, duration integer default 0,
    ms_duration integer default 0, setuptime integer default 0, created datetime, number char(64));
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "case.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


@pytest.fixture
def mysql(mariadb: MariaDB) -> Iterator[MariaDB]:
    """MariaDB with the tables, running again after the test."""
    tables = TABLES.replace("integer primary key autoincrement not null", "integer primary key auto_increment not null")
    mariadb.as_root(*tables.replace("create table", "create or replace table").strip().rstrip(";").split(";"))
    yield mariadb
    if mariadb.process is None or mariadb.process.poll() is not None:
        mariadb.start()
    mariadb.as_root("drop table acc", "drop table version")


def numbers(file: Path) -> Counter[str]:
    connection = sqlite3.connect(file)
    try:
        return Counter(number for (number,) in connection.execute("select number from acc"))
    finally:
        connection.close()


def lines(running: Server) -> Counter[str]:
    return Counter(re.findall(r"ACC: transaction answered: .*;code=480;.*;number=(n\d+)", running.log))


def settled(read: Callable[[], Counter[str]], expected: Counter[str]) -> Counter[str]:
    """The rows, once there are as many as are expected."""
    wait_until(lambda: read().total() >= expected.total())
    return read()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not true() and time.monotonic() < end:
        time.sleep(0.05)


def answered(running: Server, client: MakeClient) -> tuple[Counter[str], set[int]]:
    """Eight requests are answered; what is to be accounted, and the workers that have answered."""
    callers = [client(running.address) for _ in range(8)]
    for number, caller in enumerate(callers):
        caller.request("OPTIONS", f"sip:n{number}@127.0.0.1:{running.port}")
    assert {caller.final(20).status for caller in callers} == {480}  # nobody waits for the record
    workers = {int(line.rsplit(" ", 1)[1]) for line in running.wait_log("@@answered by", count=8)}
    return Counter(f"n{number}" for number in range(8)), workers


def test_workers_killed_while_the_database_is_locked(server: StartServer, client: MakeClient, file: Path) -> None:
    running = server(SCRIPT.replace("DB_URL", f"sqlite://{file}"), workers=2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    expected, workers = answered(running, client)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    other.execute("commit")
    other.close()
    assert settled(lambda: numbers(file), expected) == expected
    assert settled(lambda: lines(running), expected) == expected


def in_mysql(mysql: MariaDB) -> Counter[str]:
    return Counter(str(number) for (number,) in mysql.execute("select number from acc"))


def test_workers_killed_while_mysql_is_about_to_write(server: StartServer, client: MakeClient, mysql: MariaDB) -> None:
    """What a dead worker has asked is still under way in the database when another one asks the same."""
    running = server(SCRIPT.replace("db_sqlite.so", "db_mysql.so").replace(SQLITE, "").replace("DB_URL", mysql.url), workers=2)

    def waiting() -> int:
        rows = mysql.execute("show full processlist")
        return sum("insert into" in str(row[7]).lower() and "opensips_py_done" not in str(row[7]) for row in rows)

    with pymysql.connect(unix_socket=f"{mysql.home}/socket", user="root", database=mysql.database) as lock:
        lock.cursor().execute("lock tables acc write")
        expected, workers = answered(running, client)
        wait_until(lambda: waiting() > 0)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        running.wait_log("starting another", count=len(workers))
        lock.cursor().execute("unlock tables")
    assert settled(lambda: in_mysql(mysql), expected) == expected
    assert settled(lambda: lines(running), expected) == expected


def test_a_database_that_dies_and_returns(server: StartServer, client: MakeClient, mysql: MariaDB) -> None:
    running = server(SCRIPT.replace("db_sqlite.so", "db_mysql.so").replace(SQLITE, "").replace("DB_URL", mysql.url), workers=2)
    mysql.kill()
    expected, _ = answered(running, client)
    assert settled(lambda: lines(running), expected) == expected
    mysql.start()
    assert settled(lambda: in_mysql(mysql), expected) == expected


def test_workers_killed_again_and_again(server: StartServer, client: MakeClient, file: Path) -> None:
    running = server(SCRIPT.replace("DB_URL", f"sqlite://{file}"), workers=2)
    expected: Counter[str] = Counter()
    for number in range(60):
        caller = client(running.address)
        caller.request("OPTIONS", f"sip:n{number}@127.0.0.1:{running.port}")
        assert caller.final(20).status == 480
        expected[f"n{number}"] += 1
        if number % 6 == 5:  # the moment of the answer is that of the record
            worker = int(running.wait_log("@@answered by", count=number + 1)[-1].rsplit(" ", 1)[1])
            os.kill(worker, signal.SIGKILL)
    assert settled(lambda: numbers(file), expected) == expected
    assert settled(lambda: lines(running), expected) == expected


def test_a_server_that_stops_writes_what_it_has_left(server: StartServer, client: MakeClient, mysql: MariaDB) -> None:
    running = server(SCRIPT.replace("db_sqlite.so", "db_mysql.so").replace(SQLITE, "").replace("DB_URL", mysql.url), workers=2)
    mysql.kill()
    expected, _ = answered(running, client)
    running.wait_log("ERROR:db_mysql", count=1)
    mysql.start()
    assert running.stop() == 0
    assert in_mysql(mysql) == expected


def test_a_server_that_stops_says_what_it_could_not_write(server: StartServer, client: MakeClient, mysql: MariaDB) -> None:
    running = server(SCRIPT.replace("db_sqlite.so", "db_mysql.so").replace(SQLITE, "").replace("DB_URL", mysql.url), workers=2)
    mysql.kill()
    expected, _ = answered(running, client)
    assert running.stop() == 0
    lost = re.findall(r"ERROR:core:outbox: given up after \d+ tries, and lost: acc \['db', .*\['number', '(n\d)'\]", running.log)
    assert Counter(lost) == expected
