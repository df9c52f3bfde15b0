"""A server of several processes without any: each has an engine, a reactor and a row of its own, the store is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from opensips_py.engine import parked as parking
from opensips_py.engine.engine import Engine
from opensips_py.engine.operation import Done, Operation
from opensips_py.engine.unsettled import unsettled
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, parse
from opensips_py.tm import failure_route, rows, timers
from opensips_py.tm.receive import receive_message
from tests.tm.interleaving import InterleavedStore, Turns, Work
from tests.tm.world import Wire, World


class Row:
    """Stands for a process' row in shared memory: what is in it survives the process."""

    def __init__(self) -> None:
        self.busy_since_ns = self.epoch = self.parked = self.unsettled = 0


class StillReactor:
    """Keeps what is to be called; nothing happens by itself."""

    running = True

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class NoDescriptors:
    """An fd store of which nothing is asked."""

    def keep(self, key: str, fds: list[int]) -> None:
        raise AssertionError("no operation here has descriptors")

    def drop(self, key: str) -> None:
        raise AssertionError("no operation here has descriptors")


class Answer(Operation):
    """Waits until the test says so."""

    name: ClassVar[str] = "test_answer"
    numbers: ClassVar[int] = 0
    ended: ClassVar[int] = 0
    """Those with a number up to this have ended."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def new(cls) -> Answer:
        Answer.numbers += 1
        return cls(Answer.numbers)

    @classmethod
    def all_end(cls) -> None:
        Answer.ended = Answer.numbers

    def fileno(self) -> int:
        return -1

    def start(self) -> Done | None:
        return self.advance()

    def advance(self) -> Done | None:
        return Done(1) if self.number <= Answer.ended else None

    def expire(self) -> Done:
        return Done(-1)

    def freeze(self) -> bytes:
        return str(self.number).encode()

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        return cls(int(state))


def engine() -> Engine:
    """The engine of the process that runs."""
    assert isinstance(this.engine, Engine)
    return this.engine


class SimulatedProcess:
    """One receiver."""

    def __init__(self, slot: int, incarnation: int, row: Row) -> None:
        self.slot, self.incarnation, self.row = slot, incarnation, row
        self.reactor = StillReactor()
        self.noted = False
        """Whether it has noted a transaction in its row (unsettled is one object for all here)."""
        self.enter_identity()
        self.engine = Engine(row)

    def enter_identity(self) -> None:
        this.slot, this.incarnation = self.slot, self.incarnation

    def end_operations(self) -> None:
        """Let every operation that it drives see whether it has ended."""
        for running in list(self.engine._running.values()):
            changed = running.op.changed
            if changed is not None:
                changed()
        self.reactor.turn()


Sent = list[tuple[tuple[str, int], SipMessage]]


class SteppingWire(Wire):
    """A datagram sent is a step too: a process can die between two of them."""

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        world = self.world
        assert isinstance(world, SimulatedServer)
        world.turns.step()
        super().sendto(data, address)


class SimulatedServer(World):
    """Several processes on one store, with an attendant's help when one dies."""

    def __init__(self, directory: str, monkeypatch: Any, processes: int = 3) -> None:
        super().__init__(directory, monkeypatch)
        self.turns = Turns(self._enter)
        monkeypatch.setattr(this, "store", InterleavedStore(self.store, self.turns), raising=False)
        monkeypatch.setattr(this, "handles", [SteppingWire(self)], raising=False)
        monkeypatch.setattr(this, "fd_keeper", NoDescriptors(), raising=False)
        for name in ("slot", "incarnation", "engine", "reactor"):
            monkeypatch.setattr(this, name, None, raising=False)
        monkeypatch.setattr(unsettled, "row", None)
        monkeypatch.setattr(unsettled, "_noted", False)
        self._inside: SimulatedProcess | None = None
        self.deaths = 0
        self.processes = [SimulatedProcess(slot, 0, Row()) for slot in range(processes)]

    def _enter(self, process: SimulatedProcess) -> None:
        process.enter_identity()
        this.engine = process.engine
        this.reactor = process.reactor  # type: ignore[assignment]
        if self._inside is not None:
            self._inside.noted = unsettled._noted
        unsettled.row, unsettled._noted = process.row, process.noted  # type: ignore[assignment]
        self._inside = process

    # --- what a process may do ---------------------------------------------------------------------------------------

    def datagram(self, data: bytes, source: tuple[str, int]) -> Callable[[], None]:
        return lambda: receive_message(data, source, self.socket)

    def due_timers(self) -> Callable[[], None]:
        def fire() -> None:
            timers.fire_due(self.now)

        return fire

    def perform(
        self,
        actions: Sequence[tuple[int, Callable[[], None]]],
        switches: Sequence[int] = (),
        death: tuple[int, int] | None = None,
    ) -> tuple[Sent, bool]:
        """Do ``actions`` (process number, what), switching between them; ``death``: which one dies, after how many steps.

        Gives what was sent, and whether a process has died.
        """
        works = [Work(self.processes[number], action) for number, action in actions]
        if death is not None:
            works[death[0] % len(works)].left = death[1]
        self.sent.clear()
        if len(works) == 1:
            self.turns.run_here(works[0])
        else:
            self.turns.run(works, switches)
        died = False
        for work in works:
            if work.dead:
                self._bury(work.process)
                died = True
        return self.taken(), died

    def alone(self, number: int, action: Callable[[], None]) -> None:
        """Do one thing, without switching: in this thread."""
        self.turns.run_here(Work(self.processes[number], action))

    def _bury(self, dead: SimulatedProcess) -> None:
        """What the attendant does (workers/attendant.py, _reap): a new process, and the others go on with its work."""
        self.deaths += 1
        number, heir = dead.slot, (dead.slot + 1) % len(self.processes)
        key = dead.row.unsettled
        dead.row.unsettled = 0
        self.processes[number] = SimulatedProcess(dead.slot, self.deaths, Row())
        if key:
            self.alone(heir, lambda: failure_route.interrupted(unsettled.key(key)))
        for name, raw in self.store.scan(parking.PREFIX):
            record = parking.decode(raw)
            if (record.owner, record.incarnation) == (dead.slot, dead.incarnation):
                self.alone(heir, self._giving(heir, name[len(parking.PREFIX) :], parking.pack_owner(record)))

    def _giving(self, heir: int, token: bytes, owner: bytes) -> Callable[[], None]:
        return lambda: self.processes[heir].engine.take_over(token, owner, [])

    # --- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        first = self.store.scan(rows.PREFIX, limit=1)
        return None if not first else rows.of_row(first[0][0])[0]

    def let_time_pass(self, seconds: float) -> list[tuple[float, tuple[str, int], SipMessage]]:
        """Time passes; the timer process fires what is due exactly then."""
        end, out, firings = self.now + seconds, [], 0
        while (due := self.next_deadline()) is not None and due <= end:
            firings += 1
            assert firings < 1000, "timers fire without end"
            self.now = max(self.now, due)
            self.sent.clear()
            self.alone(0, self.due_timers())
            out += [(self.now, address, parse(data)) for address, data in self.sent]
        self.now = end
        return out
