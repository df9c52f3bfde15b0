"""A call of a user's Python function that takes time: the operation behind ``@module.blocking`` and ``async def``.

The function runs on a thread or on the event loop and sees only its arguments, which were computed before. What it sets
in its outputs goes to the script's variables when it has ended, here, in the process' own thread. What comes after
the deadline is thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import opensips_py
from opensips_py.engine.operation import BUSY, LOST, TIMEOUT, Done, Operation
from opensips_py.engine.thread_job import QueueFull
from opensips_py.script.outputs import Out, to_script
from opensips_py.server.guard import report_error
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this

ERROR = -1
"""``$rc`` when the function raised an exception; the log has its traceback."""


_SERVER = os.path.dirname(opensips_py.__file__) + os.sep


class Job(Protocol):
    """``ThreadJob`` and ``CoroutineJob``."""

    fd: int
    done: bool

    def result(self) -> Any: ...

    def close(self) -> None: ...


class PythonCall(Operation):
    """One call. Each function that may wait has a class of its own, with its name."""

    bound = True

    module: ClassVar[str] = ""

    def __init__(
        self,
        begin: Callable[[bool], Job],
        outputs: Sequence[Out[Any]] = (),
        seconds: float | None = None,
        place: str = "",
    ) -> None:
        self._begin = begin
        """Told whether the script's thread waits for the call."""
        self._outputs = outputs
        self._seconds = seconds
        self._place = place
        """``file:line`` of the statement, for the log."""
        self._job: Job | None = None

    def start(self) -> Done | None:
        try:
            self._job = self._begin(self.mode == "plain")
        except QueueFull as full:
            log(WARNING, self.module, self.name, f"{self._place}: {self.name}() is not called: {full}")
            return Done(BUSY)
        except Exception as error:  # no threads left, no descriptors left
            report_error(error, self._place)
            return Done(ERROR)
        if self._seconds:
            self.deadline = this.clock.now() + self._seconds
        return None

    def fileno(self) -> int:
        return -1 if self._job is None else self._job.fd

    def advance(self) -> Done | None:
        job = self._job
        if job is None:
            return Done(ERROR)
        if not job.done:
            return None
        try:
            rc = code_of(job.result(), self.name)
            outputs = assignments(self._outputs)
        except BaseException as error:  # of the function: also SystemExit, which must not end the server
            report_failure(error, self._place)
            rc, outputs = ERROR, []
        self.close()
        return Done(rc, outputs)

    def expire(self) -> Done:
        self.close()
        return Done(TIMEOUT)

    def close(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.close()

    def freeze(self) -> bytes:
        return b""

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        return _Lost()


class _Lost(PythonCall):
    """A call whose process has died, and the thread with it."""

    name = "python call"

    def __init__(self) -> None:
        super().__init__(_nothing)

    def start(self) -> Done:
        return Done(LOST)


def _nothing(held: bool) -> Job:
    raise RuntimeError("a call that was lost cannot begin")


def report_failure(error: BaseException, place: str) -> None:
    """Log what a user's function raised: the script's line, and the traceback as far as it lies in the user's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_SERVER):
        trace = trace.tb_next
    report_error(error if trace is None else error.with_traceback(trace), place)


def code_of(result: object, name: str) -> int:
    """The return code for what a function returned: bool and None are for those who think in Python. Raises TypeError."""
    if result is True or result is None:
        return 1
    if result is False:
        return -1
    if isinstance(result, int) and -0x80000000 <= result <= 0x7FFFFFFF:
        return result
    raise TypeError(f"{name}() returned {result!r:.80}: a script function returns int, bool or None")


def assignments(outputs: Sequence[Out[Any]]) -> list[tuple[str, Any]]:
    """What the outputs have received, as the engine takes it."""
    return [(output.text, to_script(value) if isinstance(value, str) else value) for output in outputs for value in output.values]
