"""Management commands about operations of ``async()`` and ``launch()``. They are ours; OpenSIPS has none.

``async_list`` and ``async_stats`` read shared memory in the process that was asked and disturb no worker.
"""

from __future__ import annotations

from typing import Any

from opensips_py.engine import parked as parking
from opensips_py.engine import statistics as counted
from opensips_py.engine.parked import ParkedHead
from opensips_py.mi.dispatcher import Later
from opensips_py.script.declarations import MIError, Module
from opensips_py.server.process import this
from opensips_py.server.statistics import registry

module = Module("async", doc="Management commands of the async engine")

LISTED = 1000
"""Operations that ``async_list`` shows at most, unless told otherwise."""
_CANCEL_SECONDS = 4.0
"""How long the process that drives an operation is looked for: it may just be changing hands."""
_ANSWER_SECONDS = 0.5
"""How long an answer of all processes is waited for: one of them may have died."""
_POOLS_SECONDS = 1.0
"""How long ``async_pools`` waits for a process that is starting."""
_PAUSE = 0.05


@module.mi("async_list", (), ("limit",), ("function",), ("function", "limit"))
def async_list(function: str | None = None, limit: int = LISTED) -> dict[str, Any]:
    """Operations that scripts wait for, all or those of one function: ``Count`` of them, and at most ``limit`` (1000) with token,
    function, route, age and time left in seconds, and the process that drives them."""
    if limit < 0:
        raise MIError(400, "limit cannot be negative")
    count = 0
    operations: list[dict[str, Any]] = []
    for token, record in parking.every(this.store):
        if function is None and len(operations) >= limit:
            count = this.store.count(parking.PREFIX)
            break
        if function is None or record.function == function:
            count += 1
            if len(operations) < limit:
                operations.append(_shown(token, record, this.clock.now()))
    return {"Count": count, "Operations": operations}


def _shown(token: bytes, record: ParkedHead, now: float) -> dict[str, Any]:
    ends = [limit for limit in (record.deadline, record.limit) if limit is not None]
    return {
        "Token": token.hex(),
        "Function": record.function,
        "Mode": record.mode,
        "Route": record.route,
        "Where": record.where,
        "Age": round(now - record.started, 3),
        "Deadline": round(min(ends) - now, 3) if ends else None,
        "Owner": record.owner,
        "PID": this.counters.status(record.owner).pid,
    }


@module.mi("async_stats", (), ("function",))
def async_stats(function: str | None = None) -> dict[str, Any]:
    """Of each function, or of one: operations in flight, started, completed, failed (with a negative code), timed out,
    cancelled, lost, taken over by another process, and how long the completed ones took (upper bounds in ms)."""
    known = counted.by_function()
    if function is not None and function not in known:
        raise MIError(404, "no such function")
    names = sorted(known) if function is None else [function]
    return {"Functions": [_figures(name, known[name]) for name in names]}


def _figures(name: str, figures: counted.Figures) -> dict[str, Any]:
    n = {what: registry.value(getattr(figures, what)) for what in figures.COUNTS}
    return {
        "Function": name,
        "In flight": n["started"] - n["completed"] - n["timed_out"] - n["cancelled"] - n["lost"],
        "Started": n["started"],
        "Completed": n["completed"],
        "Failed": n["failed"],
        "Timed out": n["timed_out"],
        "Cancelled": n["cancelled"],
        "Lost": n["lost"],
        "Taken over": n["taken_over"],
        "Latency": {bucket.name: registry.value(bucket) for bucket in figures.histogram},
    }


@module.mi("async_cancel", ("token",))
def async_cancel(token: str) -> Later:
    """Drop an operation, by its token in ``async_list``: its connection is closed, its program killed, and its route runs at
    once with $rc -5. Error 404 when there is none (any more)."""
    try:
        key = bytes.fromhex(token)
    except ValueError:
        raise MIError(400, "a token is hexadecimal") from None
    later = Later()
    until = this.clock.now() + _CANCEL_SECONDS

    def ask() -> None:
        if this.store.get(parking.PREFIX + key) is None:
            later.failed(MIError(404, "no such operation"))
        else:
            this.control.send_all("async_cancel", {"token": token}, told, _ANSWER_SECONDS)

    def told(answers: Any, error: str | None) -> None:
        if any((answers or {}).values()):
            later.done("OK")
        elif this.clock.now() < until:
            this.reactor.call_at(this.clock.now() + _PAUSE, ask)
        else:
            later.failed(MIError(500, "the process that drives the operation does not answer"))

    ask()
    return later


def cancel_here(token: str) -> bool:
    """Control command: cancel the operation if it is this process that drives it."""
    key = bytes.fromhex(token)
    if not this.engine.drives(key):
        return False
    this.engine.cancel(key)
    return True


def cancel_waiting_here(transaction: bytes) -> None:
    """Control command: the INVITE ``transaction`` has been cancelled and answered."""
    this.engine.cancel_waiting_here(transaction)


@module.mi("async_pools")
def async_pools() -> Later:
    """Connections to databases and web servers, of each process and destination: open, idle and being opened, operations that
    wait, what was opened, failed, retried and refused since the process started, and whether the server is reached."""
    later = Later()
    found: dict[int, list[dict[str, Any]]] = {}
    until = this.clock.now() + _POOLS_SECONDS

    def ask() -> None:
        this.control.send_all("async_pools", {}, told, _ANSWER_SECONDS)

    def told(answers: Any, error: str | None) -> None:
        found.update((int(slot), rows) for slot, rows in (answers or {}).items())
        if len(found) < len(this.kinds) and this.clock.now() < until:  # who is just starting cannot be reached yet
            this.reactor.call_at(this.clock.now() + _PAUSE, ask)
            return
        rows = [{"Process": slot, **row} for slot, rows in found.items() for row in rows]
        later.done({"Pools": sorted(rows, key=lambda row: (row["Destination"], row["Process"]))})

    ask()
    return later
