"""Mailboxes: in order, bounded, never waiting, and not lost with their reader."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ipc.mailbox import MAX_PACKET, MAX_WAITING, Mailboxes
from workers.reactor import EpollReactor


class Status:
    busy_since_ns = busy_total_ns = reading_since_ns = 0


def fail(error: BaseException) -> None:
    raise error


@pytest.fixture
def boxes() -> Iterator[Mailboxes]:
    made = Mailboxes([3, 5])
    yield made
    made.close()


def taken(boxes: Mailboxes, slot: int) -> list[bytes]:
    found = []
    while (packet := boxes.receive(slot)) is not None:
        found.append(packet[0])
    return found


def test_packets_arrive_in_order_at_their_slot(boxes: Mailboxes) -> None:
    for n in range(20):
        assert boxes.post(3, b"%d" % n)
    assert boxes.post(5, b"other")
    assert taken(boxes, 3) == [b"%d" % n for n in range(20)]
    assert taken(boxes, 5) == [b"other"]


def test_there_is_no_box_for_other_slots(boxes: Mailboxes) -> None:
    assert not boxes.post(4, b"x")


def test_a_packet_that_is_too_long_is_refused(boxes: Mailboxes) -> None:
    assert boxes.post(3, b"x" * MAX_PACKET)
    assert not boxes.post(3, b"x" * (MAX_PACKET + 1))
    assert taken(boxes, 3) == [b"x" * MAX_PACKET]


def test_descriptors_travel_with_their_packet(boxes: Mailboxes) -> None:
    reader, writer = os.pipe()
    assert boxes.post(3, b"pipe", [writer])
    os.close(writer)
    packet = boxes.receive(3)
    assert packet is not None
    data, fds = packet
    assert data == b"pipe"
    os.write(fds[0], b"hello")
    os.close(fds[0])
    assert os.read(reader, 10) == b"hello"
    os.close(reader)


def test_a_full_box_is_said_to_be_full(boxes: Mailboxes) -> None:
    count = 0
    while boxes.post(3, b"x" * 60_000):
        count += 1
    assert count > 10
    assert boxes.post(5, b"x"), "other boxes are not"
    assert len(taken(boxes, 3)) == count
    assert boxes.post(3, b"x")


def test_what_a_full_box_does_not_take_follows_in_order(boxes: Mailboxes) -> None:
    reactor = EpollReactor(Status(), fail)
    boxes.attach(reactor)
    sent = 0
    while boxes.post(3, b"%08d" % sent + b"x" * 60_000):
        sent += 1
    found: list[bytes] = []

    def read(events: int) -> None:
        found.extend(data[:8] for data in taken(boxes, 3))
        if len(found) == sent:
            reactor.stop()

    reactor.add(boxes.fileno(3), 1, read)
    reactor.run()
    assert found == [b"%08d" % n for n in range(sent)]
    assert sent > MAX_WAITING
    reactor.close()


def test_what_a_dead_reader_left_is_read_by_the_next(boxes: Mailboxes) -> None:
    boxes.post(3, b"one")
    boxes.post(3, b"two")
    pid = os.fork()
    if pid == 0:
        boxes.receive(3)
        os._exit(0)
    os.waitpid(pid, 0)
    assert taken(boxes, 3) == [b"two"]
