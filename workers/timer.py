"""The timer process: fires transaction timers and runs timer routes.

Timers are rows in the store, ordered by deadline. This process looks every ``TICK`` seconds for rows that are due; it has all
sockets and the compiled script, so retransmissions, final timeouts and failure routes run right here. A row goes away in the
same store transaction as its effect: a timer process that is killed is replaced and loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipc.counters import SlotStatus
from opensips_py.core import reload
from opensips_py.engine import outbox
from opensips_py.engine.dummy_request import report_context
from opensips_py.script.context import RouteKind
from opensips_py.server.guard import run_guarded
from opensips_py.server.process import Reactor, this
from opensips_py.tm import timers, uac_reply
from opensips_py.tm.settings import settings
from workers.child import Child

TICK = 0.08
"""Longest time in seconds that a timer may fire late (OpenSIPS: 0.1); a sixth of T1 (RFC 3261 17) if that is shorter."""
LAST_DELIVERIES = 1.0
"""Seconds for which what is still to be delivered is tried when the server stops: the receivers have ended then."""


def main(child: Child) -> None:
    """Body of the timer process."""
    duty = Duty(child.reactor, child.status)
    duty.begin()
    child.watch_termination(lambda: outbox.finish(LAST_DELIVERIES, child.reactor.stop))
    child.ready()
    child.reactor.run()


class Duty:
    """What the timer process does; another process does it while that one is stopped or stuck (:mod:`workers.timer_watch`)."""

    def __init__(self, reactor: Reactor, status: SlotStatus) -> None:
        self._reactor = reactor
        self._status = status
        self._routes = _TimerRoutes(reactor)
        self._pause = min(TICK, settings.t1 / 6)
        self._timers: dict[Callable[[], None], Any] = {}

    def begin(self) -> None:
        """Look for due timers from now on, and run timer routes."""
        self._status.timers_ns = this.clock.ticks()
        self._call(0.0, self._tick)
        self._call(uac_reply.SWEEP_SECONDS, self._sweep)
        self._routes.begin()
        reload.changed.append(self._routes.begin)

    def end(self) -> None:
        """Leave it to another process."""
        for timer in self._timers.values():
            self._reactor.cancel(timer)
        self._routes.end()
        reload.changed.remove(self._routes.begin)
        self._status.timers_ns = 0

    def _call(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timers[callback] = self._reactor.call_at(this.clock.now() + seconds, callback)

    def _tick(self) -> None:
        # before, not after it: a failure route that waits in line (t_relay) must not hold up everybody else's timers
        self._call(self._pause, self._tick)
        self._status.timers_ns = this.clock.ticks()
        timers.fire_due(this.clock.now())

    def _sweep(self) -> None:
        self._call(uac_reply.SWEEP_SECONDS, self._sweep)
        uac_reply.sweep()
        outbox.sweep()


_standing_in: list[Duty] = []


def stand_in(wanted: bool) -> None:
    """Do the timer process' work in this one too, or not any more."""
    if wanted and not _standing_in:
        duty = Duty(this.reactor, this.counters.status(this.slot))
        _standing_in.append(duty)
        duty.begin()
    elif not wanted and _standing_in:
        _standing_in.pop().end()


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

    def end(self) -> None:
        """Start none any more."""
        for timer in self._timers.values():
            self._reactor.cancel(timer)
        self._timers.clear()

    def _repeat(self, name: str, interval: int) -> None:
        reactor, timers = self._reactor, self._timers
        due = this.clock.now() + interval

        def run() -> None:
            nonlocal due
            # a run that took longer than the interval is not made up for: the next one is due an interval later
            due = max(due + interval, this.clock.now())
            timers[name, interval] = reactor.call_at(due, run)
            ctx = report_context(RouteKind.TIMER)
            ctx.route_name = name
            run_guarded(ctx, this.program.routes[RouteKind.TIMER, name])

        timers[name, interval] = reactor.call_at(due, run)
