"""Pools of connections to databases and web servers that are slow, down, or cut connections."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, wait_parked
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient
from tests.support.tcp_relay import TcpRelay

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES
    + """
modparam("avpops", "db_url", "DB_URL")
PARAMETERS
route {
    if ($rU == "slow") async(avp_db_query("SELECT SLEEP(1.2)", "$avp(out)"), resume);
    if ($rU == "query") async(avp_db_query("SELECT 'here'", "$avp(out)"), resume);
    if ($rU == "write") async(avp_db_query("INSERT INTO log VALUES ('x')"), resume);
    if ($rU == "hello") async(rest_get("HTTP_URL/hello", $avp(out)), resume);
    if ($rU == "never") async(rest_get("HTTP_URL/never", $avp(out)), resume);
    if ($rU == "delay") async(rest_get("HTTP_URL/delay/1200", $avp(out)), resume);
    async(rest_get("OTHER_URL/hello", $avp(out)), resume);
}
route[resume] {
    append_to_reply("X-Rc: $rc\\r\\n");
    t_reply(200, "OK");
}
"""
)


@pytest.fixture
def start(server: StartServer, mariadb: MariaDB, http_server: HttpServer) -> Callable[..., Server]:
    """``start(parameters, workers=…, db=…, http=…, other=…)``: a server with modparam lines, and other places of its peers."""

    def run(parameters: str = "", *, workers: int = 1, core: str = "", **places: str) -> Server:
        script = core + SCRIPT.replace("PARAMETERS", parameters)
        script = script.replace("DB_URL", places.get("db", mariadb.url))
        script = script.replace("HTTP_URL", places.get("http", http_server.url))
        return server(script.replace("OTHER_URL", places.get("other", http_server.url)), workers=workers)

    return run


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[MariaDB]:
    """The database, running again after the test."""
    yield mariadb
    if mariadb.process is None or mariadb.process.poll() is not None:
        mariadb.start()


@pytest.fixture
def relay() -> Iterator[Callable[[int], TcpRelay]]:
    made: list[TcpRelay] = []

    def make(port: int) -> TcpRelay:
        made.append(TcpRelay(("127.0.0.1", port)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _send(running: Server, client: MakeClient, user: str) -> SipClient:
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
    return caller


def _ask(running: Server, client: MakeClient, user: str, seconds: float = 20) -> str:
    return _send(running, client, user).final(seconds).header("X-Rc")


def _pool(running: Server, part: str) -> dict[str, Any]:
    (row,) = [row for row in running.mi("async_pools")["Pools"] if part in row["Destination"]]
    return dict(row)


def _wait(running: Server, statistic: str, value: int, seconds: float = 20) -> None:
    end = this.clock.now() + seconds
    while running.statistics(statistic)[statistic] != value:
        assert this.clock.now() < end, f"{running.statistics(statistic)}\n{running.log}"
        time.sleep(0.02)


# --- the queue ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "group", "core", "parameters", "part"),
    [
        ("slow", "db_mysql", "db_max_async_connections = 1\n", 'modparam("db_mysql", "max_waiting_queries", 2)', "mysql://"),
        (
            "delay",
            "rest_client",
            "",
            'modparam("rest_client", "max_async_transfers", 1)\nmodparam("rest_client", "max_waiting_transfers", 2)',
            "http://",
        ),
    ],
)
def test_a_full_queue_refuses_with_minus_4_and_says_so_once(
    start: Callable[..., Server], client: MakeClient, user: str, group: str, core: str, parameters: str, part: str
) -> None:
    running = start(parameters, core=core)
    callers = [_send(running, client, user) for _ in range(3)]
    wait_parked(running, 3)
    began = this.clock.now()
    assert [_ask(running, client, user) for _ in range(4)] == ["-4"] * 4
    assert this.clock.now() - began < 1.5, "refused at once"
    shown = _pool(running, part)
    assert (shown["Open"], shown["Waiting"], shown["Refused"], shown["State"]) == (1, 2, 4, "up")
    _wait(running, f"{group}:connections_waiting", 2)
    assert [caller.final().header("X-Rc") for caller in callers] == ["1"] * 3, "who waits is served"
    assert len(running.lines("refusing more ($rc -4)")) == 1
    assert len(running.lines("may wait again; 4 were refused")) == 1
    names = [f"{group}:{name}" for name in ("queue_full", "connections_waiting", "connections_open", "connections_idle")]
    assert list(running.statistics(*names).values()) == [4, 0, 1, 1]


def test_a_slow_web_server_does_not_hold_up_transfers_to_another(
    start: Callable[..., Server], client: MakeClient, relay: Callable[[int], TcpRelay], http_server: HttpServer
) -> None:
    other = relay(http_server.port)
    parameters = 'modparam("rest_client", "max_async_transfers", 4)\nmodparam("rest_client", "max_host_transfers", 3)'
    running = start(parameters, other=f"http://127.0.0.1:{other.port}")
    for _ in range(10):
        _send(running, client, "never")
    wait_parked(running, 10)
    for _ in range(5):
        assert _ask(running, client, "other", 3) == "1"
    shown = _pool(running, f":{http_server.port}")
    assert (shown["Open"], shown["Waiting"], shown["Limit"]) == (3, 7, 3)


# --- unused connections ---------------------------------------------------------------------------------------------------


def test_unused_connections_are_closed(start: Callable[..., Server], client: MakeClient) -> None:
    running = start('modparam("db_mysql", "idle_timeout", 1)\nmodparam("rest_client", "idle_timeout", 1)')
    assert (_ask(running, client, "query"), _ask(running, client, "hello")) == ("1", "1")
    for group in ("db_mysql", "rest_client"):
        _wait(running, f"{group}:connections_closed_idle", 1)
        names = [f"{group}:connections_{what}" for what in ("open", "idle", "opened")]
        assert list(running.statistics(*names).values()) == [0, 0, 1]
    assert (_ask(running, client, "query"), _ask(running, client, "hello")) == ("1", "1")


def test_levels_begin_again_when_a_worker_is_replaced(start: Callable[..., Server], client: MakeClient) -> None:
    running = start()
    assert _ask(running, client, "query") == "1"
    assert running.statistics("db_mysql:connections_open") == {"db_mysql:connections_open": 1}
    time.sleep(1.1)  # a process that dies right after its start is replaced with a pause
    for pid in running.pids("SIP receiver"):
        os.kill(pid, signal.SIGKILL)
    running.wait_log("is back")
    assert running.statistics("db_mysql:connections_open") == {"db_mysql:connections_open": 0}
    assert _ask(running, client, "query") == "1"
    assert running.statistics("db_mysql:connections_open", "db_mysql:connections_opened") == {
        "db_mysql:connections_open": 1,
        "db_mysql:connections_opened": 2,
    }


# --- a server that is down --------------------------------------------------------------------------------------------------


def test_a_database_that_is_back_is_found_without_an_operation(
    start: Callable[..., Server], client: MakeClient, database: MariaDB
) -> None:
    database.stop()
    running = start()
    assert _ask(running, client, "query") == "-1"
    assert _pool(running, "mysql://")["State"] == "down"
    database.start()
    running.wait_log("is back", 10)
    shown = _pool(running, "mysql://")
    assert (shown["State"], shown["Idle"]) == ("up", 1)
    assert _ask(running, client, "query") == "1"
    assert len(running.lines("cannot be reached")) == 1


@pytest.mark.parametrize("user", ["query", "hello"])
def test_a_server_that_is_down_is_not_stormed(
    start: Callable[..., Server],
    client: MakeClient,
    relay: Callable[[int], TcpRelay],
    mariadb: MariaDB,
    http_server: HttpServer,
    user: str,
) -> None:
    gate = relay(mariadb.port if user == "query" else http_server.port)
    gate.refusing = True
    url = mariadb.url.replace(f":{mariadb.port}/", f":{gate.port}/")
    running = start('modparam("rest_client", "connection_timeout", 1)', db=url, http=f"http://127.0.0.1:{gate.port}")
    if user == "hello":  # for HTTP, what counts is a connection that is refused
        gate.close()
    assert _ask(running, client, user) in ("-1", "-10")
    before = gate.accepted
    began = this.clock.now()
    count = 0
    caller = client(running.address)
    while this.clock.now() < began + 1.5:
        caller.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
        assert caller.final().header("X-Rc") == "-1"
        count += 1
    shown = _pool(running, f":{gate.port}")
    assert count > 10, "refused at once: each would have waited for a second"
    assert 2 <= shown["Failed"] <= 20, shown
    assert gate.accepted - before <= 20
    assert len(running.lines("cannot be reached" if user == "query" else f"http://127.0.0.1:{gate.port}")) == 1


def test_a_web_server_that_is_back_is_found(
    start: Callable[..., Server], client: MakeClient, relay: Callable[[int], TcpRelay], http_server: HttpServer
) -> None:
    gate = relay(http_server.port)
    running = start(http=f"http://127.0.0.1:{gate.port}")
    assert _ask(running, client, "hello") == "1"
    gate.close()
    end = this.clock.now() + 20
    while _ask(running, client, "hello") != "-1":
        assert this.clock.now() < end
    again = TcpRelay(("127.0.0.1", http_server.port), gate.port)
    try:
        end = this.clock.now() + 20
        while _ask(running, client, "hello") != "1":
            assert this.clock.now() < end, "never found again"
            time.sleep(0.05)
        assert len(running.lines(f"http://127.0.0.1:{gate.port} is back")) == 1
    finally:
        again.close()


# --- kept connections that end --------------------------------------------------------------------------------------------


def test_what_only_reads_is_sent_again_when_a_kept_connection_is_cut(
    start: Callable[..., Server], client: MakeClient, relay: Callable[[int], TcpRelay], mariadb: MariaDB
) -> None:
    gate = relay(mariadb.port)
    mariadb.execute("CREATE TABLE IF NOT EXISTS log (what VARCHAR(10))")
    running = start(db=mariadb.url.replace(f":{mariadb.port}/", f":{gate.port}/"))
    for user, rc in (("query", "1"), ("write", "-1")):
        assert _ask(running, client, "query") == "1"
        gate.cut = 1
        assert _ask(running, client, user) == rc
    assert running.statistics("db_mysql:retried") == {"db_mysql:retried": 1}
    assert len(running.lines("lost during the query [INSERT")) == 1
