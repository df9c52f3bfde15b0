"""The attendant's watch over the timer process: when that one is stopped or stuck, a receiver stands in for it.

The timer process, and whoever stands in, notes in its status row when it last looked for due timers. Two that look at the
same time do no harm (:mod:`opensips_py.tm.timers`). One that was stopped by a signal and stays so is killed and replaced: it
may hold what the others need, and modules have things done there that nobody stands in for (contacts that expire, pings).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Protocol

from ipc.counters import SlotStatus
from opensips_py.server.log import NOTICE, WARNING, log
from opensips_py.server.process import this
from workers.linux import is_runnable, stopped_by_signal

LATE_SECONDS = 1.0
"""So long after its last look a process looks for timers no more."""
RUNNING_SECONDS = 3.0
"""The same for one that computes, or would if it got a processor."""
KILL_SECONDS = 3.0
"""So long after its last look a timer process that a signal has stopped is killed."""

BEGIN, END = b"B", b"E"
"""What a receiver is told: stand in for the timer process, or do not any more."""


class Worker(Protocol):
    """A process."""

    pid: int
    status: SlotStatus
    started: float


class TimerWatch:
    """Who looks for due timers."""

    def __init__(self, tell: Callable[[Worker, bytes], object]) -> None:
        self._tell = tell
        self._deputy: Worker | None = None
        self._told = 0.0

    def look(self, timer: Worker | None, alive: Callable[[Worker], bool], receivers: Callable[[], Sequence[Worker]]) -> None:
        """See whether the timer process does its work; to be called a few times a second."""
        if timer is not None and not _is_late(timer):
            self._dismiss(alive)
            return
        now = this.clock.now()
        deputy = self._deputy
        if deputy is None or not alive(deputy) or (now - self._told > LATE_SECONDS and _is_late(deputy)):
            self._dismiss(alive)
            self._appoint(timer, receivers(), now)
        if timer is not None and stopped_by_signal(timer.pid) and _silence(timer) > KILL_SECONDS:
            log(WARNING, "core", "handle_sigs", f"process {timer} stays stopped: it is killed")
            os.kill(timer.pid, signal.SIGKILL)

    def _appoint(self, timer: Worker | None, receivers: Sequence[Worker], now: float) -> None:
        if receivers:
            self._deputy = deputy = receivers[0]
            self._told = now
            log(
                WARNING,
                "core",
                "handle_sigs",
                f"process {deputy} stands in for the timer process, {timer or 'which is not there'}",
            )
            self._tell(deputy, BEGIN)

    def _dismiss(self, alive: Callable[[Worker], bool]) -> None:
        deputy, self._deputy = self._deputy, None
        if deputy is not None and alive(deputy):
            log(NOTICE, "core", "handle_sigs", f"process {deputy} stands in for the timer process no more")
            self._tell(deputy, END)


def _silence(worker: Worker) -> float:
    """Seconds since it last looked for timers, or since it was started."""
    return min((this.clock.ticks() - worker.status.timers_ns) / 1e9, this.clock.now() - worker.started)


def _is_late(worker: Worker) -> bool:
    silence = _silence(worker)
    return silence > LATE_SECONDS and not (silence < RUNNING_SECONDS and is_runnable(worker.pid))
