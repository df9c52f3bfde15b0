"""The event interface: what happens in the server is told to whoever wants to know (OpenSIPS manual, "Events Interface").

An event has a name and parameters. :func:`raise_event` tells it to

- the script's ``event_route[NAME]``, in this process: at once when it is ``sync``, else after the message that is just
  being processed;
- those who have subscribed (:mod:`opensips_py.evi.subscriptions`): scripts that wait for it, in whatever process
  they are parked, routes that ``notify_on_event()`` has named, and other programs.

Raising costs next to nothing while nobody wants to know: :func:`wanted` tells before anything is put together.
"""

from __future__ import annotations

from collections.abc import Sequence

from opensips_py.engine.continuation import Continuation, Nested
from opensips_py.engine.dummy_request import report_context
from opensips_py.evi import subscriptions
from opensips_py.script.context import Context, RouteKind
from opensips_py.script.event_names import SCRIPT, events
from opensips_py.server.guard import run_guarded
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import NO_PROGRAM, this

Parameters = Sequence[tuple[str, str | int]]
"""What is told with an event; a parameter may have the empty name."""

THRESHOLD = "E_CORE_THRESHOLD"
NESTING = 10
"""How deep ``sync`` event routes may raise further events."""

_nested = 0


def wanted(name: str) -> bool:
    """Whether anybody would be told."""
    if this.program is NO_PROGRAM:
        return False
    return name in this.program.event_routes or (subscriptions.possible() and subscriptions.any_of(name))


def raise_event(name: str, parameters: Parameters) -> None:
    """Tell everybody who wants to know."""
    sync = this.program.event_routes.get(name)
    if sync is not None:
        if sync:
            _run_nested(name, parameters)
        else:
            this.reactor.call_soon(lambda: _run_route(name, parameters))
    if not subscriptions.possible():
        return
    event = events.known.get(name)
    declared = () if event is None or event.module == SCRIPT else event.parameters
    for notice in subscriptions.deliver(name, parameters, declared):
        _notify_soon(notice, parameters)


def raise_threshold(source: str, microseconds: int, extra: str) -> None:
    """E_CORE_THRESHOLD: something has taken longer than a limit that the script sets."""
    if wanted(THRESHOLD):
        raise_event(THRESHOLD, [("source", source), ("time", microseconds), ("extra", extra)])


def _run_nested(name: str, parameters: Parameters) -> None:
    global _nested
    if _nested >= NESTING:
        log(ERROR, "core", "evi_raise_event", f"Too many nested events {NESTING}")
        return
    _nested += 1
    try:
        _run_route(name, parameters, Nested())
    finally:
        _nested -= 1


def _run_route(name: str, parameters: Parameters, continuation: Continuation | None = None) -> None:
    """``event_route[name]``; the parameters are ``$param(name)`` and ``$param(number)`` there."""
    route = this.program.route(RouteKind.EVENT, name)
    if route is None:  # the script has been reloaded without it
        return
    ctx = report_context(RouteKind.EVENT)
    ctx.route_name = name
    ctx.params = tuple(parameters)
    if continuation is not None:
        ctx.continuation = continuation
    run_guarded(ctx, route)


def _notify_soon(notice: subscriptions.Subscription, parameters: Parameters) -> None:
    this.reactor.call_soon(lambda: _notify(notice, parameters))


def _notify(notice: subscriptions.Subscription, parameters: Parameters) -> None:
    """Run the route that ``notify_on_event()`` has named. It inherits nothing but the key of the transaction."""
    name = notice.route or ""
    route = this.program.route(RouteKind.REQUEST, name)
    if route is None:
        log(ERROR, "event_routing", "notify_on_event", f"route [{name}] is not defined any more")
        return
    ctx = report_context()
    ctx.route_name = name
    if notice.transaction is not None:
        ctx.slots[TRANSACTION] = notice.transaction
    put_avps(ctx, parameters)
    run_guarded(ctx, route)


TRANSACTION = "notified_transaction"
"""Where a notification route's context keeps the key of the transaction from which ``notify_on_event()`` was called."""


def put_avps(ctx: Context, parameters: Parameters) -> None:
    """Give the script the parameters as AVPs of their names."""
    for name, value in parameters:
        if name:
            ctx.avps.setdefault(name, []).append(value)
