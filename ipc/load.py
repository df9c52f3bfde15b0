"""How busy processes were: the busy time of each, second by second, in shared memory.

One process (the attendant) takes a sample each second; any process can read the share of time that a process was busy
over the last second, minute or ten minutes.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

SAMPLES = 602
"""Samples kept: ten minutes, one for the second under way, one being written."""


class LoadHistory:
    """Made before the fork and inherited; memory that all processes see."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._map = mmap.mmap(-1, 8 * (1 + SAMPLES * (1 + slots)))
        self._cells: memoryview[int] = memoryview(self._map).cast("q")

    def sample(self, now_ns: int, busy_ns: Sequence[int]) -> None:
        """Keep the total busy time of each process (by slot) at ``now_ns`` (``clock.ticks()``)."""
        taken = self._cells[0]
        at = self._at(taken)
        self._cells[at] = now_ns
        for slot, busy in enumerate(busy_ns):
            self._cells[at + 1 + slot] = busy
        self._cells[0] = taken + 1

    def _at(self, number: int) -> int:
        return 1 + number % SAMPLES * (1 + self._slots)

    def percent(self, slot: int, seconds: int, now_ns: int, busy_ns: int) -> int:
        """Share of the last ``seconds`` that the process was busy, 0 to 100; ``busy_ns`` is its total now.

        Shorter after a start: from the first sample on. 0 when there is no sample yet.
        """
        taken = self._cells[0]
        oldest = max(0, taken - SAMPLES + 1)
        number = max(oldest, taken - 1 - seconds)
        if number >= taken:
            return 0
        at = self._at(number)
        elapsed = now_ns - self._cells[at]
        busy = busy_ns - self._cells[at + 1 + slot]
        if elapsed <= 0:
            return 0
        return min(100, max(0, round(100 * busy / elapsed)))
