"""Fixtures: running servers and their partners. See ``docs/testing.md``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from opensips_py.core.wiring import wire
from opensips_py.modules import path, rr
from scripts.testbed.dns_server import DnsServer
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from scripts.testbed.sipp import Sipp, callee
from tests.support.driven_clock import DrivenClock
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient

# the same examples in every run, and no limit on the time of one: --hypothesis-profile=default looks for others
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")
# for tests of layers without a server: what a start does
wire()
rr.configure()
path.configure()

StartServer = Callable[..., Server]
StartDns = Callable[..., DnsServer]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> DrivenClock:
    """The server's clock, which stands still until the test sets ``clock.now``."""
    return DrivenClock(monkeypatch)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers: ``server(script, workers=2, …) -> Server``.

    At the end each is stopped with SIGTERM and must end with status 0, leave no process behind and have logged no
    traceback, nor that a descriptor was closed while it was watched. A test that ends a server itself calls ``stop()``
    or ``kill()``. (``tmp_path``, where a script may write, is removed after that.)
    """
    started: list[Server] = []

    def start(script: str, workers: int = 2, **arguments: Any) -> Server:
        started.append(Server(script, workers, **arguments))
        return started[-1]

    yield start
    problems = []
    for running in started:
        try:
            if running.process.poll() is None and running.stop() != 0:
                problems.append(f"ended with status {running.process.returncode}:\n{running.log}")
        except AssertionError as error:
            problems.append(str(error))
        if "Traceback" in running.log:
            problems.append(f"traceback in the log:\n{running.log}")
        if "closed while it was watched" in running.log:
            problems.append(f"a descriptor was closed before it was removed from the reactor:\n{running.log}")
        running.remove()
    assert not problems, "\n".join(problems)


@pytest.fixture
def client() -> Iterator[Callable[..., SipClient]]:
    """Make SIP user agents: ``client(server.address) -> SipClient``; closed at the end."""
    made: list[SipClient] = []

    def make(*arguments: Any, **named: Any) -> SipClient:
        made.append(SipClient(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """One MariaDB for all tests; whoever stops, kills or freezes it starts or thaws it again."""
    database = MariaDB()
    yield database
    database.remove()


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    """An HTTP server that can be slow and broken."""
    running = HttpServer()
    yield running
    running.close()


@pytest.fixture
def sipp_callee() -> Iterator[Callable[..., Sipp]]:
    """Start sipp callees: ``sipp_callee(port) -> Sipp``."""
    started: list[Sipp] = []

    def start(port: int, scenario: str = "callee") -> Sipp:
        started.append(callee(port, scenario))
        return started[-1]

    yield start
    for one in started:
        one.remove()


@pytest.fixture
def dns() -> Iterator[StartDns]:
    """Start DNS servers: ``dns(zone)``; they are stopped at the end."""
    started: list[DnsServer] = []

    def start(zone: str = "", **arguments: Any) -> DnsServer:
        started.append(DnsServer(zone, **arguments))
        return started[-1]

    yield start
    for running in started:
        running.close()
