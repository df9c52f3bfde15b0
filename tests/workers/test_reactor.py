"""The event loop keeps its promises about order, removal, time and faults."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from opensips_py.core.operation import READ, WRITE
from workers.reactor import EpollReactor


@dataclass
class Row:
    busy_since_ns: int = 0
    busy_total_ns: int = 0


@dataclass
class Loop:
    row: Row = field(default_factory=Row)
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reactor = EpollReactor(self.row, self.errors.append)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.reactor.close()


def test_a_ready_descriptor_is_reported_with_what_it_is_ready_for(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    seen: list[int] = []

    def ready(events: int) -> None:
        seen.append(events)
        loop.reactor.stop()

    theirs.send(b"x")
    loop.reactor.add(ours.fileno(), READ | WRITE, ready)
    loop.reactor.run()
    assert seen == [READ | WRITE]


def test_the_end_of_the_peer_counts_as_readable(loop: Loop) -> None:
    reader, writer = os.pipe()
    seen: list[int] = []

    def ready(events: int) -> None:
        seen.append(events)
        loop.reactor.stop()

    loop.reactor.add(reader, READ, ready)
    os.close(writer)
    loop.reactor.run()
    assert seen[0] & READ
    os.close(reader)


def test_a_descriptor_removed_in_a_turn_gets_no_further_callback_in_it(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def make(me: int) -> None:
        def ready(events: int) -> None:
            called.append(me)
            for ours, _ in pairs:
                loop.reactor.remove(ours.fileno())
            loop.reactor.stop()

        loop.reactor.add(pairs[me][0].fileno(), READ, ready)

    for me in range(2):
        pairs[me][1].send(b"x")
        make(me)
    loop.reactor.run()
    assert len(called) == 1


def test_timers_fire_in_the_order_of_their_time_and_not_early(loop: Loop) -> None:
    now = time.monotonic()
    fired: list[tuple[str, float]] = []
    loop.reactor.call_at(now + 0.02, lambda: fired.append(("late", time.monotonic())))
    loop.reactor.call_at(now + 0.01, lambda: fired.append(("early", time.monotonic())))
    loop.reactor.call_at(now + 0.03, loop.reactor.stop)
    loop.reactor.run()
    assert [name for name, _ in fired] == ["early", "late"]
    assert fired[0][1] >= now + 0.01
    assert fired[1][1] >= now + 0.02


def test_a_cancelled_timer_does_not_fire(loop: Loop) -> None:
    fired: list[int] = []
    handle = loop.reactor.call_at(time.monotonic(), lambda: fired.append(1))
    loop.reactor.cancel(handle)
    loop.reactor.call_at(time.monotonic() + 0.005, loop.reactor.stop)
    loop.reactor.run()
    assert fired == []


def test_many_cancelled_timers_do_not_pile_up_and_leave_the_others_alone(loop: Loop) -> None:
    later = time.monotonic() + 3600
    fired: list[int] = []
    loop.reactor.call_at(time.monotonic() + 0.01, lambda: fired.append(1))
    for _ in range(50_000):
        loop.reactor.cancel(loop.reactor.call_at(later, lambda: fired.append(2)))
    assert len(loop.reactor._timers) < 5_000
    loop.reactor.call_at(time.monotonic() + 0.02, loop.reactor.stop)
    loop.reactor.run()
    assert fired == [1]


def test_a_fault_in_one_callback_is_reported_and_the_loop_goes_on(loop: Loop) -> None:
    def fault() -> None:
        raise ValueError("boom")

    loop.reactor.call_soon(fault)
    loop.reactor.call_at(time.monotonic(), fault)
    loop.reactor.call_at(time.monotonic() + 0.005, loop.reactor.stop)
    loop.reactor.run()
    assert [str(error) for error in loop.errors] == ["boom", "boom"]


def test_the_status_row_says_since_when_a_callback_runs(loop: Loop) -> None:
    inside: list[int] = []
    loop.reactor.call_soon(lambda: inside.append(loop.row.busy_since_ns))
    loop.reactor.call_soon(loop.reactor.stop)
    before = time.monotonic_ns()
    loop.reactor.run()
    assert before <= inside[0] <= time.monotonic_ns()
    assert loop.row.busy_since_ns == 0
    assert loop.row.busy_total_ns > 0
