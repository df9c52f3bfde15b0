"""One connection in the test's own process: whatever the sizes of pieces, messages come and go whole and in order."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipc.lmdb_store import LmdbStore
from opensips_py.net.tcp import REST, stored_rest, tuning
from opensips_py.script.context import ListenSocket
from opensips_py.script.parameters import Settings
from opensips_py.server.process import this
from workers import stream_connection
from workers.reactor import EpollReactor
from workers.stream_connection import Connection, State


class Status:
    busy_since_ns = busy_total_ns = reading_since_ns = 0


class Keeper:
    """Stands for the line to the attendant: notes whether a duplicate is held."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def keep(self, key: str, fds: list[int]) -> None:
        self.held.add(key)

    def drop(self, key: str) -> None:
        self.held.discard(key)


class World:
    """A connection with its process' reactor and store, and the peer's end of it."""

    def __init__(self, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = LmdbStore.create(directory, 32 << 20)
        self.keeper = Keeper()
        self.received: list[bytes] = []
        self.unsent: list[bytes] = []
        self.lost: list[bytes] = []
        self.reactor = EpollReactor(Status(), self.fail)
        program = SimpleNamespace(settings=Settings())
        for name, value in (("store", self.store), ("reactor", self.reactor), ("fd_keeper", self.keeper), ("program", program)):
            monkeypatch.setattr(this, name, value, raising=False)
        monkeypatch.setattr(stream_connection, "receive_message", lambda data, address, listen: self.received.append(data))
        monkeypatch.setattr(stream_connection, "refuse", lambda *arguments: None)
        monkeypatch.setattr(tuning, "max_chunks", 1000)
        monkeypatch.setattr(tuning, "max_waiting", 1000)

    @staticmethod
    def fail(error: BaseException) -> None:
        raise error

    def connect(self, buffer: int | None = None) -> None:
        """A new connection; ``buffer``: bytes that the kernel keeps in either end."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if buffer:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            listener.listen()
            self.peer = socket.socket()
            if buffer:
                self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.peer.connect(listener.getsockname())
            accepted, address = listener.accept()
        accepted.setblocking(False)
        self.peer.setblocking(False)
        self.received.clear()
        self.unsent.clear()
        self.lost.clear()
        self.connection = Connection(self, 7, accepted, ListenSocket(0, "tcp", "127.0.0.1", 5060), address, accepted=True)
        self.connection.open()

    def turn(self, until: Callable[[], bool]) -> None:
        """Turn the loop until something is so."""
        end = this.clock.now() + 10

        def look() -> None:
            if until():
                self.reactor.stop()
            else:
                assert this.clock.now() < end, "it never happens"
                self.reactor.call_at(this.clock.now() + 0.0005, look)

        look()
        self.reactor.run()

    def closed(self, connection: Connection, unsent: list[bytes], retry: bool) -> None:
        self.unsent += unsent

    def failed(self, data: bytes) -> None:
        self.lost.append(data)

    def close(self) -> None:
        self.peer.close()
        self.connection.end("the test is over", retry=False, quiet=True)


@pytest.fixture
def world(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(str(tmp_path), monkeypatch)
    yield made
    made.reactor.close()
    made.store.close()


def message(body: bytes) -> bytes:
    return b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKx\r\nContent-Length: %d\r\n\r\n" % len(body) + body


# a failure takes its time: it is not worth making smaller
MANY = settings(
    deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
bodies = st.lists(st.binary(max_size=300), min_size=1, max_size=12)
cuts = st.lists(st.integers(1, 400), max_size=30)


@settings(MANY, max_examples=60)
@given(bodies, cuts)
def test_messages_are_received_whole_and_in_order(world: World, given: list[bytes], pieces: list[int]) -> None:
    world.connect()
    wanted = [message(body) for body in given]
    stream = b"".join(wanted)
    at = 0

    def feed() -> bool:
        nonlocal at
        if at < len(stream):
            size = pieces.pop() if pieces else len(stream)
            world.peer.send(stream[at : at + size])
            at += size
        return len(world.received) == len(wanted)

    world.turn(feed)
    assert world.received == wanted
    world.turn(lambda: world.store.get(REST + (7).to_bytes(8, "big")) is None)
    world.close()


def test_many_messages_read_at_once_are_stored_once_and_let_others_have_their_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect()
    small = message(b"")
    count = 60_000 // len(small)
    stored: list[int] = []
    others: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.store, name)

        def put(self, key: bytes, value: bytes) -> None:
            stored.append(len(value))
            world.store.put(key, value)

        def batch(self) -> Any:
            stored.append(60_000)
            return world.store.batch()

    def slow(data: bytes, address: Any, listen: Any) -> None:
        world.received.append(data)
        time.sleep(0.0005)

    def other() -> None:
        others.append(len(world.received))
        if len(world.received) < count:
            world.reactor.call_at(this.clock.now(), other)

    monkeypatch.setattr(this, "store", Counting())
    monkeypatch.setattr(stream_connection, "receive_message", slow)
    world.peer.setblocking(True)
    world.peer.sendall(small * count)
    other()
    world.turn(lambda: len(world.received) == count)
    assert sum(stored) < 10 * 60_000
    assert len(set(others)) > 20, "timers fire meanwhile"
    world.close()


def test_what_a_dead_process_has_not_processed_is_known_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.connect()
    wanted = [message(b"%d" % n) for n in range(100)]

    half = b"OPTIONS sip:half SIP/2.0\r\n"

    def look(data: bytes, address: Any, listen: Any) -> None:
        world.received.append(data)
        assert stored_rest(7) == b"".join(wanted[len(world.received) :]) + half

    monkeypatch.setattr(stream_connection, "receive_message", look)
    world.peer.sendall(b"".join(wanted) + half)
    world.turn(lambda: len(world.received) == 100)
    assert stored_rest(7) == half
    world.peer.sendall(b"l: 0\r\n\r\n")
    monkeypatch.setattr(stream_connection, "receive_message", lambda data, address, listen: world.received.append(data))
    world.turn(lambda: len(world.received) == 101)
    world.turn(lambda: not stored_rest(7))
    world.close()


@settings(MANY, max_examples=30)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=25), st.lists(st.integers(1, 20_000), max_size=40))
def test_messages_are_written_whole_and_in_order_however_the_peer_reads(world: World, sizes: list[int], reads: list[int]) -> None:
    world.connect(buffer=4096)
    sent = [bytes([65 + n % 26]) * size for n, size in enumerate(sizes)]
    for data in sent:
        world.connection.send(data)
    wanted = b"".join(sent)
    found = b""

    def read() -> bool:
        nonlocal found
        if world.connection._waiting:
            assert not world.keeper.held, "a half written message could be taken over"
        try:
            found += world.peer.recv(reads.pop() if reads else 65536)
        except BlockingIOError:
            pass
        return len(found) == len(wanted)

    world.turn(read)
    assert found == wanted
    world.turn(lambda: bool(world.keeper.held))
    assert not (world.unsent or world.lost)
    world.close()


def test_what_the_peer_has_not_taken_is_told_when_the_connection_ends(world: World) -> None:
    world.connect(buffer=4096)
    sent = [b"%04d" % n + b"x" * 50_000 for n in range(20)]
    for data in sent:
        world.connection.send(data)
    assert world.connection._waiting
    world.peer.close()
    world.turn(lambda: world.connection.state is State.CLOSED)
    assert world.unsent
    assert world.unsent == sent[-len(world.unsent) :]
    assert not world.keeper.held
    world.connection.send(b"late")
    assert world.lost == [b"late"]


def test_a_failure_is_never_told_from_within_a_send(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "max_waiting", 2)
    world.connect(buffer=4096)
    for _ in range(40):
        world.connection.send(b"x" * 50_000)
        assert not world.unsent
        assert world.connection.state is State.OPEN
    world.turn(lambda: world.connection.state is State.CLOSED)
    assert world.unsent


def test_what_waits_for_all_peers_together_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "max_waiting_memory", 100_000)
    world.connect(buffer=4096)
    for _ in range(4):
        world.connection.send(b"x" * 40_000)
    assert world.connection._waiting_bytes <= 140_000
    world.turn(lambda: world.connection.state is State.CLOSED)
    assert stream_connection._All.waiting_bytes == 0
