"""raise_event() and subscribe_event(), the events of the core, and the management commands of the event interface."""

from __future__ import annotations

from typing import Any

import msgspec

from opensips_py.core import async_events
from opensips_py.core.core_module import module
from opensips_py.engine.engine import TAKEOVER, TIMEOUT
from opensips_py.evi import events, subscriptions
from opensips_py.evi.subscriptions import BadSocket
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, AvpName, EventName, MIError, RaisedEvent
from opensips_py.script.event_names import events as names
from opensips_py.server.log import ERROR, log

module.event(
    events.THRESHOLD,
    *("source", "time", "extra"),
    doc="when a query of `mysql` has taken longer than `exec_query_threshold`: microseconds, and the query",
)
module.event(
    TIMEOUT,
    *async_events.PARAMETERS,
    doc="when a deadline has ended an operation of async() or launch(): the function, the route that runs then, the statement "
    "(`file:line`), the token and the age in milliseconds",
)
module.event(
    TAKEOVER,
    *async_events.PARAMETERS,
    doc="when an operation of a process that has died or is stuck goes on in another; parameters as of E_ASYNC_TIMEOUT",
)

SUBSCRIPTION_SECONDS = 3600
"""For how long ``event_subscribe`` subscribes when it is not told."""


@module.function(routes=ALL)
def raise_event(ctx: Context, event: RaisedEvent, attributes: AvpName | None = None, values: AvpName | None = None) -> int:
    """Raise an event of the script's own.

    With two AVPs, the values of the first are the names and those of the second the values of its parameters. One AVP
    holds values without names. The topmost value is the first parameter. 1: done (also when nobody is told); -1: a value
    has no name.
    """
    if not events.wanted(event):
        return 1
    if values is None:
        parameters = [("", value) for value in reversed(ctx.avps.get(attributes or "", ()))]
    else:
        given = list(reversed(ctx.avps.get(attributes or "", ())))
        wanted = list(reversed(ctx.avps.get(values, ())))
        if len(given) < len(wanted):
            log(ERROR, "core", "raise_event", f"{event}: missing attribute")
            return -1
        if len(given) > len(wanted):
            log(ERROR, "core", "raise_event", f"{event}: too many attribute names")
        parameters = [(str(name), value) for name, value in zip(given, wanted, strict=False)]
    events.raise_event(event, parameters)
    return 1


@module.function(routes=ALL)
def subscribe_event(ctx: Context, event: EventName, socket: str, expires: int | None = None) -> int:
    """Have another program told of an event, for ``expires`` seconds, or for ever: ``"udp:127.0.0.1:8888"``. 1 or -1."""
    if event not in names.known:
        log(ERROR, "core", "subscribe_event", f"invalid event name <{event}>")
        return -1
    try:
        subscriptions.subscribe(event, socket, expires)
    except BadSocket as error:
        log(ERROR, "core", "subscribe_event", str(error))
        return -1
    return 1


# --- management -------------------------------------------------------------------------------------------------------


@module.mi("event_subscribe", ("event", "socket"), ("event", "socket", "expire"))
def event_subscribe(event: str, socket: str, expire: int = SUBSCRIPTION_SECONDS) -> str:
    """Have another program told of an event, for ``expire`` seconds; 0: not any more."""
    if expire < 0:
        raise MIError(-32602, "Invalid params", "Negative expire value")
    if event not in names.known:
        log(ERROR, "core", "event_subscribe", f"invalid event name <{event}>")
        raise MIError(400, "Bad parameter value")
    try:
        subscriptions.subscribe(event, socket, expire)
    except BadSocket as error:
        log(ERROR, "core", "event_subscribe", str(error))
        raise MIError(400, "Bad parameter value", str(error)) from None
    return "OK"


@module.mi("events_list")
def events_list() -> dict[str, Any]:
    """All events with their numbers."""
    return {"Events": [{"name": name, "id": number} for number, name in enumerate(names.known)]}


@module.mi("subscribers_list", (), ("event",), ("event", "socket"))
def subscribers_list(event: str | None = None, socket: str | None = None) -> dict[str, Any]:
    """Who is told of events: sockets of programs, ``route:`` for an event_route, ``routing:`` for scripts that wait."""
    if event is None:
        listed = [_listed(name) for name in names.known]
        return {"Events": [entry for entry in listed if entry["Subscribers"]]}
    if event not in names.known:
        raise MIError(404, "Event not published")
    entry = _listed(event)
    if socket is None:
        return {"Event": entry}
    found = [one for one in entry.pop("Subscribers") if one["socket"] == socket]
    if not found:
        raise MIError(404, "Subscriber does not exist")
    return {"Event": {**entry, "Subscriber": found[0]}}


def _listed(event: str) -> dict[str, Any]:
    return {"name": event, "id": list(names.known).index(event), "Subscribers": subscriptions.shown(event)}


@module.mi("raise_event", ("event",), ("event", "params"))
def mi_raise_event(event: str, params: Any = None) -> str:
    """Raise an event; ``params`` is an object (names and values) or an array (values), or the JSON text of one."""
    if event not in names.known:
        raise MIError(404, "Event not registered")
    if isinstance(params, str):
        try:
            params = msgspec.json.decode(params)
        except (msgspec.DecodeError, RecursionError):
            params = [params]
    if isinstance(params, dict):
        pairs = [(str(name), value) for name, value in params.items()]
    elif isinstance(params, list):
        pairs = [("", value) for value in params]
    elif params is None:
        pairs = []
    else:
        raise MIError(400, "Bad parameter value", "params is an object or an array")
    events.raise_event(event, [(_bytes(name), _value(value)) for name, value in pairs])
    return "OK"


def _value(value: Any) -> str | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return _bytes(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def _bytes(text: str) -> str:
    """As scripts carry texts."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")
