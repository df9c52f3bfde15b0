"""The server's one clock."""

from __future__ import annotations

import os
import time

import pytest

from ipc.clock import CATCH_UP, Clock


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A wall clock that stands still until it is set; CLOCK_MONOTONIC stands still as well."""
    at = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: at[0])
    monkeypatch.setattr(time, "monotonic", lambda: 5000.0)
    return at


def test_it_shows_the_wall_clock(wall: list[float]) -> None:
    assert Clock().now() == wall[0]


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_moves_it_by_little_at_a_time(wall: list[float], step: float) -> None:
    clock = Clock()
    before = wall[0]
    wall[0] += step
    assert clock.now() == before, "no timer fires, and none is put off, when somebody sets the wall clock"
    assert clock.follow() == step
    assert abs(clock.now() - before) == pytest.approx(CATCH_UP, abs=1e-6)


@pytest.mark.parametrize("step", [0.05, -0.05])
def test_it_arrives_at_a_stepped_wall_clock_and_stays_there(wall: list[float], step: float) -> None:
    clock = Clock()
    wall[0] += step
    for _ in range(5):
        clock.follow()
    assert clock.now() == pytest.approx(wall[0], abs=1e-6)
    assert clock.wall() == wall[0]


def test_after_a_restart_a_time_means_the_same(wall: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Clock().now() + 32
    wall[0] += 30
    monkeypatch.setattr(time, "monotonic", lambda: 7.0)  # the machine has started again
    assert deadline - Clock().now() == 2


def test_all_processes_of_a_server_follow_together(wall: list[float]) -> None:
    clock = Clock()
    wall[0] += 1
    pid = os.fork()
    if not pid:
        clock.follow()
        os._exit(0)
    os.waitpid(pid, 0)
    assert clock.now() == pytest.approx(wall[0] - 1 + CATCH_UP, abs=1e-6)
