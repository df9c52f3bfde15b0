from __future__ import annotations

from functools import partial

import pytest

from ipc.counters import MAX_COLUMNS, Counters, CountersError
from ipc.load import SAMPLES, LoadHistory
from tests.ipc.processes import die, fork, killed, succeeded


def test_all_processes_count_into_one_sum(directory: str) -> None:
    counters = Counters.create(directory, 4)
    counters.reserve(3)

    def child(slot: int) -> None:
        row = counters.row(slot)
        for _ in range(1000):
            row[1] += slot

    children = [fork(partial(child, slot)) for slot in (1, 2, 3)]
    assert all([succeeded(pid) for pid in children])
    assert counters.values([0, 1, 2]) == [0, 6000, 0]


def test_counts_of_a_killed_process_stay_and_its_replacement_goes_on(directory: str) -> None:
    counters = Counters.create(directory, 2)

    def child() -> None:
        counters.row(1)[0] += 5
        die()

    assert killed(fork(child))
    assert killed(fork(child))
    assert counters.value(0) == 10


def test_reset_keeps_later_counts_of_every_process(directory: str) -> None:
    counters = Counters.create(directory, 3)
    counters.row(1)[0] += 7
    counters.row(2)[0] -= 2
    counters.reset(0)
    assert counters.value(0) == 0
    counters.row(1)[0] += 3
    assert counters.value(0) == 3


def test_columns_are_given_out_after_the_reserved_ones_and_end(directory: str) -> None:
    counters = Counters.create(directory, 1)
    counters.reserve(MAX_COLUMNS - 2)
    counters.reserve(3)
    assert [counters.add_column(), counters.add_column()] == [MAX_COLUMNS - 2, MAX_COLUMNS - 1]
    with pytest.raises(CountersError):
        counters.add_column()
    with pytest.raises(CountersError):
        counters.reserve(MAX_COLUMNS + 1)


def test_status_fields_are_seen_by_others_and_do_not_touch_counts(directory: str) -> None:
    counters = Counters.create(directory, 3)

    def child() -> None:
        status = counters.status(2)
        status.pid, status.epoch, status.log_level = 4711, 9, -1
        status.busy_total_ns += 5

    assert succeeded(fork(child))
    status = counters.status(2)
    assert (status.pid, status.epoch, status.log_level, status.busy_total_ns, status.parked) == (4711, 9, -1, 5, 0)
    assert counters.status(1).pid == 0
    assert [counters.value(column) for column in (0, 1, MAX_COLUMNS - 1)] == [0, 0, 0]


def test_load_is_the_busy_share_of_the_window() -> None:
    history = LoadHistory(2)
    second = 1_000_000_000
    busy = 0
    for n in range(700):  # more than the ring holds: idle for 640 s, then busy for 60 s
        history.sample(n * second, [0, busy])
        busy += second if n >= 640 else 0
    now = 700 * second
    assert history.percent(1, 1, now, busy) == 100
    assert history.percent(1, 60, now, busy) >= 98
    assert history.percent(1, 600, now, busy) == 10
    assert history.percent(0, 60, now, 0) == 0


def test_load_after_the_start_looks_back_to_the_first_sample_only() -> None:
    history = LoadHistory(1)
    assert history.percent(0, 60, 5, 5) == 0
    history.sample(0, [0])
    assert history.percent(0, 600, 2_000_000_000, 1_000_000_000) == 50


def test_load_looks_back_ten_minutes_even_while_the_ring_turns() -> None:
    history = LoadHistory(1)
    for n in range(3 * SAMPLES):
        history.sample(n * 1_000_000_000, [n * 500_000_000])
        if n > 1:
            assert history.percent(0, 600, n * 1_000_000_000 + 1, n * 500_000_000) == 50


def test_a_process_stuck_in_a_callback_counts_as_busy(directory: str) -> None:
    counters = Counters.create(directory, 2)
    counters.sample_load()
    counters.status(1).busy_since_ns = 1  # for as long as the machine runs
    assert counters.load(1, 1) == 100
    assert counters.load(0, 1) == 0
