"""A database that is down, dies, or refuses: return codes, one log line per change, recovery without restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES
    + """
modparam("avpops", "db_url", "DB_URL")
route {
    $avp(kind) = "async";
    if ($rU == "slow") async(avp_db_query("SELECT 'slow', SLEEP(30)", "$avp(out)"), resume);
    if ($rU == "empty") async(avp_db_query("SELECT 1 FROM DUAL WHERE 1 = 0", "$avp(out)"), resume);
    if ($rU == "error") async(avp_db_query("SELEKT 1", "$avp(out)"), resume);
    if ($rU == "binary") async(avp_db_query("SELECT UNHEX('00FF0D0A41')", "$avp(out)"), resume);
    if ($rU == "report") {
        launch(avp_db_query("SELECT 'reported'", "$avp(out)"), report);
        t_reply(200, "OK");
        exit;
    }
    async(avp_db_query("SELECT 'here'", "$avp(out)"), resume);
}
route[resume] {
    append_to_reply("X-Result: $rc $(avp(out){s.encode.hexa})\\r\\n");
    t_reply(200, "OK");
}
route[report] {
    xlog("@@reported rc=$rc $avp(out)\\n");
}
"""
)


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[MariaDB]:
    """The database, running again after the test."""
    yield mariadb
    if mariadb.process is None or mariadb.process.poll() is not None:
        mariadb.start()


def _ask(running: Server, client: MakeClient, name: str = "ask", seconds: float = 20) -> str:
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{name}@127.0.0.1:{running.port}")
    return caller.final(seconds).header("X-Result")


HERE = "1 " + b"here".hex()


def test_down_at_the_start_and_back_later(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    database.stop()
    running = server(SCRIPT.replace("DB_URL", database.url), workers=1)
    for _ in range(5):
        assert _ask(running, client) == "-1 <null>"
        time.sleep(0.1)
    assert len(running.lines("cannot be reached")) == 1
    client(running.address).request("OPTIONS", f"sip:report@127.0.0.1:{running.port}")
    running.wait_log("@@reported rc=-1 <null>")
    database.start()
    end = this.clock.now() + 20
    while _ask(running, client) != HERE:
        assert this.clock.now() < end, "the server never finds the database again"
        time.sleep(0.1)
    for _ in range(3):
        assert _ask(running, client) == HERE
    assert len(running.lines("is back")) == 1
    assert len(running.lines("cannot be reached")) == 1


def test_killed_in_mid_query(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=2)
    assert _ask(running, client) == HERE
    callers = [client(running.address) for _ in range(5)]
    for caller in callers:
        caller.request("INVITE", f"sip:slow@127.0.0.1:{running.port}")
    wait_parked(running, 5)
    database.kill()
    for caller in callers:
        answer = caller.final()
        assert (answer.status, answer.header("X-Result")) == (200, "-1 <null>")
        caller.in_transaction("ACK", to=answer.header("To"))
    database.start()
    end = this.clock.now() + 20
    while _ask(running, client) != HERE:
        assert this.clock.now() < end, "the server never finds the database again"
        time.sleep(0.1)


def test_frozen_in_mid_query_holds_up_nobody_else(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=1)
    assert _ask(running, client) == HERE
    caller = client(running.address)
    database.freeze()
    try:
        caller.request("OPTIONS", f"sip:ask@127.0.0.1:{running.port}")
        wait_parked(running)
        assert running.mi("uptime")
        caller.nothing(0.3)
    finally:
        database.thaw()
    assert caller.final().header("X-Result") == HERE


@pytest.mark.parametrize(("name", "result"), [("empty", "-2 <null>"), ("error", "-1 <null>"), ("binary", "1 00ff0d0a41")])
def test_results(server: StartServer, client: MakeClient, mariadb: MariaDB, name: str, result: str) -> None:
    running = server(SCRIPT.replace("DB_URL", mariadb.url), workers=1)
    assert _ask(running, client, name) == result
    assert len(running.lines("SELEKT")) == (name == "error")
    assert _ask(running, client) == HERE
