"""When Python looks for garbage that reference counting has not freed: rarely, and when little is parked.

A full collection visits every object that is alive: with twenty thousand parked operations it holds a process up for longer than
an answer may take. Almost nothing here is garbage of that kind, so it can wait.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from opensips_py.server.process import Reactor, this

PAUSE = 10.0
"""Seconds between two looks at whether to collect."""
FEW = 500
"""Parked operations up to which a full collection takes no more than some milliseconds."""
LONGEST = 600.0
"""Seconds after which it is done in any case."""
_NEVER = 1 << 30


def prepare() -> None:
    """Keep the collector away from what was made so far, which lives for ever, and from the old among what is made later."""
    gc.collect()
    gc.freeze()
    # much rarer runs on the young would cost more than they save: fresh memory is not in the processor's cache
    gc.set_threshold(5_000, 20, _NEVER)


def collect_now_and_then(reactor: Reactor, parked: Callable[[], int]) -> None:
    """Collect everything when ``parked()`` is small."""
    last = this.clock.now()

    def look() -> None:
        nonlocal last
        now = this.clock.now()
        if gc.get_count()[2] > 0 and (parked() <= FEW or now - last > LONGEST):
            gc.collect()
            last = now
        reactor.call_at(now + PAUSE, look)

    reactor.call_at(last + PAUSE, look)
