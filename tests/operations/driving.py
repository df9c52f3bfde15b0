"""Driving operations by hand, as the engine does, in this process and in another."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from opensips_py.engine.blocking_wait import wait_ready
from opensips_py.engine.operation import Done, Operation
from opensips_py.script.parameters import Settings
from opensips_py.server.process import this

ROOT = Path(__file__).resolve().parents[2]


class Keeper:
    """The fd store: holds duplicates, as the attendant does."""

    def __init__(self) -> None:
        self.held: dict[str, list[int]] = {}

    def keep(self, key: str, fds: list[int]) -> None:
        self.drop(key)
        self.held[key] = [os.dup(fd) for fd in fds]

    def drop(self, key: str) -> None:
        for fd in self.held.pop(key, []):
            os.close(fd)

    def close(self) -> None:
        for key in list(self.held):
            self.drop(key)


class Rows(dict[bytes, bytes]):
    """The part of the store that operations use."""

    def put(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def delete(self, key: bytes) -> bool:
        return self.pop(key, None) is not None

    def scan(self, prefix: bytes, *, limit: int) -> list[tuple[bytes, bytes]]:
        return [(key, self[key]) for key in sorted(self) if key.startswith(prefix)][:limit]


class Driver:
    """One operation, driven until it is done; keeps its journal as the engine does."""

    def __init__(self, op: Operation, mode: str = "async") -> None:
        self.op = op
        self.journal = b""
        self.woken = False
        self.result: Done | None = None
        op.mode = mode
        if mode != "plain":
            op.journal = self._journal
            op.changed = self._changed
        self.result = op.start()
        self.state = b""
        """What the store holds of it."""
        self._fd_key: str | None = None
        if self.result is None:
            self._freeze()

    def _freeze(self) -> None:
        self.op.refreeze = False
        self.state, self.journal, self._fd_key = self.op.freeze(), b"", self.op.fd_key

    def _journal(self, data: bytes) -> None:
        self.journal += data

    def _changed(self) -> None:
        self.woken = True

    def turn(self, wait: float = 0.0) -> Done | None:
        """Wait until the operation can go on, at most ``wait`` seconds, and let it."""
        if self.result is None:
            self._turn(wait)
            if self.result is None and (self.op.refreeze or self.op.fd_key != self._fd_key):
                self._freeze()
        return self.result

    def _turn(self, wait: float) -> None:
        if self.woken:
            self.woken = False
            self.result = self.op.advance()
            return
        deadline = self.op.deadline
        if deadline is not None:
            wait = min(wait, deadline - this.clock.now())
            if wait <= 0:
                self.result = self.op.expire()
                return
        fd, wants = self.op.fileno(), self.op.wants
        if fd < 0:
            time.sleep(wait)
        else:
            if wait_ready(fd, wants, this.clock.now() + wait):
                self.result = self.op.advance()


def takers(*modules: str) -> Iterator[Callable[[], Taker]]:
    """For a fixture: makes processes that have these modules, and ends them."""
    made: list[Taker] = []

    def make() -> Taker:
        made.append(Taker(list(modules)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def drive(*drivers: Driver, limit: float = 10.0) -> list[Done]:
    """Drive operations side by side until all are done."""
    until = this.clock.now() + limit
    while any(d.result is None for d in drivers):
        assert this.clock.now() < until, f"not done within {limit} s"
        for driver in drivers:
            driver.turn(0.02 if len(drivers) == 1 else 0.001)
    results = []
    for driver in drivers:
        driver.op.close()
        assert driver.result is not None
        results.append(driver.result)
    return results


def run(op: Operation, mode: str = "async", limit: float = 10.0) -> Done:
    """Drive one operation to its end."""
    return drive(Driver(op, mode), limit=limit)[0]


def spin(seconds: float = 0.0, until: Callable[[], bool] | None = None) -> None:
    """Turn this process' reactor for a while, or until something is true."""
    reactor: Any = this.reactor
    end = this.clock.now() + (seconds or 20.0)
    while this.clock.now() < end and not (until is not None and until()):
        reactor.call_at(this.clock.now() + 0.005, reactor.stop)
        reactor._stopping = False
        reactor.run()
    assert until is None or until(), "did not happen"


class Taker:
    """Another process of the server, which goes on with an operation."""

    def __init__(self, modules: list[str], setup: str = "") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        program = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
            f"from tests.operations.driving import take; take({theirs.fileno()}, {modules!r}, {setup!r})"
        )
        self._process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[theirs.fileno()])
        theirs.close()

    def hand_over(
        self, name: str, state: bytes, fds: list[int], journal: bytes, mode: str = "async", store: Rows | None = None
    ) -> None:
        """Give it everything that the engine and the attendant would."""
        rows = {key.hex(): value.hex() for key, value in (store or {}).items()}
        message = json.dumps([name, state.hex(), journal.hex(), mode, rows]).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self._socket.sendmsg([message], rights)

    def result(self, limit: float = 10.0) -> Done:
        """What it made of the operation."""
        self._socket.settimeout(limit)
        data = self._socket.recv(1 << 22)
        rc, outputs = json.loads(data)
        return Done(rc, [(text, value) for text, value in outputs])

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def settings() -> Settings:
    """Core parameters for operations."""
    given = Settings()
    given.db_max_async_connections = 1000
    return given


def take(fd: int, modules: list[str], setup: str) -> None:
    """The other process' side of :class:`Taker`."""
    import importlib
    from types import SimpleNamespace

    from workers.reactor import EpollReactor

    line = socket.socket(fileno=fd)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    process: Any = this
    process.reactor = EpollReactor(SimpleNamespace(busy_since_ns=0, busy_total_ns=0), lambda error: None)
    process.fd_keeper = Keeper()
    process.store = Rows()
    process.incarnation = 2
    process.program = SimpleNamespace(settings=settings(), event_routes={})
    for module in modules:
        importlib.import_module(module)
    exec(setup)
    message, ancillary, _, _ = line.recvmsg(1 << 22, 4096)
    fds: list[int] = []
    for _, _, data in ancillary:
        fds += list(array.array("i", data))
    name, state, journal, mode, rows = json.loads(message)
    process.store.update({bytes.fromhex(key): bytes.fromhex(value) for key, value in rows.items()})
    op = Operation.registry[name].thaw(bytes.fromhex(state), fds, bytes.fromhex(journal))
    done = run(op, mode)
    line.send(json.dumps([done.rc, done.outputs]).encode())
    os._exit(0)
