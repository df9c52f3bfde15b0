"""dispatcher when workers are killed: states, turns and what is to be written outlive them."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

TABLES = """
create table version(table_name char(32), table_version int);
insert into version values('dispatcher', 8);
create table dispatcher(id integer primary key, setid int, destination char(192), socket char(128), state int default 0,
    weight char(64) default '1', priority int default 0, attrs char(128) default '', description char(64) default '');
insert into dispatcher(setid, destination) values (1, 'sip:192.0.2.1'), (1, 'sip:192.0.2.2'), (1, 'sip:192.0.2.3');
"""
SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "db_sqlite.so"
modparam("db_sqlite", "busy_timeout", 30)
loadmodule "dispatcher.so"
modparam("dispatcher", "db_url", "sqlite://FILE")
route {
    if (ds_select_dst(1, $(rU{s.int}), "f")) sl_send_reply(480, "$du");
    else sl_send_reply(481, "None");
    if ($hdr(X-Mark) != NULL) { ds_mark_dst("i"); xlog("@@marked by $pp\\n"); }
}
"""
FIRST, IN_TURN = 8, 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "case.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


def states(file: Path) -> list[int]:
    connection = sqlite3.connect(file)
    try:
        return [state for (state,) in connection.execute("select state from dispatcher order by id")]
    finally:
        connection.close()


def chosen(caller: SipClient, running: Server, algorithm: int, headers: str = "") -> str:
    caller.request("OPTIONS", f"sip:{algorithm}@127.0.0.1:{running.port}", headers=headers)
    return str(caller.final(20).reason)


def test_states_and_turns_outlive_the_workers(server: StartServer, client: MakeClient, file: Path) -> None:
    running = server(SCRIPT.replace("FILE", str(file)), workers=2)
    caller = client(running.address)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    assert chosen(caller, running, FIRST, "X-Mark: 1") == "sip:192.0.2.1"
    running.wait_log("@@marked by")
    assert chosen(caller, running, IN_TURN) == "sip:192.0.2.2"
    before = running.pids("SIP receiver")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert chosen(caller, running, IN_TURN) == "sip:192.0.2.3"
    assert chosen(caller, running, FIRST) == "sip:192.0.2.2"
    assert states(file) == [0, 0, 0]
    other.execute("commit")
    other.close()
    end = time.monotonic() + 40
    while states(file) != [1, 0, 0] and time.monotonic() < end:
        time.sleep(0.05)
    assert states(file) == [1, 0, 0], "another process has written what the killed one had not"
