"""The two scripts of the manual's page on asynchronous statements do what the page says, with real partners."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from scripts.testbed.sipp import Sipp, caller

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
StartServer = Callable[..., Server]


def example(name: str, callee_port: int, **places: str) -> str:
    """An example with the places of this run: its sockets, FIFO, callee and what else is given."""
    text = (EXAMPLES / f"{name}.cfg").read_text()
    for old, new in {
        "socket=udp:127.0.0.1:5060": "socket=udp:127.0.0.1:{port}",
        "/tmp/opensips_fifo": "{tmp}/fifo",
        'loadmodule "signaling.so"': 'modparam("mi_fifo", "reply_dir", "{tmp}/")\nloadmodule "signaling.so"',
        "127.0.0.1:5080": f"127.0.0.1:{callee_port}",
        **places,
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


def calls(server: Server, count: int, rate: float = 20) -> Sipp:
    """``count`` calls by alice and bob in turn, over when it returns."""
    client = caller(server.address, "caller", port=free_port(), calls=count, rate=rate)
    client.wait(30)
    return client


@pytest.fixture
def users(mariadb: MariaDB) -> MariaDB:
    mariadb.execute("CREATE OR REPLACE TABLE users (uid VARCHAR(64) PRIMARY KEY, credit INT)")
    mariadb.execute("INSERT INTO users VALUES ('alice', 100), ('bob', 55), ('carol', 20), ('dave', 5)")
    return mariadb


@pytest.mark.database
def test_credit_of_the_caller_is_read_from_mysql_and_the_call_goes_on(
    server: StartServer, users: MariaDB, sipp_callee: Callable[[int], Sipp]
) -> None:
    port = free_port()
    sipp_callee(port)
    running = server(example("credit", port, **{"mysql://opensips:opensipsrw@127.0.0.1:3306/opensips": users.url}))
    client = calls(running, 8)
    try:
        assert client.figures().completed == 8, client.errors + running.log
        assert client.figures().retransmissions == 0
    finally:
        client.remove()
    for user, credit in {"alice": 100, "bob": 55, "carol": 20, "dave": 5}.items():
        assert len(running.lines(f"Credit of user {user} is {credit}")) == 2


@pytest.mark.database
def test_failed_query_is_logged_by_the_resume_route(server: StartServer, users: MariaDB, client: Callable[..., Any]) -> None:
    users.execute("DROP TABLE users")
    running = server(example("credit", free_port(), **{"mysql://opensips:opensipsrw@127.0.0.1:3306/opensips": users.url}))
    sip = client(running.address)
    sip.request("INVITE")
    assert sip.receive().status == 100
    running.wait_log("error -1 in avp_db_query()")


@pytest.mark.parametrize(
    ("program", "counted"), [("sleep 0.05", "pn-success"), ("sleep 0.05; exit 3", "pn-failure"), ("true", "pn-success")]
)
def test_push_notifications_are_counted_by_their_outcome_while_calls_go_on(
    server: StartServer, sipp_callee: Callable[[int], Sipp], tmp_path: Path, program: str, counted: str
) -> None:
    path = tmp_path / "send-google-pn"
    path.write_text(f"#!/bin/sh\necho started >> {tmp_path}/runs\n{program}\n")
    path.chmod(0o755)
    port = free_port()
    sipp_callee(port)
    running = server(example("push", port, **{"/usr/local/bin/send-google-pn.py": str(path)}))
    client = calls(running, 6)
    try:
        assert client.figures().completed == 6, client.errors + running.log
    finally:
        client.remove()
    assert counts(running, counted, 6) == {"pn-success": 0, "pn-failure": 0} | {counted: 6}
    assert (tmp_path / "runs").read_text().count("started") == 6


def test_missing_push_program_counts_as_failure(server: StartServer, sipp_callee: Callable[[int], Sipp]) -> None:
    port = free_port()
    sipp_callee(port)
    running = server(example("push", port, **{"/usr/local/bin/send-google-pn.py": "/nowhere/send-google-pn.py"}))
    client = calls(running, 2)
    try:
        assert client.figures().completed == 2, client.errors + running.log
    finally:
        client.remove()
    assert counts(running, "pn-failure", 2) == {"pn-success": 0, "pn-failure": 2}
    assert len(running.lines("error -1 in pn script!")) == 2


def counts(running: Server, name: str, value: int) -> dict[str, int]:
    """Both counters, once ``name`` has reached ``value`` or two seconds have passed."""
    end = this.clock.now() + 20
    while True:
        found = {key.split(":")[-1]: n for key, n in running.statistics("pn-success", "pn-failure").items()}
        if found[name] >= value or this.clock.now() > end:
            return found
        time.sleep(0.02)
