"""What becomes of a dead process' connections, seen from the attendant."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.descriptors import FdLine, FdStore
from ipc.lmdb_store import LmdbStore
from ipc.mailbox import Mailboxes
from opensips_py.engine.take_over import Name
from opensips_py.net.tcp import ADOPT, REST, Row, decode_adopt, key_of, read_row
from workers.connection_heirs import give_away
from workers.reactor import EpollReactor

DEAD, TAKER = 3, Name(0, 4, 1)
NUMBER = 77


class Status:
    busy_since_ns = busy_total_ns = reading_since_ns = 0


class World:
    """An attendant with the store, the held descriptors and the mailboxes of two receivers."""

    def __init__(self, directory: Path) -> None:
        self.store = LmdbStore.create(str(directory), 32 << 20)
        self.held = FdStore(6)
        self.boxes = Mailboxes([DEAD, TAKER.slot])
        self.reactor = EpollReactor(Status(), lambda error: None)
        self.line = FdLine(self.held.line(DEAD), self.reactor)

    def connection(self, number: int, ports: list[int], *, held: bool) -> list[bytes]:
        """A connection of the dead process, known by these ports."""
        keys = [key_of("tcp:127.0.0.1:5060", "192.0.2.1", port) for port in ports]
        for key in keys:
            self.store.put(key, Row(DEAD, 1, number, True, 0.0).pack())
        self.store.put(REST + number.to_bytes(8, "big"), b"half a message")
        if held:
            one, other = socket.socketpair()
            self.line.keep(f"tcp:{DEAD}:1:{number}", [one.fileno()])
            self.held.drain()
            one.close()
            other.close()
        return keys

    def give(self) -> None:
        give_away(self.store, self.held, self.boxes, {TAKER}, [TAKER])

    def close(self) -> None:
        self.line.close()
        self.held.close()
        self.boxes.close()
        self.reactor.close()
        self.store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_connection_goes_to_a_taker_with_all_its_addresses(world: World) -> None:
    keys = world.connection(NUMBER, [40000, 5060], held=True)
    world.give()
    packet = world.boxes.receive(TAKER.slot)
    assert packet is not None
    data, fds = packet
    assert len(fds) == 1
    os.close(fds[0])
    given = decode_adopt(data[1:])
    assert data[:1] == ADOPT
    assert (given.number, given.incarnation, sorted(given.keys)) == (NUMBER, TAKER.incarnation, sorted(keys))
    for key in keys:
        row = read_row(world.store.get(key) or b"")
        assert (row.slot, row.incarnation, row.number) == (TAKER.slot, TAKER.incarnation, NUMBER)
    assert world.held.names() == [f"tcp:{TAKER.slot}:{TAKER.incarnation}:{NUMBER}"]
    assert world.store.get(REST + NUMBER.to_bytes(8, "big")) == b"half a message"


def test_a_connection_without_a_descriptor_is_forgotten(world: World) -> None:
    world.connection(NUMBER, [40000, 5060], held=False)
    world.give()
    assert world.boxes.receive(TAKER.slot) is None
    assert world.store.info().entries == 0


def test_a_descriptor_that_nobody_knows_is_let_go(world: World) -> None:
    for key in world.connection(NUMBER, [40000], held=True):
        world.store.delete(key)
    world.give()
    assert world.held.names() == []


def test_connections_of_the_living_stay_where_they_are(world: World) -> None:
    key = key_of("tcp:127.0.0.1:5060", "192.0.2.9", 1)
    value = Row(TAKER.slot, TAKER.incarnation, 5, False, 0.0).pack()
    world.store.put(key, value)
    world.give()
    assert world.store.get(key) == value
    assert world.boxes.receive(TAKER.slot) is None
