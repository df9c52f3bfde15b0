"""``@module.every(seconds)``: a user's function that runs again and again, beside the timers of the timer process."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.engine.operation import READ
from opensips_py.script.declarations import ModuleParameter
from opensips_py.server.guard import report_error
from opensips_py.server.process import this
from opensips_py.user_modules.python_call import Job, report_failure


class TimedCall:
    """Begins a job every so many seconds; one that takes longer is waited for."""

    def __init__(self, module: str, name: str, begin: Callable[[], Job], seconds: float | ModuleParameter[int]) -> None:
        self._module = module
        self._name = name
        self._begin = begin
        self._seconds = seconds
        self._due = 0.0

    def begin(self) -> None:
        """Start, if this is the timer process."""
        if this.kind == "timer":
            self._due = this.clock.now() + self._pause
            this.reactor.call_at(self._due, self._run)

    @property
    def _pause(self) -> float:
        return max(0.01, float(self._seconds.value if isinstance(self._seconds, ModuleParameter) else self._seconds))

    def _run(self) -> None:
        try:
            job = self._begin()
        except Exception as error:  # no thread, no descriptor: perhaps there is the next time
            report_error(error, f"{self._module}: {self._name}()")
            self._again()
            return
        this.reactor.add(job.fd, READ, lambda events: self._ended(job))

    def _ended(self, job: Job) -> None:
        if not job.done:
            return
        this.reactor.remove(job.fd)
        try:
            job.result()
        except BaseException as error:
            report_failure(error, f"{self._module}: {self._name}()")
        job.close()
        self._again()

    def _again(self) -> None:
        self._due = max(self._due + self._pause, this.clock.now())
        this.reactor.call_at(self._due, self._run)
