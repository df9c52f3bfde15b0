"""Workers that are killed between answering a caller and writing the record: each answer has its record, once."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "db_sqlite.so"
loadmodule "acc.so"
modparam("db_sqlite", "busy_timeout", 30)
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


def numbers(file: Path) -> Counter[str]:
    connection = sqlite3.connect(file)
    try:
        return Counter(number for (number,) in connection.execute("select number from acc"))
    finally:
        connection.close()


def lines(running: Server) -> Counter[str]:
    return Counter(re.findall(r"ACC: transaction answered: .*;code=480;.*;number=(n\d+)", running.log))


def settled(file: Path, expected: Counter[str]) -> Counter[str]:
    """The rows, once there are as many as are expected."""
    end = time.monotonic() + 30
    while numbers(file).total() < expected.total() and time.monotonic() < end:
        time.sleep(0.05)
    return numbers(file)


def test_workers_killed_while_the_database_is_locked(server: StartServer, client: MakeClient, file: Path) -> None:
    running = server(SCRIPT.replace("DB_URL", f"sqlite://{file}"), workers=2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    callers = [client(running.address) for _ in range(8)]
    for number, caller in enumerate(callers):
        caller.request("OPTIONS", f"sip:n{number}@127.0.0.1:{running.port}")
    assert {caller.final(20).status for caller in callers} == {480}  # nobody waits for the record
    for worker in {int(line.rsplit(" ", 1)[1]) for line in running.wait_log("@@answered by", count=8)}:
        os.kill(worker, signal.SIGKILL)
    other.execute("commit")
    other.close()
    expected = Counter(f"n{number}" for number in range(8))
    assert settled(file, expected) == expected
    assert lines(running) == expected


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
    assert settled(file, expected) == expected
    assert lines(running) == expected
