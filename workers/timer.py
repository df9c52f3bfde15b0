"""The timer process: fires transaction timers and runs timer routes.

Timers are rows in the store, ordered by deadline. This process looks every ``TICK`` seconds for rows that are due; it has all
sockets and the compiled script, so retransmissions, final timeouts and failure routes run right here. A row goes away in the
same store transaction as its effect: a timer process that is killed is replaced and loses nothing.
"""

from __future__ import annotations

import time
from typing import Any

from opensips_py.core import local_reply, reload, timers
from opensips_py.core.guard import run_guarded
from opensips_py.core.process import Reactor, this
from opensips_py.core.report import report_context
from opensips_py.script.context import RouteKind
from opensips_py.tm.settings import settings
from workers.child import Child

TICK = 0.08
"""Longest time in seconds that a timer may fire late (OpenSIPS: 0.1); a sixth of T1 (RFC 3261 17) if that is shorter."""


def main(child: Child) -> None:
    """Body of the timer process."""
    reactor = child.reactor
    pause = min(TICK, settings.t1 / 6)

    def tick() -> None:
        # before, not behind it: a failure route that waits in line (t_relay) must not hold up everybody else's timers
        reactor.call_at(time.monotonic() + pause, tick)
        timers.fire_due(time.monotonic())

    def sweep() -> None:
        reactor.call_at(time.monotonic() + local_reply.SWEEP_SECONDS, sweep)
        local_reply.sweep()

    reactor.call_soon(tick)
    reactor.call_at(time.monotonic() + local_reply.SWEEP_SECONDS, sweep)
    routes = _TimerRoutes(reactor)
    routes.begin()
    reload.changed.append(routes.begin)
    child.watch_termination(reactor.stop)
    child.ready()
    reactor.run()


class _TimerRoutes:
    """Runs each ``timer_route[name, interval]`` every ``interval`` seconds, in the script that is there at the time."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._timers: dict[tuple[str, int], Any] = {}
        """The timer of each route, by name and interval."""

    def begin(self) -> None:
        """Start what the script has, end what it has no more; a route that stays keeps its time."""
        wanted = set(this.program.timer_routes.items())
        for gone in self._timers.keys() - wanted:
            self._reactor.cancel(self._timers.pop(gone))
        for name, interval in wanted - self._timers.keys():
            self._repeat(name, interval)

    def _repeat(self, name: str, interval: int) -> None:
        reactor, timers = self._reactor, self._timers
        due = time.monotonic() + interval

        def run() -> None:
            nonlocal due
            # a run that took longer than the interval is not made up for: the next one is due an interval later
            due = max(due + interval, time.monotonic())
            timers[name, interval] = reactor.call_at(due, run)
            ctx = report_context(RouteKind.TIMER)
            ctx.route_name = name
            run_guarded(ctx, this.program.routes[RouteKind.TIMER, name])

        timers[name, interval] = reactor.call_at(due, run)
