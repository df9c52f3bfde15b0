"""The one clock of a server: seconds since the epoch that step by no more than 20 ms, and only when the wall clock is set.

It reads CLOCK_REALTIME when the server starts and goes on with CLOCK_MONOTONIC, so that a time in a stored record means the
same in every process, after a restart and on another machine. When the wall clock is stepped meanwhile, nothing ends or
starts at once: :meth:`Clock.follow`, which the attendant calls every second, catches up by at most :data:`CATCH_UP`
seconds each time.

``opensips_py.server.process.this.clock`` is this clock; code asks it and never ``time``.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

CATCH_UP = 0.02
"""Seconds that the clock moves towards a stepped wall clock at a time: timers are early or late by 2 %, no more."""
_EXACT = 0.001
"""Nearer than this it is right."""


class Clock:
    """One for all processes of a server, which share how far it is from CLOCK_MONOTONIC."""

    now: Callable[[], float]
    """Seconds since the epoch. For all deadlines and all times in records."""

    def __init__(self) -> None:
        self.wall: Callable[[], float] = time.time
        """CLOCK_REALTIME as it is now. For people to read (log, Date, $Ts): it may step."""
        self.ticks: Callable[[], int] = time.monotonic_ns
        """Nanoseconds of CLOCK_MONOTONIC. For how long something takes, between the processes of this machine."""
        self.start()

    def start(self) -> None:
        """Set it by the wall clock. A server does that before it forks; its processes share what :meth:`follow` changes."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._offset = offset = memoryview(self._page).cast("d")
        monotonic = time.monotonic
        offset[0] = time.time() - monotonic()
        self.now = lambda: monotonic() + offset[0]

    def follow(self) -> float:
        """Go a little towards the wall clock; by how many seconds that is ahead."""
        ahead = self.wall() - self.now()
        if abs(ahead) > _EXACT:
            self._offset[0] += max(-CATCH_UP, min(CATCH_UP, ahead))
        return ahead


clock = Clock()
