"""Thousands of parked operations: none is lost, nor late for long, also when the process that has them dies or is stuck."""

from __future__ import annotations

import os
import signal
import time

import pytest

from opensips_py.server.process import this
from scripts.scale import SCRIPT, Outcome, Requests, Scenario, measure, take_over_ms
from scripts.testbed.server import Server

pytestmark = pytest.mark.slow


def test_three_thousand_operations_are_parked_at_once_and_end_in_time() -> None:
    outcome = measure(Scenario("sleep(8)", 1000, 8.0, count=3000), 0, 2, {})
    assert (outcome.sent, len(outcome.took), outcome.refused) == (3000, 3000, 0)
    assert outcome.most_parked == 3000
    assert outcome.added(0, 8.0) >= 0
    assert outcome.added(0.99, 8.0) < 2000, "the limit is generous: make scale measures"


def test_what_a_dead_worker_had_parked_goes_on_in_the_others() -> None:
    text = SCRIPT.replace("{modules}", "").replace("{function}", "sleep(6)").replace("{transfers}", "10")
    server = Server(text, 3)
    requests, outcome = Requests(server), Outcome()
    killed: list[int] = []

    def look() -> None:
        if not killed and server.statistics("async:in_flight")["async:in_flight"] >= 1500:
            killed.append(server.pids("SIP receiver")[0])
            os.kill(killed[0], signal.SIGKILL)

    try:
        requests.run(outcome, 2000, 1000, 20, look)
        assert killed
        assert (len(outcome.took), outcome.refused) == (2000, 0)
        end = this.clock.now() + 20
        while server.statistics("async:in_flight")["async:in_flight"]:
            assert this.clock.now() < end
            time.sleep(0.05)
        assert server.stop(20) == 0
    finally:
        requests.close()
        if server.process.poll() is None:
            server.kill()
        server.remove()


def test_a_stuck_worker_s_operations_are_given_away_soon() -> None:
    assert max(take_over_ms(2)) < 1900, "the limit is generous: make scale measures"
