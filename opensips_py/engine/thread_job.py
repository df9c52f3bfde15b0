"""A blocking call on a thread, with a descriptor that tells when it is done.

For what has no non-blocking form: name lookup by the system's resolver, functions of a user's module. A few threads per
process, started when first needed; they are daemons, so that a call that hangs does not hold up the end of the process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from opensips_py.server.process import unwatch

T = TypeVar("T")

THREADS = 8
"""Most threads of one process for the server's own calls; a user's module has its own."""


class QueueFull(Exception):
    """As many jobs as are allowed to wait do so already; the text says how many."""


class ThreadJob(Generic[T]):
    """One call. ``fd`` becomes readable when it has ended. A job closed before its turn is not run.

    Raises QueueFull when ``threads`` takes no more.
    """

    __slots__ = ("_call", "_discard", "_error", "_lock", "_result", "done", "fd")

    def __init__(self, call: Callable[[], T], discard: Callable[[T], None] | None = None, threads: Threads | None = None) -> None:
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._result: list[T] = []
        self.done = False
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            (threads or _threads).submit(self._run)
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        if self.fd < 0:
            return
        try:
            self._result.append(self._call())
        except BaseException as error:  # also SystemExit, which would end the thread and leave the caller waiting
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
                unwatch(self.fd)
                os.close(self.fd)
                self.fd = -1
            if not self.done:
                return
        self._throw_away()


class Threads:
    """Some threads of this process and what waits for them.

    ``most`` and ``queue`` (jobs that may wait; None: any number) may be changed before the first job.
    """

    def __init__(self, most: int, queue: int | None = None, name: str = "job") -> None:
        self.most = most
        self.queue = queue
        self._name = name
        self._clear()

    def _clear(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self.busy = 0
        """Jobs that run or wait."""
        self._process = os.getpid()

    def submit(self, job: Callable[[], None]) -> None:
        """Have a thread run ``job``. Raises QueueFull."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._clear()
        with self._lock:
            if self.queue is not None and self.busy >= self.most + self.queue:
                raise QueueFull(f"{self.most} threads are busy, {self.queue} calls wait")
            if self.busy >= self._count < self.most:
                self._one_more()
            self.busy += 1
        self._jobs.put(job)

    def _one_more(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name} {self._count + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: those that there are do the work
            if not self._count:
                raise
        else:
            self._count += 1

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            del job  # and what it refers to: the next one may come late
            with self._lock:
                self.busy -= 1


_threads = Threads(THREADS)
