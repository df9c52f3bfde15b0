"""What is counted about operations: the statistics of group ``async``, and figures by function for MI ``async_stats``.

All of it is columns in shared memory: counting is a write into this process' own row, without lock or message.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from opensips_py.engine import holding
from opensips_py.script.declarations import Module, Statistic
from opensips_py.server.process import this

module = Module("async", doc="The async engine")
started = module.statistic("started", doc="operations parked by async() and launch()")
completed = module.statistic("completed", doc="operations that ended by themselves")
failed = module.statistic("failed", doc="those of them with a negative return code")
timed_out = module.statistic("timed_out", doc="operations ended by a deadline")
cancelled = module.statistic("cancelled", doc="operations ended by async_cancel, a CANCEL (cancel_parked) or the server's end")
taken_over = module.statistic("taken_over", doc="operations of a dead or stuck process continued by another")
lost = module.statistic("lost", doc="operations that could not be continued by another process")
slow = module.statistic("slow", doc="operations that took longer than async_slow_threshold")
inline = module.statistic("inline", doc="operations that were done at once, without suspending")
waited = module.statistic("waited", doc="operations for which the process waited (no async(), or where it cannot suspend)")
sync_fallbacks = module.statistic("sync_fallbacks", doc="those of them in an async() that could not suspend: in startup_route")
for _stat in (holding.held, holding.refused):
    module.statistics[_stat.name] = _stat
module.statistic("in_flight", doc="operations parked now", gauge=lambda: in_flight())

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of the latency histogram in seconds; what took longer falls into one more."""
BUCKET_NAMES = (*(f"{bound * 1000:g}" for bound in BUCKETS), "longer")
"""Their names: milliseconds."""


def in_flight() -> int:
    """Operations parked now, in all processes."""
    return sum(this.counters.status(slot).parked for slot in range(this.counters.slots))


class Figures:
    """Counts of one function."""

    COUNTS = ("started", "completed", "failed", "timed_out", "cancelled", "lost", "taken_over")
    __slots__ = (*COUNTS, "histogram")

    started: Statistic
    completed: Statistic
    failed: Statistic
    timed_out: Statistic
    cancelled: Statistic
    lost: Statistic
    taken_over: Statistic

    def __init__(self, function: str) -> None:
        for name in self.COUNTS:
            setattr(self, name, Statistic(name, f"async_{function}", no_reset=True))
        self.histogram = [Statistic(name, f"async_{function}", no_reset=True) for name in BUCKET_NAMES]

    def columns(self) -> list[Statistic]:
        """Everything that needs a column in shared memory."""
        return [*(getattr(self, name) for name in self.COUNTS), *self.histogram]


_functions: dict[str, Figures] = {}


def by_function() -> dict[str, Figures]:
    """The figures of every function that can be parked."""
    return _functions


def lay_out(functions: Iterable[str]) -> list[Statistic]:
    """Make figures for these functions; all their columns. Called once, before the fork."""
    _functions.clear()
    _functions.update((name, Figures(name)) for name in sorted(functions))
    return [column for figures in _functions.values() for column in figures.columns()]


def figures_of(function: str) -> Figures:
    """The figures of a function (one that came after the fork is counted in this process only)."""
    found = _functions.get(function)
    if found is None:
        found = _functions[function] = Figures(function)
    return found


def began(function: str) -> None:
    """An operation has been parked."""
    started.add()
    figures_of(function).started.add()


def continued(function: str) -> None:
    """An operation of another process goes on here."""
    taken_over.add()
    figures_of(function).taken_over.add()


def ended(function: str, rc: int, seconds: float) -> None:
    """An operation has ended by itself, ``seconds`` after its start."""
    figures = figures_of(function)
    completed.add()
    figures.completed.add()
    if rc < 0:
        failed.add()
        figures.failed.add()
    figures.histogram[bisect_left(BUCKETS, seconds)].add()


def ended_late(function: str, rc: int, seconds: float) -> None:
    """A deadline has ended an operation."""
    timed_out.add()
    figures_of(function).timed_out.add()


def ended_early(function: str, rc: int, seconds: float) -> None:
    """An operation was cancelled."""
    cancelled.add()
    figures_of(function).cancelled.add()


def ended_lost(function: str, rc: int, seconds: float) -> None:
    """An operation could not be continued."""
    lost.add()
    figures_of(function).lost.add()
