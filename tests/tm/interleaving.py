"""Several processes on one store, in one thread of control: who runs is switched at store operations, as a test decides.

Between two store operations (or datagrams sent) a process touches nothing that others see, so that switching there is
as good as switching at any instruction. A batch is atomic and no place for a switch. A process may also *die* at any
of these places: it goes no further, its locks are free, and nothing that it had in memory is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from ipc.lmdb_store import LmdbStore


class Died(BaseException):
    """Ends the work of a process that was killed. No handler of the server catches it."""


class Work:
    """What one process does."""

    def __init__(self, process: Any, action: Callable[[], Any], dies_at: int | None = None) -> None:
        self.process = process
        self.action = action
        self.left = dies_at
        """Steps until its death; None: it lives."""
        self.dead = False
        self.ended = False
        self.error: BaseException | None = None
        self.turn = threading.Semaphore(0)

    def count_down(self) -> None:
        if self.dead:
            raise Died
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.dead = True
                raise Died


class Turns:
    """Runs pieces of work, one at a time, switching where ``switches`` say so."""

    def __init__(self, entered: Callable[[Any], None]) -> None:
        self._entered = entered
        """Called with the process that goes on."""
        self._works: list[Work] = []
        self._current: Work | None = None
        self._switches: list[int] = []
        self._left = -1
        self._held: dict[bytes, list[Any]] = {}
        """Locks: key, and by whom (once for each time that it was taken)."""
        self._done = threading.Semaphore(0)

    def run(self, works: list[Work], switches: Iterable[int] = ()) -> None:
        """Do all of it. ``switches``: after how many steps the other one goes on, each time."""
        self._works, self._switches = works, list(switches)
        self._next_switch()
        threads = [threading.Thread(target=self._perform, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        self._go_on(works[0])
        self._done.acquire()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a process waits for ever"
        self._works, self._current = [], None
        for work in works:
            if work.error is not None:
                raise work.error

    def run_here(self, work: Work) -> None:
        """Do one piece of work, with nobody to switch to."""
        self._works, self._switches, self._left = [work], [], -1
        self._current = work
        self._entered(work.process)
        self._act(work)
        self._works, self._current = [], None
        if work.error is not None:
            raise work.error

    def _act(self, work: Work) -> None:
        try:
            work.action()
        except Died:
            pass
        except BaseException as error:
            work.error = error
        work.ended = True
        if work.dead:
            for key in [key for key, holders in self._held.items() if holders[0] is work.process]:
                del self._held[key]

    def _perform(self, work: Work) -> None:
        work.turn.acquire()
        self._act(work)
        rest = [other for other in self._works if not other.ended]
        if rest:
            self._go_on(rest[0])
        else:
            self._done.release()

    def _go_on(self, work: Work) -> None:
        self._current = work
        self._entered(work.process)
        work.turn.release()

    def _next_switch(self) -> None:
        self._left = self._switches.pop(0) if self._switches else -1

    def step(self) -> None:
        """The running process is about to do, or has just done, something that others see."""
        work = self._current
        if work is None:
            return
        work.count_down()
        if self._left < 0:
            return
        self._left -= 1
        if self._left < 0:
            self._next_switch()
            self._yield()

    def _yield(self) -> bool:
        """Let another one go on; False when there is none."""
        work = self._current
        assert work is not None
        others = [other for other in self._works if other is not work and not other.ended]
        if not others:
            return False
        self._go_on(others[0])
        work.turn.acquire()
        return True

    def acquire(self, key: bytes, wait: bool) -> bool:
        self.step()
        process = None if self._current is None else self._current.process
        while (holders := self._held.get(key)) and holders[0] is not process:
            if not wait:
                return False
            assert self._yield(), "a lock is held by nobody who runs"
        self._held.setdefault(key, []).append(process)
        return True

    def release(self, key: bytes) -> None:
        self.step()
        holders = self._held[key]
        holders.pop()
        if not holders:
            del self._held[key]


class InterleavedBatch:
    """A batch: one step before it, one after it."""

    def __init__(self, turns: Turns, batch: Any) -> None:
        self._turns, self._batch = turns, batch

    def __enter__(self) -> Any:
        self._turns.step()
        return self._batch.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Any:
        result = self._batch.__exit__(kind, error, trace)
        if kind is None:
            self._turns.step()
        return result


class InterleavedLock:
    def __init__(self, turns: Turns, key: bytes) -> None:
        self._turns, self._key = turns, key

    def __enter__(self) -> None:
        self._turns.acquire(self._key, wait=True)

    def __exit__(self, *error: object) -> None:
        self._turns.release(self._key)


class InterleavedStore:
    """The real store, with a step before and after each operation."""

    def __init__(self, store: LmdbStore, turns: Turns) -> None:
        self._store, self._turns = store, turns

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name not in ("get", "put", "put_new", "delete", "claim", "take", "scan", "count"):
            return operation
        step = self._turns.step

        def stepping(*arguments: Any, **named: Any) -> Any:
            step()
            result = operation(*arguments, **named)
            step()
            return result

        return stepping

    def batch(self) -> InterleavedBatch:
        return InterleavedBatch(self._turns, self._store.batch())

    def batch_of_heads(self) -> InterleavedBatch:
        return InterleavedBatch(self._turns, self._store.batch_of_heads())

    def lock(self, key: bytes) -> InterleavedLock:
        return InterleavedLock(self._turns, key)

    def try_lock(self, key: bytes) -> bool:
        return self._turns.acquire(key, wait=False)

    def unlock(self, key: bytes) -> None:
        self._turns.release(key)
