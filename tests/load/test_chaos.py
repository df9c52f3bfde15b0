"""Workers are killed in the middle of calls that wait for databases, web servers, programs and timers."""

from __future__ import annotations

import pytest

from scripts import chaos


@pytest.mark.database
@pytest.mark.slow
def test_every_call_gets_exactly_one_answer_while_workers_are_killed() -> None:
    account, kills, faults = chaos.run(10, rate=30, every=1.5)
    assert faults == []
    assert account.calls == 300
    assert kills >= 4
    assert set(account.by_status) <= {200, 486, 500}  # 500: its script was running in a process that was killed
