"""A coroutine on an asyncio event loop, with a descriptor that tells when it is done.

Each process has one loop, on a thread of its own that is started when the first coroutine comes: asyncio waits for its
descriptors, the process' reactor for the job's. Neither polls the other, and libraries for asyncio find the loop that
they expect.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from opensips_py.engine.thread_job import QueueFull
from opensips_py.server.guard import report_error
from opensips_py.server.process import unwatch

T = TypeVar("T")

STOP_SECONDS = 2.0
"""How long coroutines may take to end when the process does."""


class Slots:
    """How many coroutines may run at once, and how many may wait for their turn. Changed only before the first job."""

    def __init__(self, most: int, queue: int) -> None:
        self.most = most
        self.queue = queue
        self.lock = threading.Lock()
        self.taken = 0
        """Jobs that run or wait."""
        self.running = 0
        """On the loop's thread only, as ``waiting``."""
        self.waiting: deque[CoroutineJob[Any]] = deque()


class CoroutineJob(Generic[T]):
    """One coroutine. ``fd`` becomes readable when it has ended; :meth:`close` cancels it.

    ``make`` is called on the loop's thread when the turn of the job has come, and not at all when it is closed before.
    The coroutine runs in ``context``.
    Raises QueueFull when ``slots`` takes no more.
    """

    __slots__ = ("_context", "_error", "_lock", "_loop", "_make", "_result", "_slots", "_task", "done", "fd")

    def __init__(
        self, make: Callable[[], Coroutine[Any, Any, T]], slots: Slots, context: contextvars.Context | None = None
    ) -> None:
        self._make = make
        self._context = context
        self._slots = slots
        self._lock = threading.Lock()
        self._task: asyncio.Task[T] | None = None
        self._error: BaseException | None = None
        self._result: list[T] = []
        self.done = False
        self._loop = loop.get()
        with slots.lock:
            if slots.taken >= slots.most + slots.queue:
                raise QueueFull(f"{slots.most} coroutines run, {slots.queue} wait")
            slots.taken += 1
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.call_soon_threadsafe(self._begin)

    # --- on the loop's thread ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._slots.running >= self._slots.most:
            self._slots.waiting.append(self)
        else:
            self._slots.running += 1
            self._run()

    def _run(self) -> None:
        if self.fd < 0:
            self._leave()
            return
        try:
            self._task = self._loop.create_task(self._make(), context=self._context)
        except BaseException as error:
            self._end(error)
        else:
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        error: BaseException | None
        if task.cancelled():
            error = asyncio.CancelledError("the coroutine was cancelled")
        else:
            error = task.exception()
            if error is None:
                self._result.append(task.result())
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        self._task = None
        with self._lock:
            self.done = True
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)
        self._leave()

    def _leave(self) -> None:
        """Give the place to the next one."""
        slots = self._slots
        with slots.lock:
            slots.taken -= 1
        if slots.waiting:
            # not at once: a row of closed jobs would nest as deeply as it is long
            self._loop.call_soon(slots.waiting.popleft()._run)
        else:
            slots.running -= 1

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # --- on the caller's thread -------------------------------------------------------------------------------------

    def result(self) -> T:
        """What the coroutine returned, once; raises what it raised. Only when ``done``."""
        if self._error is not None:
            raise self._error
        return self._result.pop()

    def close(self) -> None:
        """Close the descriptor; cancel the coroutine if it has not ended. Idempotent."""
        with self._lock:
            if self.fd < 0:
                return
            unwatch(self.fd)
            os.close(self.fd)
            self.fd = -1
            if self.done:
                return
        self._loop.call_soon_threadsafe(self._cancel)


class Loop:
    """The event loop of this process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0

    def get(self) -> asyncio.AbstractEventLoop:
        """The running loop; started if there is none."""
        if self._loop is None or self._process != os.getpid():  # the thread does not survive a fork
            self._process = os.getpid()
            self._loop = made = asyncio.new_event_loop()
            made.set_exception_handler(_report)
            self._thread = threading.Thread(target=self._run, args=(made,), name="asyncio", daemon=True)
            self._thread.start()
        return self._loop

    @staticmethod
    def _run(made: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(made)
        while not made.is_closed():
            try:
                made.run_forever()
                return
            except BaseException as error:  # SystemExit in a callback: the other coroutines go on
                report_error(error, "asyncio")

    def stop(self) -> None:
        """Cancel what runs, give it a moment to clean up, end the loop."""
        made, thread = self._loop, self._thread
        if made is None or thread is None or self._process != os.getpid():
            return
        self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(_wind_up(made), made)
        thread.join(STOP_SECONDS + 1)
        if not thread.is_alive():
            made.close()


async def _wind_up(made: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    await made.shutdown_asyncgens()
    made.stop()


def _report(made: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio has to say: a task that nobody waited for has failed, a callback has raised."""
    error = context.get("exception") or RuntimeError(context.get("message", "unknown"))
    report_error(error, f"asyncio: {context.get('message', '')}")


loop = Loop()
