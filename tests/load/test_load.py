"""The load table's own machinery, and its claim in small: asynchronous decisions lose no call where waiting in line does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.load import WORKS, Row, measure, script_for
from scripts.testbed.http_server import DelayServer
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.ports import free_port
from scripts.testbed.sipp import Sipp, caller


def test_sipp_figures_count_calls_and_response_times(sipp_callee: Callable[[int], Sipp]) -> None:
    port = free_port()
    sipp_callee(port)
    client = caller(("127.0.0.1", port), "caller", port=free_port(), calls=20, rate=200)
    try:
        assert client.wait(20) == 0
        figures = client.figures()
        assert (figures.offered, figures.completed, figures.failed, figures.retransmissions) == (20, 20, 0, 0)
        assert len(figures.response_ms) == 20 and figures.percentile(0.99) < 2000
    finally:
        client.remove()


def carry(name: str, script: str, rate: int, callee_port: int) -> Row:
    """A run of three seconds in which nothing was sent twice; no run may lose a call.

    A machine that has other work to do may stand still for the half second after which a caller repeats: then once more.
    """
    for _ in range(4):
        row = measure(name, script, rate, 3, 2, callee_port)
        assert (row.figures.completed, row.figures.failed) == (rate * 3, 0)
        if not row.figures.retransmissions:
            break
    assert row.figures.retransmissions == 0
    return row


@pytest.mark.database
@pytest.mark.slow
def test_two_workers_carry_a_hundred_calls_a_second_through_fifty_millisecond_queries(mariadb: MariaDB) -> None:
    mariadb.execute("CREATE OR REPLACE TABLE users (uid VARCHAR(64) PRIMARY KEY, credit INT)")
    mariadb.execute("INSERT INTO users VALUES ('alice', 100), ('bob', 50), ('carol', 20), ('dave', 5)")
    callee_port = free_port()
    script = script_for(WORKS["mysql"], True, {"callee": str(callee_port), "url": mariadb.url})
    row = carry("async MySQL", script, 100, callee_port)
    assert row.figures.percentile(0.5) >= 48


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate"), [("http", 100), ("exec", 40)])
def test_two_workers_carry_more_calls_than_waiting_in_line_could(kind: str, rate: int) -> None:
    callee_port = free_port()
    web = DelayServer()
    try:
        script = script_for(WORKS[kind], True, {"callee": str(callee_port), "http": str(web.port)})
        carry(kind, script, rate, callee_port)
    finally:
        web.close()
