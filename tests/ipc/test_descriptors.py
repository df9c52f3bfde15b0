from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from ipc.descriptors import LONGEST, FdLine, FdStore
from opensips_py.server.process import this
from tests.ipc.processes import die, fork, killed, succeeded
from workers.reactor import EpollReactor


class Status:
    busy_since_ns = 0
    busy_total_ns = 0
    reading_since_ns = 0


def fail(error: BaseException) -> None:
    raise error


def reactor() -> EpollReactor:
    return EpollReactor(Status(), fail)


def turn(loop: EpollReactor, seconds: float = 0.02) -> None:
    """Let a reactor run for a moment."""
    loop._stopping = False
    loop.call_at(this.clock.now() + seconds, loop.stop)
    loop.run()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Pair:
    """Attendant and worker ends in one process."""

    def __init__(self) -> None:
        self.worker = reactor()
        self.store = FdStore(3)
        self.line = FdLine(self.store.line(1), self.worker)

    def turn(self) -> None:
        turn(self.worker, 0.005)
        self.store.drain()
        turn(self.worker, 0.005)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.line.close()
    made.store.close()


def test_draining_tells_whether_anything_had_come(pair: Pair) -> None:
    assert not pair.store.drain()
    pair.line.drop("p:1")
    assert pair.store.drain()
    assert not pair.store.drain()
    pair.line.close()
    assert pair.store.drain(), "the end of a line is something"
    assert not pair.store.drain()


def test_a_message_arrives_whole_or_is_refused(pair: Pair) -> None:
    came: list[bytes] = []
    pair.line.on_hand_over = lambda message, fds: came.append(message)
    longest = b"M" + bytes(LONGEST - 1)
    pair.store.hand_over(1, longest, [])
    pair.turn()
    assert came == [longest]
    with pytest.raises(ValueError, match="the longest has"):
        pair.store.hand_over(1, longest + b"x", [])


def test_the_attendant_holds_what_a_worker_keeps_until_it_drops_it(pair: Pair) -> None:
    reader, writer = os.pipe()
    before = open_descriptors()
    pair.line.keep("p:1", [reader, writer])
    pair.turn()
    held = pair.store.get("p:1")
    assert len(held) == len(pair.store) == 2
    os.write(held[1], b"through the duplicate")
    assert os.read(reader, 100) == b"through the duplicate"
    pair.line.drop("p:1")
    pair.turn()
    assert pair.store.get("p:1") == []
    assert open_descriptors() == before
    os.close(reader)
    os.close(writer)


def test_keeping_again_replaces(pair: Pair) -> None:
    first, second = os.pipe(), os.pipe()
    before = open_descriptors()
    pair.line.keep("c", [first[0], first[1]])
    pair.line.keep("c", [second[0]])
    pair.turn()
    assert os.path.sameopenfile(pair.store.get("c")[0], second[0])
    assert open_descriptors() == before + 1
    for fd in (*first, *second):
        os.close(fd)


def test_a_descriptor_survives_its_worker_and_reaches_another_one() -> None:
    other = reactor()
    store = FdStore(3)
    end = store.line(1)
    reader, writer = os.pipe()

    def worker() -> None:
        line = FdLine(end, reactor())
        line.keep("p:42", [reader])
        die()

    pid = fork(worker)
    end.close()
    os.close(reader)
    assert killed(pid)
    store.line_closed(1)  # what it had sent before its death is taken
    os.write(writer, b"the result")

    got: list[tuple[bytes, list[int]]] = []
    line = FdLine(store.line(2), other)
    line.on_hand_over = lambda message, fds: got.append((message, fds))
    assert store.hand_over(2, b"\x00token", store.get("p:42"))
    turn(other)
    [(message, fds)] = got
    assert message == b"\x00token"
    assert os.read(fds[0], 100) == b"the result"
    line.close()
    store.close()
    os.close(fds[0])
    os.close(writer)


def test_a_worker_never_blocks_and_order_is_kept(pair: Pair) -> None:
    reader, writer = os.pipe()
    last, _last = os.pipe()
    began = this.clock.now()
    for n in range(3000):
        pair.line.keep(f"k{n}", [reader])
        pair.line.keep("same", [last if n == 2999 else writer])
    pair.line.drop("k0")
    os.close(reader)  # what waits is a duplicate
    assert this.clock.now() - began < 10
    assert pair.line.waiting > 0
    for _ in range(200):
        pair.turn()
        if not pair.line.waiting:
            break
    pair.turn()
    assert pair.line.waiting == 0
    assert len(pair.store) == 2999 + 1
    assert pair.store.get("k0") == []
    assert os.path.sameopenfile(pair.store.get("same")[0], last)
    for fd in (writer, last, _last):
        os.close(fd)


def test_what_cannot_be_held_is_refused_and_the_rest_goes_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = Pair()
    made.store.capacity = 10
    reader, writer = os.pipe()
    for n in range(15):
        made.line.keep(f"k{n}", [reader])
    made.turn()
    assert len(made.store) == 10
    assert made.store.refused == 5
    assert made.store.get("k14") == []
    made.line.drop("k0")
    made.line.keep("k14", [reader])
    made.turn()
    assert made.store.get("k14") != []
    made.line.close()
    made.store.close()
    os.close(reader)
    os.close(writer)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_running_out_of_descriptors_loses_only_what_does_not_fit() -> None:
    def child() -> None:
        made = Pair()
        reader, _ = os.pipe()
        limit = open_descriptors() + 10
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        for n in range(30):
            made.line.keep(f"k{n}", [reader])
        made.turn()
        assert 0 < len(made.store) < 30
        assert made.store.refused == 30 - len(made.store)
        for n in range(30):
            made.line.drop(f"k{n}")
        made.turn()
        made.line.keep("again", [reader])
        made.turn()
        assert len(made.store) == 1

    assert succeeded(fork(child))


def test_the_attendant_can_hold_ten_thousand(pair: Pair) -> None:
    if pair.store.capacity < 10_100:
        pytest.fail(f"the hard limit of open files allows {pair.store.capacity} only")
    reader, writer = os.pipe()
    for n in range(10_000):
        pair.line.keep(f"k{n}", [reader])
    while pair.line.waiting:
        pair.turn()
    pair.turn()
    assert len(pair.store) == 10_000
    os.close(reader)
    os.close(writer)


def test_handing_over_to_a_slot_without_process_says_so(pair: Pair) -> None:
    assert pair.store.hand_over(2, b"x", []) is False


def test_a_replacement_gets_a_line_of_its_own(pair: Pair) -> None:
    reader, writer = os.pipe()
    pair.line.keep("old", [reader])
    replacement = FdLine(pair.store.line(1), pair.worker)
    replacement.keep("new", [writer])
    pair.turn()
    assert len(pair.store.get("old")) == len(pair.store.get("new")) == 1
    replacement.close()
    os.close(reader)
    os.close(writer)
