"""Calls through a stateful proxy, with sipp's own scenarios and with datagrams that get lost."""

from __future__ import annotations

import pytest

from scripts import loss


@pytest.mark.slow
def test_no_call_of_sipps_own_scenarios_fails() -> None:
    run = loss.with_sipp(100, 4, 2)
    assert (run.figures.offered, run.figures.completed, run.figures.failed) == (400, 400, 0), run.errors


@pytest.mark.slow
def test_all_calls_complete_when_a_tenth_of_the_datagrams_is_lost_each_way() -> None:
    account, lost = loss.with_loss(30, 5, 2, 0.1)
    assert account.faults() == []
    assert account.calls == 150
    assert lost > 100
    assert set(account.by_status) == {200, 486}
