"""Digest authentication with a database while processes and the database die: no nonce counts twice, no request is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.faults.observing import wait_parked
from tests.support.digest_client import answer, parameters
from tests.support.sip_client import Message, SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "db_mysql.so"
loadmodule "auth.so"
loadmodule "auth_db.so"
modparam("db_mysql", "timeout_interval", 10)
modparam("auth_db", "db_url", "DB_URL")
modparam("auth_db", "calculate_ha1", 1)
modparam("auth_db", "password_column", "password")
modparam("auth_db", "load_credentials", "")
modparam("auth_db", "skip_version_check", 1)
route {
    xlog("@@asked by $pp\\n");
    async(www_authorize("home", "accounts"), judged);
}
route[judged] {
    $var(rc) = $rc;
    xlog("@@judged $var(rc) by $pp\\n");
    if ($var(rc) == 1) t_reply(200, "OK");
    else if ($var(rc) == -5) t_reply(500, "No database");
    else www_challenge("home");
}
"""


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[MariaDB]:
    """With one account; running again after the test."""
    mariadb.execute("CREATE TABLE IF NOT EXISTS accounts(username VARCHAR(64) PRIMARY KEY, password VARCHAR(64))")
    mariadb.execute("REPLACE INTO accounts VALUES ('alice', 'secret')")
    yield mariadb
    mariadb.thaw()
    if mariadb.process is None or mariadb.process.poll() is not None:
        mariadb.start()


def register(phone: SipClient, credentials: str = "") -> None:
    phone.request("REGISTER", "sip:home", f"Authorization: {credentials}" if credentials else "")


def right_answer(running: Server, phone: SipClient) -> str:
    register(phone)
    challenge = phone.final()
    assert challenge.status == 401
    return answer(challenge.header("WWW-Authenticate"), "alice", "secret", "REGISTER", "sip:home")


def is_stale(reply: Message) -> bool:
    return reply.status == 401 and parameters(reply.header("WWW-Authenticate")).get("stale") == "true"


def kill_last(running: Server, text: str) -> int:
    pid = int(running.lines(text)[-1].rsplit(" ", 1)[1])
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_nonce_is_known_and_counts_once_in_every_process(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=2)
    phone, thief = client(running.address), client(running.address)
    given = right_answer(running, phone)
    challenger = kill_last(running, "@@judged -4")
    register(phone, given)
    assert phone.final().status == 200
    [judged] = running.lines("@@judged 1")
    assert not judged.endswith(f" {challenger}"), "another process has known the nonce"
    for _ in range(3):
        kill_last(running, "@@judged")
        register(thief, given)
        assert is_stale(thief.final())


def test_a_worker_killed_while_the_database_is_asked(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=2)
    phone, thief = client(running.address), client(running.address)
    first = right_answer(running, phone)
    register(phone, first)
    assert phone.final().status == 200
    given = right_answer(running, phone)
    database.freeze()
    register(phone, given)
    wait_parked(running)
    killed = kill_last(running, "@@asked by")
    database.thaw()
    assert phone.final().status == 200
    assert not running.lines("@@judged 1")[-1].endswith(f" {killed}")
    register(thief, given)
    assert is_stale(thief.final())


def test_a_slow_database_loses_no_request_and_holds_up_nobody(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=2)
    phones = [client(running.address) for _ in range(40)]
    answers = [right_answer(running, phone) for phone in phones]
    database.freeze()
    for phone, given in zip(phones, answers, strict=True):
        register(phone, given)
    wait_parked(running, len(phones))
    register(client(running.address))  # a challenge needs no database
    running.wait_log("@@judged -4", count=len(phones) + 1)
    database.thaw()
    assert {phone.final().status for phone in phones} == {200}


def test_a_database_that_dies_and_comes_back(server: StartServer, client: MakeClient, database: MariaDB) -> None:
    running = server(SCRIPT.replace("DB_URL", database.url), workers=2)
    phone = client(running.address)
    given = right_answer(running, phone)
    register(phone, given)
    assert phone.final().status == 200
    given = right_answer(running, phone)
    database.freeze()
    register(phone, given)
    wait_parked(running)
    database.kill()
    assert phone.final().reason == "No database"
    database.start()
    end = this.clock.now() + 20
    while True:
        register(phone, given)  # the failure has not used the nonce up
        reply = phone.final()
        if reply.status == 200:
            break
        assert reply.reason == "No database"
        assert this.clock.now() < end, "the server never finds the database again"
        time.sleep(0.1)
