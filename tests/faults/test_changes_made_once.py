"""Workers that are killed or stopped while they write to a database: every change is made once, every request is answered."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from scripts.testbed.postgres import Postgres
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES.replace("db_mysql", "db_KIND")
    + """
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


class File:
    """A SQLite file."""

    kind = "sqlite"
    parameters = 'modparam("db_sqlite", "busy_timeout", 30)\n'

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"sqlite://{path}"
        with self._opened() as connection:
            connection.execute("create table log(what varchar(64))")
            connection.execute("PRAGMA journal_mode=WAL")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=20)
        yield connection
        connection.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody can write meanwhile."""
        with self._opened() as connection:
            connection.execute("begin immediate")
            yield
            connection.execute("commit")

    def rows(self) -> list[str]:
        """What has been written."""
        with self._opened() as connection:
            return sorted(what for (what,) in connection.execute("select what from log"))


class PostgresTable:
    """A table of a PostgreSQL server."""

    kind = "postgres"
    parameters = ""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.url = server.url
        server.execute("drop table if exists log", "create table log(what varchar(64))")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody can write meanwhile."""
        with psycopg.connect(self.url.replace("postgres://", "postgresql://")) as other:
            other.execute("lock table log in exclusive mode")
            yield

    def rows(self) -> list[str]:
        """What has been written."""
        return sorted(what for (what,) in self._server.execute("select what from log"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    running = Postgres()
    yield running
    running.remove()


Log = File | PostgresTable


@pytest.fixture(params=["sqlite", "postgres"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    if request.param == "sqlite":
        return File(tmp_path / "case.db")
    return PostgresTable(request.getfixturevalue("postgres"))


@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_while_the_table_is_locked(
    server: StartServer, client: MakeClient, log: Log, killed: signal.Signals
) -> None:
    running = server(SCRIPT.replace("KIND", log.kind).replace("DB_URL", log.url) + log.parameters, workers=2)
    with log.locked():
        callers = [client(running.address) for _ in range(8)]
        for number, caller in enumerate(callers):
            caller.request("OPTIONS", f"sip:n{number}@127.0.0.1:{running.port}")
        wait_parked(running, len(callers))
        worker = int(running.wait_log("@@asked by")[0].rsplit(" ", 1)[1])
        os.kill(worker, killed)
    assert {caller.final(20).header("X-Result") for caller in callers} == {"-2"}, running.log
    if killed == signal.SIGSTOP:
        os.kill(worker, signal.SIGCONT)
    assert log.rows() == [f"n{number}" for number in range(8)]
