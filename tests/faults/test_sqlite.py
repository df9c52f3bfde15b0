"""Workers that are killed while they write to a SQLite file: every change is made once, and every request is answered."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.testbed.server import Server
from tests.faults.observing import MODULES, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES.replace("db_mysql", "db_sqlite")
    + """
modparam("db_sqlite", "busy_timeout", 30)
modparam("avpops", "db_url", "DB_URL")
route {
    xlog("@@asked by $pp\\n");
    async(avp_db_query("INSERT INTO log(what) VALUES('$rU')"), resume);
}
route[resume] {
    append_to_reply("X-Result: $rc\\r\\n");
    t_reply(200, "OK");
}
"""
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "case.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table log(what varchar(64))")
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_while_the_file_is_locked(
    server: StartServer, client: MakeClient, file: Path, killed: signal.Signals
) -> None:
    running = server(SCRIPT.replace("DB_URL", f"sqlite://{file}"), workers=2)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    callers = [client(running.address) for _ in range(8)]
    for number, caller in enumerate(callers):
        caller.request("OPTIONS", f"sip:n{number}@127.0.0.1:{running.port}")
    wait_parked(running, len(callers))
    worker = int(running.wait_log("@@asked by")[0].rsplit(" ", 1)[1])
    os.kill(worker, killed)
    other.execute("commit")
    assert {caller.final(20).header("X-Result") for caller in callers} == {"-2"}
    if killed == signal.SIGSTOP:
        os.kill(worker, signal.SIGCONT)
    rows = sorted(what for (what,) in other.execute("select what from log"))
    assert rows == [f"n{number}" for number in range(8)]
    other.close()
