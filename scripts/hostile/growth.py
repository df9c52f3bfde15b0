"""How the time for a piece of work grows with the size of its input."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple

Work = Callable[[], object]

SIZES = (8_000, 16_000, 32_000, 64_000)
"""Bytes of input: up to the longest message."""
RUNS = 3
"""What looks steep is measured so often; the quickest run counts, because the machine has other things to do, too."""
ENOUGH = 1.0
"""Seconds from which a size is not measured again, nor a larger one."""
NOTHING = 0.003
"""Seconds below which growth is not looked at: clock and memory management take their part."""
BOUND = 2.5
"""Times by which n·log n may be exceeded: quadratic growth over these sizes exceeds it 6 times."""


class Case(NamedTuple):
    """A piece of work."""

    name: str
    prepare: Callable[[int], Work]
    """Makes the input of a size, outside the measurement, and gives what works on it. Called anew for each run."""


class Growth(NamedTuple):
    """What was measured."""

    name: str
    seconds: list[float]
    """CPU time for each size."""
    sizes: tuple[int, ...]

    @property
    def steep(self) -> bool:
        """Whether it grows faster than n·log n."""
        if len(self.seconds) < len(self.sizes):
            return True
        first, last = self.seconds[0], self.seconds[-1]
        ratio = self.sizes[-1] / self.sizes[0]
        return last > NOTHING and last > max(first, NOTHING / ratio) * ratio * 1.25 * BOUND

    def __str__(self) -> str:
        figures = "  ".join(
            f"{seconds * 1000:.2f} ms at {size // 1000} kB" for seconds, size in zip(self.seconds, self.sizes, strict=False)
        )
        return f"{self.name:<58} {figures}{'   STEEP' if self.steep else ''}"


def measure(case: Case, sizes: tuple[int, ...] = SIZES, runs: int = RUNS) -> Growth:
    """CPU time of this thread for each size."""
    found: list[float] = []
    for size in sizes:
        best = float("inf")
        for _ in range(runs):
            work = case.prepare(size)
            gc.disable()
            start = time.thread_time()
            work()
            best = min(best, time.thread_time() - start)
            gc.enable()
            if best > ENOUGH:
                break
        found.append(best)
        if best > ENOUGH:
            break
    return Growth(case.name, found, sizes)


def judge(case: Case, sizes: tuple[int, ...] = SIZES) -> Growth:
    """A quick look at the first and the last size; all of them, several times, when that looks steep: the machine may be busy."""
    growth = measure(case, (sizes[0], sizes[-1]), 1)
    for runs in (RUNS, 3 * RUNS):
        if not growth.steep:
            break
        growth = measure(case, sizes, runs)
    return growth
