"""When the timer process counts as late: by the true clocks, which are not the same."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from opensips_py.server.process import this
from workers import timer_watch


def worker(looked: float, started: float) -> Any:
    """A process that looked for timers, and was started, so many seconds ago."""
    status = SimpleNamespace(timers_ns=this.clock.ticks() - int(looked * 1e9))
    return SimpleNamespace(pid=os.getpid(), status=status, started=this.clock.now() - started)


@pytest.mark.parametrize(
    ("looked", "started", "late"), [(0.01, 3600.0, False), (0.5, 3600.0, False), (60.0, 3600.0, True), (60.0, 0.1, False)]
)
def test_who_has_looked_lately_or_has_just_begun_is_not_late(looked: float, started: float, late: bool) -> None:
    assert timer_watch._is_late(worker(looked, started)) is late


def test_who_has_never_looked_is_late_after_its_start() -> None:
    one = worker(0.0, 60.0)
    one.status.timers_ns = 0
    assert timer_watch._is_late(one)
