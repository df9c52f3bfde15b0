"""Faults are contained here: an exception in a route or a module never takes a process down."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from ipc.store import StoreError
from opensips_py.script.context import Context
from opensips_py.server.log import CRITICAL, log
from opensips_py.server.process import this


def run_guarded(ctx: Context, route: Callable[[Context], int]) -> int:
    """Run a route; its return code, or -1 when it raised. The log then names the line of the script."""
    try:
        return route(ctx)
    except Exception as error:
        report_error(error)
        return -1


def report_error(error: BaseException, where: str = "") -> None:
    """Log an exception with the script line that it came from (or ``where``), and its Python traceback."""
    place = this.program.locate(error)
    at = f"{place[0]}:{place[1]}: " if place is not None else (f"{where}: " if where else "")
    if isinstance(error, StoreError):  # says all there is to say, and comes in numbers
        log(CRITICAL, "core", "run_route", f"{at}{error}")
        return
    trace = "".join(traceback.format_exception(error)).rstrip()
    log(CRITICAL, "core", "run_route", f"{at}{type(error).__name__}: {error}\n{trace}")
