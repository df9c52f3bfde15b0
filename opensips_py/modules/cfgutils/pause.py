"""The operations behind ``sleep()`` and ``usleep()``.

A pause has no descriptor: its deadline is its regular end. So fifty thousand of them cost nothing but timers.
"""

from __future__ import annotations

import struct

from opensips_py.engine.operation import TIMEOUT, Done, Operation
from opensips_py.server.process import this

_END = struct.Struct("d")
_SLACK = 0.001
"""Timers count in milliseconds."""


class Pause(Operation):
    """Nothing, for a while. Cut short by the third argument of ``async()``, it ends with TIMEOUT."""

    takes_default_deadline = False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def start(self) -> Done | None:
        if self.deadline is None:
            if self._seconds <= 0:
                return Done(1)
            self.deadline = this.clock.now() + self._seconds
        return None

    def fileno(self) -> int:
        return -1

    def advance(self) -> Done | None:
        return None

    @property
    def counts_as_timeout(self) -> bool:
        """Whether it is over before its time."""
        return self.deadline is not None and this.clock.now() + _SLACK < self.deadline

    def expire(self) -> Done:
        return Done(TIMEOUT if self.counts_as_timeout else 1)

    def freeze(self) -> bytes:
        return _END.pack(self.deadline or 0.0)

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        pause = cls(0.0)
        (pause.deadline,) = _END.unpack(state)
        return pause


class Sleep(Pause):
    """``sleep(seconds)``."""

    name = "sleep"


class Usleep(Pause):
    """``usleep(microseconds)``."""

    name = "usleep"
