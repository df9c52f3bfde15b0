"""``reload_routes``, or SIGHUP to the attendant: new routes for a running server.

The process that gets the command reads and checks the script; when it is right, its text goes to every process, the
attendant included, and each compiles it and goes over to it between two messages. When it is wrong nothing changes.
What is parked goes on in the new script's route of the name that it waits for; ``Engine`` ends what waits for a route
that has gone.

A process that starts meanwhile asks the attendant whether its routes are still the latest (:func:`catch_up`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from opensips_py.mi.dispatcher import Later
from opensips_py.script.declarations import MIError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.script.reload import Text, compile_routes, read
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, NOTICE, WARNING, log, state, to_bytes
from opensips_py.server.process import this
from opensips_py.tm import server_transaction

SECONDS = 30.0
"""How long a process may take to change its routes before the answer says that it has not yet."""
PAUSE = 0.05
"""Seconds between two attempts to reach a process."""

changed: list[Callable[[], None]] = []
"""Called in this process after its routes have changed."""

_latest: dict[str, Any] = {}
"""In the attendant: the last text, as the control channel carries it."""


Told = Callable[[Any, str | None], None]
SendAll = Callable[[str, dict[str, Any], Told, float], None]
"""``send_all(command, arguments, told, seconds)``; ``told`` gets the answers by slot (as text)."""


def reload_routes(send_all: SendAll | None = None) -> Later:
    """Check the script and have every process take its routes; the answer comes when all have.

    ``send_all`` reaches every process; the default is this process' line to the attendant.
    """
    try:
        text, warnings = read(this.program)
    except ScriptErrors as failure:
        for line in failure.render().splitlines():
            state.write(ERROR, to_bytes(line + "\n"))
        raise MIError(500, "reload failed", str(failure.errors[0])) from None
    for warning in warnings:
        log(WARNING, "core", "reload_routes", str(warning))
    later = Later()
    everybody = {str(slot) for slot in range(len(this.kinds))}
    arguments = {"generation": this.program.generation + 1, "text": msgspec.to_builtins(text)}
    until = this.clock.now() + SECONDS

    send = this.control.send_all if send_all is None else send_all

    def tell() -> None:
        send("reload_routes", arguments, told, SECONDS)

    def told(answers: Any, error: str | None) -> None:
        late = sorted(everybody - set(answers or {}), key=int)
        if error is None and not late:
            later.done("OK")
        elif this.clock.now() < until:  # who is just starting cannot be reached yet
            this.reactor.call_at(this.clock.now() + PAUSE, tell)
        else:
            why = error or f"process {', '.join(late)} has not answered yet"
            log(WARNING, "core", "reload_routes", why)
            later.failed(MIError(500, "reload not complete", why))

    tell()
    return later


def take(generation: int, text: Any) -> str:
    """Go over to new routes, in this process; nothing happens when it has them already. Raises ScriptErrors."""
    old = this.program
    if generation <= old.generation:
        return "OK"
    try:
        new = compile_routes(old, msgspec.convert(text, Text))
    except Exception as error:  # it was right in the process that read it
        report_error(error, "reload_routes")
        raise
    new.generation = generation
    if this.slot:
        new.runtime = old.runtime
    else:
        _latest.update(generation=generation, text=text)
    this.program = new
    server_transaction.prepare()
    for tell in changed:
        tell()
    if not this.reactor.paused:  # a script that waits in line still runs the old routes
        old.release()
    if not this.slot:
        log(NOTICE, "core", "reload_routes", f"{len(new.routes)} routes of {new.path} are the new ones")
    return "OK"


def newer_than(generation: int) -> dict[str, Any] | None:
    """In the attendant: what a process with the routes of ``generation`` has missed."""
    return dict(_latest) if _latest and _latest["generation"] > generation else None


def catch_up() -> None:
    """In a process that has just started: take what was changed while it did."""

    def answered(result: Any, error: str | None) -> None:
        if result:
            take(**result)

    this.control.send("routes_newer_than", {"generation": this.program.generation}, answered)
