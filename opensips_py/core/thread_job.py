"""A blocking call on a thread, with a descriptor that tells when it is done.

For what has no non-blocking form: name lookup by the system's resolver. A few threads per process, started when first
needed; they are daemons, so that a call that hangs does not hold up the end of the process.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

THREADS = 8
"""Most threads of one process."""


class ThreadJob(Generic[T]):
    """One call. ``fd`` becomes readable when it has ended."""

    __slots__ = ("_call", "_discard", "_error", "_lock", "_result", "done", "fd")

    def __init__(self, call: Callable[[], T], discard: Callable[[T], None] | None = None) -> None:
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._error: Exception | None = None
        self._result: list[T] = []
        self.done = False
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        _threads.submit(self._run)

    def _run(self) -> None:
        try:
            self._result.append(self._call())
        except Exception as error:
            self._error = error
        with self._lock:
            self.done = True
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)
                return
        self._throw_away()

    def _throw_away(self) -> None:
        if self._discard is not None and self._result:
            self._discard(self._result.pop())

    def result(self) -> T:
        """What the call returned, once; raises what it raised. Only when ``done``."""
        if self._error is not None:
            raise self._error
        return self._result.pop()

    def close(self) -> None:
        """Close the descriptor; a result that nobody has taken is given to ``discard``."""
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1
            if not self.done:
                return
        self._throw_away()


class _Threads:
    """The threads of this process and their queue."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._busy = 0

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._busy += 1
            if self._busy > self._count < THREADS:
                self._count += 1
                threading.Thread(target=self._work, name=f"job {self._count}", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            with self._lock:
                self._busy -= 1

    def forked(self) -> None:
        self.__init__()  # type: ignore[misc]  # threads do not survive a fork


_threads = _Threads()
os.register_at_fork(after_in_child=_threads.forked)
