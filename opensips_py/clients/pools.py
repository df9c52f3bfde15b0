"""What pools of connections to other servers have in common: spacing of attempts, bounded queues, figures.

A pool belongs to one process and one destination. Its figures are columns in shared memory (the statistics of its
module), and the management command ``async_pools`` shows every pool of every process.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from opensips_py.script.declarations import Module, Statistic
from opensips_py.server.process import this

W = TypeVar("W")


class BackOff:
    """When to try again to reach a server that is down: pauses double up to a limit, and are randomised, so that
    processes do not come all at once."""

    __slots__ = ("_failures", "_first", "_longest", "retry_at")

    def __init__(self, first: float, longest: float) -> None:
        """Pauses in seconds."""
        self._first, self._longest = first, longest
        self._failures = 0
        self.retry_at = 0.0
        """``this.clock.now()`` before which nobody should try; 0: the server is not known to be down."""

    @property
    def failing(self) -> bool:
        """The last attempt has failed."""
        return self._failures > 0

    @property
    def holds(self) -> bool:
        """It is too early for another attempt."""
        return self._failures > 0 and this.clock.now() < self.retry_at

    def failed(self) -> None:
        """An attempt has failed. Those that were under way at the same time count as one."""
        now = this.clock.now()
        if now < self.retry_at:
            return
        self.retry_at = now + min(self._longest, self._first * 2**self._failures) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 16)

    def succeeded(self) -> None:
        """The server is there."""
        self._failures = 0
        self.retry_at = 0.0


class Queue(Generic[W]):
    """Those who wait for a connection, the longest first; leaving from the middle costs no search."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, W] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, waiter: W) -> None:
        """Wait behind all others."""
        self._waiting[id(waiter)] = waiter

    def pop(self) -> W:
        """Take who waits longest."""
        return self._waiting.popitem(last=False)[1]

    def remove(self, waiter: W) -> bool:
        """Wait no more; False when it did not."""
        return self._waiting.pop(id(waiter), None) is not None

    def clear(self) -> list[W]:
        """Take all."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        return waiting


class Fullness:
    """Says once that a queue is full, and once that it has room again (half of it, so that the log does not flutter)."""

    __slots__ = ("_refused", "_tell", "full")

    def __init__(self, tell: Callable[[bool, int], None]) -> None:
        """``tell(full, refused)`` is called at each change; ``refused`` is how many were refused while it was full."""
        self._tell = tell
        self._refused = 0
        self.full = False

    def refused(self) -> None:
        """Somebody has found the queue full."""
        self._refused += 1
        if not self.full:
            self.full = True
            self._tell(True, 0)

    def now(self, waiting: int, most: int) -> None:
        """Somebody has left the queue."""
        if self.full and waiting <= most // 2:
            self.full = False
            refused, self._refused = self._refused, 0
            self._tell(False, refused)


class PoolStatistics:
    """The figures of all pools of one module."""

    COUNTS = (
        ("connections_opened", "connections opened since the start"),
        ("connections_failed", "attempts to connect that failed"),
        ("connections_closed_idle", "connections closed because nobody used them"),
        ("retried", "operations sent again on another connection, because the first did not take them"),
        ("queue_full", "operations refused because too many waited already ($rc -4)"),
    )
    LEVELS = (
        ("connections_open", "connections that are open or being opened, in all processes"),
        ("connections_idle", "those of them that nobody uses"),
        ("connections_waiting", "operations that wait for a connection"),
    )
    __slots__ = tuple(name for name, _ in (*COUNTS, *LEVELS))

    connections_opened: Statistic
    connections_failed: Statistic
    connections_closed_idle: Statistic
    retried: Statistic
    queue_full: Statistic
    connections_open: Statistic
    connections_idle: Statistic
    connections_waiting: Statistic

    def __init__(self, group: str) -> None:
        for name, doc in self.COUNTS:
            setattr(self, name, Statistic(name, group, doc))
        for name, doc in self.LEVELS:
            setattr(self, name, Statistic(name, group, doc, level=True, no_reset=True))

    def declare(self, module: Module) -> None:
        """Make them statistics of a module."""
        for name in self.__slots__:
            stat: Statistic = getattr(self, name)
            module.statistics[name] = stat


describers: dict[str, Callable[[], list[dict[str, Any]]]] = {}
"""Each gives a row for every pool of its kind in this process, for ``async_pools``."""


def describe() -> list[dict[str, Any]]:
    """All pools of this process."""
    return [row for rows in describers.values() for row in rows()]
