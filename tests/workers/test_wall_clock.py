"""What the attendant does each second when somebody sets the wall clock. Nothing is forked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ipc.clock import CATCH_UP, Clock
from opensips_py.server.log import WARNING
from opensips_py.server.process import this
from workers import attendant
from workers.attendant import Attendant


def supervising() -> Any:
    """An attendant that has no processes."""
    idle: Any = object.__new__(Attendant)
    idle._stepped = False
    idle.counters = SimpleNamespace(sample_load=lambda: None)
    idle.reactor = SimpleNamespace(call_at=lambda when, callback: None)
    return idle


@pytest.mark.parametrize(("set_by", "said"), [(3600.0, "+3600 s"), (-3600.0, "-3600 s")])
def test_a_wall_clock_that_was_set_is_followed_slowly_and_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, set_by: float, said: str
) -> None:
    logged: list[tuple[Any, ...]] = []
    monkeypatch.setattr(attendant, "log", lambda *what: logged.append(what))
    clock = Clock()
    monkeypatch.setattr(this, "clock", clock)
    began = clock._offset[0]
    at = [clock.now(), clock.now()]
    monkeypatch.setattr(clock, "wall", lambda: at[0])
    monkeypatch.setattr(clock, "now", lambda: at[1] + clock._offset[0] - began)
    master = supervising()
    master._sample_load()
    assert logged == []
    at[0] += set_by
    for _ in range(3):
        master._sample_load()
    assert abs(clock.now() - at[1]) == pytest.approx(3 * CATCH_UP, abs=1e-5)
    assert [what[0] for what in logged] == [WARNING]
    assert said in logged[0][-1]
    at[0] = clock.now()
    master._sample_load()
    at[0] += set_by
    master._sample_load()
    assert len(logged) == 2, "a second step is told again"
