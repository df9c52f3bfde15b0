"""The event loop keeps its promises about order, removal, time and faults."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from opensips_py.engine.operation import READ, WRITE
from opensips_py.server.process import this
from workers.reactor import ClosedWhileWatched, EpollReactor


@dataclass
class Row:
    busy_since_ns: int = 0
    busy_total_ns: int = 0
    reading_since_ns: int = 0


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


def test_a_process_that_waits_reads_no_message(loop: Loop) -> None:
    """A callback that took a message, and paused or switched away over it, has left its mark behind."""
    seen: list[int] = []

    def look() -> None:
        seen.append(loop.row.reading_since_ns)
        loop.reactor.stop()

    loop.row.reading_since_ns = 5
    loop.reactor.call_at(this.clock.now(), look)
    loop.reactor.run()
    assert seen == [0]


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
    now = this.clock.now()
    fired: list[tuple[str, float]] = []
    loop.reactor.call_at(now + 0.02, lambda: fired.append(("late", this.clock.now())))
    loop.reactor.call_at(now + 0.01, lambda: fired.append(("early", this.clock.now())))
    loop.reactor.call_at(now + 0.03, loop.reactor.stop)
    loop.reactor.run()
    assert [name for name, _ in fired] == ["early", "late"]
    assert fired[0][1] >= now + 0.01
    assert fired[1][1] >= now + 0.02


def test_a_cancelled_timer_does_not_fire(loop: Loop) -> None:
    fired: list[int] = []
    handle = loop.reactor.call_at(this.clock.now(), lambda: fired.append(1))
    loop.reactor.cancel(handle)
    loop.reactor.call_at(this.clock.now() + 0.005, loop.reactor.stop)
    loop.reactor.run()
    assert fired == []


def test_many_cancelled_timers_do_not_pile_up_and_leave_the_others_alone(loop: Loop) -> None:
    later = this.clock.now() + 3600
    fired: list[int] = []
    loop.reactor.call_at(this.clock.now() + 0.01, lambda: fired.append(1))
    for _ in range(50_000):
        loop.reactor.cancel(loop.reactor.call_at(later, lambda: fired.append(2)))
    assert len(loop.reactor._timers) < 5_000
    loop.reactor.call_at(this.clock.now() + 0.02, loop.reactor.stop)
    loop.reactor.run()
    assert fired == [1]


def test_a_fault_in_one_callback_is_reported_and_the_loop_goes_on(loop: Loop) -> None:
    def fault() -> None:
        raise ValueError("boom")

    loop.reactor.call_soon(fault)
    loop.reactor.call_at(this.clock.now(), fault)
    loop.reactor.call_at(this.clock.now() + 0.005, loop.reactor.stop)
    loop.reactor.run()
    assert [str(error) for error in loop.errors] == ["boom", "boom"]


def test_the_status_row_says_since_when_a_callback_runs(loop: Loop) -> None:
    inside: list[int] = []
    loop.reactor.call_soon(lambda: inside.append(loop.row.busy_since_ns))
    loop.reactor.call_soon(loop.reactor.stop)
    before = this.clock.ticks()
    loop.reactor.run()
    assert before <= inside[0] <= this.clock.ticks()
    assert loop.row.busy_since_ns == 0
    assert loop.row.busy_total_ns > 0


# --- waiting inside a callback ----------------------------------------------------------------------------------------


def test_a_paused_callback_goes_on_where_it_was_while_others_have_run(loop: Loop) -> None:
    seen: list[str] = []
    places: list[object] = []

    def waits() -> None:
        for n in range(3):
            places.append(loop.reactor.here())
            loop.reactor.call_at(this.clock.now() + 0.002, lambda: loop.reactor.resume(places.pop()))
            loop.reactor.call_soon(lambda n=n: seen.append(f"another {n}"))  # type: ignore[misc]
            loop.reactor.pause()
            seen.append(f"on {n}")
        loop.reactor.stop()

    loop.reactor.call_soon(waits)
    loop.reactor.run()
    assert seen == ["another 0", "on 0", "another 1", "on 1", "another 2", "on 2"]
    assert loop.errors == []
    assert loop.reactor.paused == 0


def test_events_of_one_wake_up_are_handled_once_though_the_first_of_them_pauses(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(5)]
    seen: list[int] = []
    place: list[object] = []

    def make(me: int) -> None:
        def ready(events: int) -> None:
            pairs[me][0].recv(1)
            if not place:
                place.append(loop.reactor.here())
                loop.reactor.pause()
            elif len(seen) == 3:
                loop.reactor.call_soon(lambda: loop.reactor.resume(place[0]))
            seen.append(me)
            if len(seen) == 5:
                loop.reactor.stop()

        loop.reactor.add(pairs[me][0].fileno(), READ, ready)

    for me in range(5):
        pairs[me][1].send(b"x")
        make(me)
    loop.reactor.run()
    assert sorted(seen) == list(range(5))
    assert loop.errors == []


def test_hundreds_of_callbacks_wait_at_once_and_end_in_any_order(loop: Loop) -> None:
    ended: list[int] = []
    places: dict[int, object] = {}
    order = [n * 7 % 300 for n in range(300)]

    def waits(n: int) -> None:
        places[n] = loop.reactor.here()
        if len(places) == 300:
            for which in order:
                loop.reactor.call_soon(lambda which=which: loop.reactor.resume(places[which]))  # type: ignore[misc]
        loop.reactor.pause()
        ended.append(n)
        if len(ended) == 300:
            loop.reactor.stop()

    for n in range(300):
        loop.reactor.call_soon(lambda n=n: waits(n))  # type: ignore[misc]
    loop.reactor.run()
    assert ended == order
    assert loop.errors == []


def test_after_a_thousand_waits_at_once_few_greenlets_are_kept(loop: Loop) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    ended: list[int] = []

    def waits(n: int) -> None:
        place = loop.reactor.here()
        alive.add(place)
        loop.reactor.call_at(this.clock.now() + 0.3 + n / 1e5, lambda: loop.reactor.resume(place))
        loop.reactor.pause()
        ended.append(n)
        if len(ended) == 1000:
            loop.reactor.call_soon(loop.reactor.stop)

    for n in range(1000):
        loop.reactor.call_soon(lambda n=n: waits(n))  # type: ignore[misc]
    loop.reactor.run()
    gc.collect()
    assert sorted(ended) == list(range(1000))
    assert len(alive) < 200
    assert loop.errors == []


def test_waits_one_after_the_other_need_two_greenlets(loop: Loop) -> None:
    turned: set[object] = set()

    def waits(left: int) -> None:
        place = loop.reactor.here()
        turned.add(place)
        loop.reactor.call_soon(lambda: loop.reactor.resume(place))
        loop.reactor.pause()
        loop.reactor.call_soon(lambda: waits(left - 1) if left else loop.reactor.stop())

    loop.reactor.call_soon(lambda: waits(1000))
    loop.reactor.run()
    assert len(turned) <= 2
    assert loop.errors == []


def test_a_callback_that_is_unwound_runs_its_finally_clauses_and_is_no_fault(loop: Loop) -> None:
    seen: list[str] = []

    def waits() -> None:
        place = loop.reactor.here()
        loop.reactor.call_soon(lambda: loop.reactor.unwind(place))
        try:
            loop.reactor.pause()
            seen.append("went on")
        finally:
            seen.append("tidied up")
            loop.reactor.call_soon(loop.reactor.stop)

    loop.reactor.call_soon(waits)
    loop.reactor.run()
    assert seen == ["tidied up"]
    assert loop.errors == []


def test_stopping_ends_the_loop_whoever_turns_it(loop: Loop) -> None:
    seen: list[str] = []

    def waits() -> None:
        try:
            loop.reactor.pause()
            seen.append("went on")
        finally:
            seen.append("tidied up")

    loop.reactor.call_soon(waits)
    loop.reactor.call_at(this.clock.now() + 0.01, loop.reactor.stop)
    loop.reactor.run()
    assert seen == ["tidied up"]
    loop.reactor.call_soon(loop.reactor.stop)
    loop.reactor.run()  # and it can be run again


def test_a_process_that_only_waits_is_not_busy(loop: Loop) -> None:
    rows: list[int] = []
    place: list[object] = []

    def waits() -> None:
        place.append(loop.reactor.here())
        loop.reactor.pause()
        loop.reactor.stop()

    ours, theirs = socket.socketpair()

    def look() -> None:
        # from outside, as the attendant: another thread, while the loop sleeps
        time.sleep(0.05)
        rows.append(loop.row.busy_since_ns)
        theirs.send(b"x")

    loop.reactor.add(ours.fileno(), READ, lambda events: loop.reactor.resume(place[0]))
    loop.reactor.call_soon(waits)
    thread = threading.Thread(target=look)
    thread.start()
    loop.reactor.run()
    thread.join()
    assert rows == [0]


def test_what_a_paused_callback_had_still_to_do_is_begun_beside_it(loop: Loop) -> None:
    seen: list[int] = []
    messages = [1, 2, 3]
    place: list[object] = []

    def process() -> None:
        while messages:
            message = messages.pop(0)
            loop.reactor.beside = process
            if message == 1:
                place.append(loop.reactor.here())
                loop.reactor.call_at(this.clock.now() + 0.01, lambda: loop.reactor.resume(place[0]))
                loop.reactor.pause()
            seen.append(message)
            loop.reactor.beside = None
        if len(seen) == 3:
            loop.reactor.stop()

    loop.reactor.call_soon(process)
    loop.reactor.run()
    assert seen == [2, 3, 1]


# --- descriptors that are closed without being removed ---------------------------------------------------------------------


def quiet(events: int) -> None:
    raise AssertionError("nobody is to be called")


def test_a_close_before_the_removal_is_told(loop: Loop) -> None:
    reader, writer = os.pipe()
    loop.reactor.add(reader, READ, quiet)
    os.close(reader)
    loop.reactor.remove(reader)
    os.close(writer)
    assert [type(error) for error in loop.errors] == [ClosedWhileWatched]


def test_a_number_that_is_watched_again_without_removal_is_told(loop: Loop) -> None:
    reader, writer = os.pipe()
    loop.reactor.add(reader, READ, quiet)
    os.close(reader)
    again = os.dup(writer)
    assert again == reader
    loop.reactor.add(again, WRITE, quiet)
    assert [type(error) for error in loop.errors] == [ClosedWhileWatched]
    loop.reactor.remove(again)
    os.close(again)
    os.close(writer)


def test_a_closed_descriptor_with_a_duplicate_elsewhere_is_told_once_and_does_not_spin(loop: Loop) -> None:
    """The attendant holds a duplicate: epoll reports the closed descriptor for ever, and it can no longer be taken out."""
    ours, theirs = socket.socketpair()
    other, wakes = socket.socketpair()
    called: list[int] = []
    kept = os.dup(ours.fileno())
    loop.reactor.add(ours.fileno(), READ, quiet)
    loop.reactor.add(other.fileno(), READ, called.append)
    theirs.send(b"x")
    number = ours.fileno()
    ours.close()
    loop.reactor.remove(number)  # too late
    loop.reactor.call_at(this.clock.now() + 0.02, lambda: wakes.sendall(b"x"))
    loop.reactor.call_at(this.clock.now() + 0.04, loop.reactor.stop)
    loop.reactor.run()
    assert [str(error).split(" was ")[0] for error in loop.errors] == [f"descriptor {number}"] * 2
    assert called and set(called) == {READ}  # what else was watched still is
    os.close(kept)


def test_a_removal_for_somebody_else_leaves_the_new_owner_of_the_number_alone(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    seen: list[int] = []
    loop.reactor.add(ours.fileno(), READ, seen.append)
    loop.reactor.remove(ours.fileno(), quiet)
    theirs.send(b"x")
    loop.reactor.call_at(this.clock.now() + 0.01, loop.reactor.stop)
    loop.reactor.run()
    assert seen and not loop.errors
