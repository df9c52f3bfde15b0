"""Real processes that share a socket: each datagram is read once, whatever becomes of those who might have read it."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ipc.counters import Counters
from opensips_py.server.process import this
from tests.ipc.processes import fork
from workers.reactor import EpollReactor
from workers.shared_queue import SharedQueue

RECEIVERS = 3
BLOCKED = 0.5
"""Seconds for which a receiver of an odd datagram is stuck."""
_note = struct.Struct("iid")


class Farm:
    """Receivers as the server has them, which note on a pipe what they have read."""

    def __init__(self, directory: Path) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.socket.getsockname())
        self.counters = Counters.create(str(directory), RECEIVERS)
        self._notes, self._noting = os.pipe()
        self.pids = [fork(partial(self._receive, slot)) for slot in range(RECEIVERS)]
        for _ in self.pids:
            self.note()

    def _receive(self, slot: int) -> None:
        status = self.counters.status(slot)

        def fail(error: BaseException) -> None:
            raise error

        def received(data: bytes, address: tuple[str, int]) -> None:
            number = int(data)
            os.write(self._noting, _note.pack(number, slot, this.clock.now()))
            if number < 0:
                time.sleep(BLOCKED)

        reactor = EpollReactor(status, fail)
        colleagues = [self.counters.status(other) for other in range(RECEIVERS) if other != slot]
        SharedQueue(self.socket, reactor, status, colleagues, received).watch()
        os.write(self._noting, _note.pack(0, slot, 0.0))
        reactor.run()

    def send(self, number: int) -> None:
        """A datagram; whoever reads one with a negative number is stuck for a while."""
        self.sender.send(str(number).encode())

    def note(self) -> tuple[int, int, float]:
        """What has been read next: number, by whom, when."""
        ready, _, _ = select.select([self._notes], [], [], 10)
        assert ready, "nobody reads any more"
        number, slot, when = _note.unpack(os.read(self._notes, _note.size))
        return number, slot, when

    def close(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for fd in (self._notes, self._noting):
            os.close(fd)
        self.socket.close()
        self.sender.close()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    made = Farm(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("pause", [0.0, 0.0005, 0.003, 0.02])
def test_no_datagram_is_left_unread(farm: Farm, pause: float) -> None:
    for number in range(1, 201):
        farm.send(number)
        time.sleep(pause)
    assert sorted(farm.note()[0] for _ in range(200)) == list(range(1, 201))


def test_what_follows_a_message_that_blocks_does_not_wait_for_its_end(farm: Farm) -> None:
    for number in range(1, 51):  # so that one reads and the others have got used to resting
        farm.send(number)
        time.sleep(0.002)
    farm.send(-1)
    for number in range(51, 101):
        farm.send(number)
        time.sleep(0.002)
    notes = {number: (slot, when) for number, slot, when in (farm.note() for _ in range(101))}
    stuck, since = notes[-1]
    later = [notes[number] for number in range(51, 101)]
    assert all(slot != stuck for slot, _ in later)
    assert all(when < since + BLOCKED for _, when in later)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_the_others_read_when_the_one_that_did_is_gone(farm: Farm, blow: signal.Signals) -> None:
    for number in range(1, 51):
        farm.send(number)
        time.sleep(0.002)
    read = [farm.note() for _ in range(50)]
    busiest = max(range(RECEIVERS), key=[slot for _, slot, _ in read].count)
    os.kill(farm.pids[busiest], blow)
    for number in range(51, 101):
        farm.send(number)
        time.sleep(0.002)
    assert sorted(farm.note()[0] for _ in range(50)) == list(range(51, 101))
