"""How many programs a process may have at the same time, and who waits for one of them to end.

Whoever calls decides how often a script runs a program: without a limit the machine would run out of processes. A program
holds its place until it is reaped, also when nobody waits for it any more.
"""

from __future__ import annotations

from typing import Protocol

from opensips_py.clients.pools import Fullness, Queue
from opensips_py.script.declarations import Statistic
from opensips_py.server.log import ERROR, NOTICE, log

running = Statistic("children", "exec", "programs that run, in all processes", level=True, no_reset=True)
waiting = Statistic("children_waiting", "exec", "calls that wait for another program to end", level=True, no_reset=True)
refused = Statistic(
    "children_refused", "exec", "calls refused ($rc -4), because too many programs ran and too many calls waited already"
)


class Waiter(Protocol):
    """A call that waits."""

    def go(self) -> None:
        """There is a place; it is taken by starting a program."""


class Places:
    """The places of this process."""

    def __init__(self) -> None:
        self.most = 256
        """Programs at the same time; 0: any number."""
        self.queue = 4096
        """Calls that may wait."""
        self.taken = 0
        self._promised = 0
        """Places that were given to waiters which have not taken them yet."""
        self._waiting: Queue[Waiter] = Queue()
        self._fullness = Fullness(self._tell)

    @property
    def free(self) -> bool:
        """A program may be started: nobody waits longer."""
        return self.most == 0 or (self.taken + self._promised < self.most and not self._waiting)

    def wait(self, waiter: Waiter) -> bool:
        """Stand in line; False when too many do."""
        if len(self._waiting) >= self.queue:
            self.refuse()
            return False
        self._waiting.append(waiter)
        waiting.add()
        return True

    def refuse(self) -> None:
        """A call that cannot wait has found no place."""
        refused.add()
        self._fullness.refused()

    def leave(self, waiter: Waiter) -> None:
        """Wait no more."""
        if self._waiting.remove(waiter):
            waiting.add(-1)

    def give_back(self) -> None:
        """A waiter that was told to go takes no place."""
        self._promised -= 1
        self._call_next()

    def promised(self) -> None:
        """A waiter that was told to go is about to start its program."""
        self._promised -= 1

    def take(self) -> None:
        """A program has been started."""
        self.taken += 1
        running.add()

    def reaped(self) -> None:
        """A program has ended."""
        self.taken -= 1
        running.add(-1)
        self._fullness.now(self.taken, self.most)
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and (self.most == 0 or self.taken + self._promised < self.most):
            self._promised += 1
            waiting.add(-1)
            self._waiting.pop().go()

    def _tell(self, full: bool, times: int) -> None:
        if full:
            text = f"{self.most} programs run and {len(self._waiting)} calls wait, refusing more ($rc -4)"
            log(ERROR, "exec", "exec", text)
        else:
            log(NOTICE, "exec", "exec", f"programs may be run again; {times} calls were refused")


places = Places()
