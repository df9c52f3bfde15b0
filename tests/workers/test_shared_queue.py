"""Receivers of one socket: a datagram is left to a colleague that reads and keeps up, and to no other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from opensips_py.server.process import this
from tests.support.driven_clock import DrivenClock
from workers.shared_queue import BURST, KEEPS_UP, LONGEST_REST, PATIENCE, REST, SharedQueue, nudge

MS = 1_000_000
NOW = 1_000_000 * MS
SHORT = PATIENCE // 2


@dataclass
class Row:
    busy_since_ns: int = 0
    reading_since_ns: int = 0
    emptied_ns: int = 0
    watching_since_ns: int = 0


@dataclass
class Loop:
    """A reactor whose events the test makes."""

    watched: Callable[[int], None] | None = None
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def add_shared(self, fd: int, callback: Callable[[int], None]) -> None:
        self.watched = callback

    def remove(self, fd: int) -> None:
        self.watched = None

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self.timers.append((when, callback))

    def wake(self) -> None:
        assert self.watched is not None, "the socket is not watched"
        self.watched(1)


class Receiver:
    """One receiver of a real socket, with colleagues of which only the rows exist."""

    def __init__(self, colleagues: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.socket.getsockname())
        self.loop = Loop()
        self.row = Row(reading_since_ns=1, emptied_ns=1)  # as a predecessor has left it
        self.colleagues = [Row() for _ in range(colleagues)]
        self.received: list[bytes] = []
        self.reading: list[int] = []
        SharedQueue(self.socket, self.loop, self.row, self.colleagues, self.receive).watch()

    def receive(self, data: bytes, address: tuple[str, int]) -> None:
        self.received.append(data)
        self.reading.append(self.row.reading_since_ns)

    def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.sender.send(data)

    def close(self) -> None:
        self.socket.close()
        self.sender.close()


@pytest.fixture
def alone() -> Iterator[Receiver]:
    receiver = Receiver(colleagues=0)
    yield receiver
    receiver.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver(colleagues=2)
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def time_stands_still(clock: DrivenClock) -> None:
    clock.now = NOW / 1e9


def test_everything_that_waits_is_read_at_one_wake_up(alone: Receiver) -> None:
    alone.send(b"one", b"two", b"three")
    alone.loop.wake()
    assert alone.received == [b"one", b"two", b"three"]


def test_timers_have_their_turn_after_a_burst(alone: Receiver) -> None:
    alone.send(*[b"x"] * (BURST + 3))
    alone.loop.wake()
    assert len(alone.received) == BURST
    assert alone.row.emptied_ns == 0
    alone.loop.wake()
    assert len(alone.received) == BURST + 3


def test_colleagues_see_when_a_message_was_taken_and_the_queue_was_empty(alone: Receiver) -> None:
    assert alone.row == Row(watching_since_ns=NOW), "what a predecessor has left is gone"
    alone.send(b"one")
    alone.loop.wake()
    assert alone.reading == [NOW]
    assert alone.row == Row(reading_since_ns=0, emptied_ns=NOW, watching_since_ns=NOW)


def test_a_message_that_raises_is_not_worked_on_for_ever(alone: Receiver) -> None:
    def fails(data: bytes, address: tuple[str, int]) -> None:
        raise RuntimeError

    queue = SharedQueue(alone.socket, alone.loop, alone.row, [], fails)
    queue.watch()
    alone.send(b"one")
    with pytest.raises(RuntimeError):
        alone.loop.wake()
    assert alone.row.reading_since_ns == 0


def test_a_datagram_is_left_to_a_colleague_that_reads_and_keeps_up(receiver: Receiver) -> None:
    colleague = receiver.colleagues[1]
    colleague.reading_since_ns, colleague.emptied_ns = NOW - SHORT, NOW - SHORT
    leave_to_colleagues(receiver)
    assert receiver.row.watching_since_ns == 0, "others must not count on it"


@pytest.mark.parametrize(
    "busy_since", [pytest.param(0, id="woken just now"), pytest.param(NOW - SHORT, id="in another callback")]
)
def test_a_datagram_is_left_to_a_colleague_that_the_kernel_would_have_woken_first(receiver: Receiver, busy_since: int) -> None:
    receiver.colleagues[1] = Row(busy_since_ns=busy_since, emptied_ns=NOW - SHORT, watching_since_ns=NOW - 1)
    leave_to_colleagues(receiver)


def leave_to_colleagues(receiver: Receiver) -> None:
    receiver.send(b"one")
    receiver.loop.wake()
    assert receiver.received == []
    assert receiver.loop.watched is None


def test_who_has_left_a_datagram_to_a_colleague_watches_again_after_a_rest(receiver: Receiver) -> None:
    colleague = receiver.colleagues[0]
    colleague.reading_since_ns, colleague.emptied_ns = NOW - SHORT, NOW - SHORT
    receiver.send(b"one")
    receiver.loop.wake()
    [(when, watch_again)] = receiver.loop.timers
    assert when == pytest.approx(NOW / 1e9 + REST)
    watch_again()
    colleague.reading_since_ns = 0  # it has died, or waits for other things
    receiver.loop.wake()
    assert receiver.received == [b"one"]


def test_who_comes_back_for_nothing_rests_for_longer(receiver: Receiver, clock: DrivenClock) -> None:
    colleague = receiver.colleagues[0]
    receiver.send(b"one")
    for pause, rest in ((0.0, REST), (0.001, LONGEST_REST), (0.001, LONGEST_REST), (2 * LONGEST_REST, REST)):
        clock.now += pause
        colleague.reading_since_ns = colleague.emptied_ns = this.clock.ticks() - SHORT
        receiver.loop.wake()
        when, watch_again = receiver.loop.timers.pop()
        assert when == pytest.approx(clock.now + rest)
        clock.now = when
        watch_again()


@pytest.mark.parametrize(
    "colleague",
    [
        pytest.param(Row(emptied_ns=NOW, watching_since_ns=NOW + 1), id="it sleeps, and would be woken later"),
        pytest.param(Row(emptied_ns=NOW), id="it rests"),
        pytest.param(Row(reading_since_ns=NOW - PATIENCE, emptied_ns=NOW - PATIENCE), id="it is stuck in one message"),
        pytest.param(
            Row(reading_since_ns=NOW - PATIENCE, busy_since_ns=NOW, emptied_ns=NOW - PATIENCE, watching_since_ns=NOW - 1),
            id="it is stuck in one message, and would be woken first",
        ),
        pytest.param(Row(busy_since_ns=NOW - PATIENCE, emptied_ns=NOW, watching_since_ns=NOW - 1), id="it is stuck elsewhere"),
        pytest.param(Row(reading_since_ns=NOW - SHORT, emptied_ns=NOW - KEEPS_UP), id="it has not emptied the queue for long"),
        pytest.param(Row(reading_since_ns=NOW - SHORT), id="it has never emptied the queue"),
        pytest.param(Row(emptied_ns=NOW - KEEPS_UP, watching_since_ns=NOW - 1), id="it sleeps and cannot be woken"),
    ],
)
def test_nothing_is_left_to_a_colleague_that_does_not_get_to_it(receiver: Receiver, colleague: Row) -> None:
    receiver.colleagues[:] = [colleague, Row()]
    receiver.send(b"one")
    receiver.loop.wake()
    assert receiver.received == [b"one"]
    assert receiver.loop.timers == []


def test_an_icmp_error_does_not_mean_that_the_queue_is_empty(alone: Receiver) -> None:
    class Refused:
        def fileno(self) -> int:
            return alone.socket.fileno()

        def recvfrom(self, size: int, /) -> tuple[bytes, tuple[str, int]]:
            raise ConnectionRefusedError

    SharedQueue(Refused(), alone.loop, alone.row, [], alone.receive).watch()
    alone.loop.wake()
    assert alone.row.emptied_ns == 0
    assert alone.loop.watched is not None


def test_a_colleague_that_was_left_to_in_vain_does_not_count_as_keeping_up_after_the_rest() -> None:
    assert REST * 1e9 >= KEEPS_UP


def test_a_nudge_wakes_who_watches_with_something_that_is_ignored(alone: Receiver) -> None:
    nudge(alone.socket)
    alone.loop.wake()
    assert alone.received == [b"\r\n"]
