"""Scripts that wait for events (OpenSIPS module event_routing).

``async(wait_for_event("E_UL_CONTACT_INSERT", $avp(filter), 40), resume)`` suspends the script until the event is raised, in
any process, by the server or by ``raise_event()``. The parameters of the event are then AVPs of their names. A wait ends with
the first event that passes its filters (return code 1), or when its time is over (-1).

``notify_on_event()`` does not wait: whenever the event is raised within its time, a route runs, in the process that
raised it, with the event's parameters as AVPs and nothing else of the script that subscribed.

A filter is one value ``parameter=pattern`` of the AVP; the pattern is one of the shell (``*``, ``?``, ``[...]``). All filters
must pass; one over a parameter that the event does not have is passed over. An AVP without values: any such event.
"""

from __future__ import annotations

from opensips_py.evi import subscriptions
from opensips_py.evi.mailbox import mailbox
from opensips_py.evi.subscriptions import Subscription
from opensips_py.modules.event_routing.event_wait import WaitForEvent, wait
from opensips_py.script.context import Context
from opensips_py.script.declarations import AvpName, B, EventName, F, Module, O, R, RouteName, V
from opensips_py.script.event_names import SCRIPT, events
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

module = Module("event_routing", doc="Scripts that wait for events (OpenSIPS module event_routing)")


@module.on_config
def configure() -> None:
    """Events look for subscriptions from now on."""
    subscriptions.enable()


@module.on_process
def start() -> None:
    """Every process can be woken; the timer process removes what has expired."""
    mailbox.open()
    if this.kind == "timer":
        _sweep()


def _sweep() -> None:
    try:
        subscriptions.sweep()
    except Exception as error:  # the next turn may succeed
        report_error(error, "event_routing")
    this.reactor.call_at(this.clock.now() + subscriptions.SWEEP, _sweep)


@module.operation(routes=R | F | O | B | V, async_only=True)
def wait_for_event(ctx: Context, event: EventName, filter: AvpName, timeout: int) -> WaitForEvent | int:
    """Wait until an event is raised that passes the filters, at most ``timeout`` seconds. 1: it was; -1: it was not."""
    declared = _declared("wait_for_event", event)
    if declared is None:
        return -1
    return wait(event, _filters(ctx, filter), timeout, declared)


@module.function(routes=R | F | O | B | V)
def notify_on_event(ctx: Context, event: EventName, filter: AvpName, route: RouteName, timeout: int | None = None) -> int:
    """Run a route each time an event is raised that passes the filters, for ``timeout`` seconds. 1: subscribed, -1: error.

    The route has the dummy request and the event's parameters as AVPs.
    """
    declared = _declared("notify_on_event", event)
    if declared is None:
        return -1
    filters = _filters(ctx, filter)
    expires = this.clock.now() + (timeout or 0)
    at = subscriptions.key(event, subscriptions.new_token(), filters, declared)
    subscriptions.put(at, Subscription(filters, expires, route=route, transaction=ctx.tx_key))
    return 1


def _declared(function: str, event: str) -> tuple[str, ...] | None:
    """Parameters that every raise of the event gives; None: there is no such event."""
    found = events.known.get(event)
    if found is None:
        log(ERROR, "event_routing", function, f"Event <{event}> not available")
        return None
    return () if found.module == SCRIPT else found.parameters


def _filters(ctx: Context, avp: str) -> list[tuple[str, str]]:
    """Parameters and patterns, the topmost first."""
    found = []
    for value in reversed(ctx.avps.get(avp, ())):
        name, equals, pattern = value.partition("=") if isinstance(value, str) else ("", "", "")
        if equals and pattern:
            found.append((name, pattern))
        else:
            log(ERROR, "event_routing", "pack_ebr_filters", f"filter <{value}> is not of the form name=value, discarding")
    return found
