"""The process, the script's run and the clock: ``$rc $pp $rT $Ts …``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from opensips_py.script.context import Context, RouteKind, Value
from opensips_py.script.variable_kinds import Access, Index, Text, VariableKind, built, keyed, scalar
from opensips_py.script.variable_syntax import VariableError


@scalar("rc", "retcode")
def _rc(ctx: Context) -> Value:
    """Return code of the last statement."""
    return ctx.rc


@scalar("pp")
def _pp(ctx: Context) -> Value:
    """Process id."""
    return os.getpid()


_ROUTE_TYPES = {
    RouteKind.REQUEST: "request_route",
    RouteKind.FAILURE: "failure_route",
    RouteKind.ONREPLY: "onreply_route",
    RouteKind.BRANCH: "branch_route",
    RouteKind.LOCAL: "local_route",
    RouteKind.ERROR: "error_route",
    RouteKind.STARTUP: "startup_route",
    RouteKind.TIMER: "timer_route",
    RouteKind.EVENT: "event_route",
}


@scalar("rT")
def _route_type(ctx: Context) -> Value:
    """Kind of the route that runs."""
    return _ROUTE_TYPES.get(ctx.route_kind)


def parameter(ctx: Context, which: str) -> Value:
    """An argument of the route: by number from 1, or by name in an event route."""
    params = ctx.params
    if which.isascii() and which.isdigit():
        place = int(which[:9]) - 1
        if not 0 <= place < len(params):
            return None
        found = params[place]
    else:
        found = next((pair for pair in params if isinstance(pair, tuple) and pair[0] == which), None)
    if isinstance(found, tuple):
        found = found[1]
    value: Value = found() if callable(found) else found
    return value


@keyed("param")
def _param(ctx: Context, which: str) -> Value:
    """Argument of the route: ``$param(1)``, or ``$param(name)`` in an event route."""
    return parameter(ctx, which.strip())


@scalar("Ts", "TS")
def _ts(ctx: Context) -> Value:
    """Seconds since 1970."""
    return int(time.time())


@scalar("Tsm")
def _tsm(ctx: Context) -> Value:
    """Microseconds of the current second."""
    return time.time_ns() // 1000 % 1000000


@scalar("Tf")
def _tf(ctx: Context) -> Value:
    """Date and time as text."""
    return time.asctime()


@keyed("time")
def _time(ctx: Context, form: str) -> Value:
    """The time in the form of strftime(3)."""
    return time.strftime(form) or None


def constants(line: int, file: str, argv: Mapping[str, str]) -> dict[str, VariableKind]:
    """``$cfg_line``, ``$cfg_file`` and ``$argv(name)`` for a line of a script that was started with ``argv``."""

    def named(argument: Text | None, index: Index) -> Access:
        value = argv.get(argument) if isinstance(argument, str) else None
        return Access(lambda ctx: value)

    return {
        "cfg_line": VariableKind("cfg_line", lambda argument, index: Access(lambda ctx: line), "no"),
        "cfg_file": VariableKind("cfg_file", lambda argument, index: Access(lambda ctx: file), "no"),
        "argv": VariableKind("argv", named, "required"),
    }


_COLOURS = {"s": 0, "r": 1, "g": 2, "y": 3, "b": 4, "p": 5, "c": 6, "w": 7, "x": 9}


@built("C", argument="required")
def _colour(argument: Text | None, index: Index) -> Access:
    """Terminal colour: foreground and background letter of ``s r g y b p c w x``.

    Upper case asks for a bright foreground, which comes out the first time only that the variable is read, as in OpenSIPS.
    """
    if not isinstance(argument, str) or len(argument) != 2 or any(c.lower() not in _COLOURS for c in argument):
        raise VariableError("$C needs two colours out of s r g y b p c w x, for text and background: $C(rx)")
    fore, back = argument[0], argument[1]
    codes = f"3{_COLOURS[fore.lower()]};4{_COLOURS[back.lower()]}m"
    bright = [f"\x1b[1;{codes}"] if fore.isupper() else []
    return Access(lambda ctx: bright.pop() if bright else f"\x1b[0;{codes}")


def _error(name: str, variable: str, doc: str, absent: str | int) -> None:
    def read(ctx: Context) -> Value:
        error = ctx.slots.get("error")
        value: Value = absent if error is None else error.get(name)
        return value

    scalar(variable, doc=doc)(read)


_absent: str | int
for _name, _doc, _absent in (
    ("class", "In error_route: class of the error; 0 without one.", 0),
    ("level", "In error_route: how serious the error is; 0 without one.", 0),
    ("info", "In error_route: what is wrong; empty when nothing is.", ""),
    ("rcode", "In error_route: status code recommended for a reply; 0 without an error.", 0),
    ("rreason", "In error_route: reason phrase recommended for a reply; empty without an error.", ""),
):
    _error(_name, f"err.{_name}", _doc, _absent)


# $cfg_file, $cfg_line and $argv(name) are constants: the compiler puts them in (constants()); here they have their names only.


@scalar("cfg_file")
def _cfg_file(ctx: Context) -> Value:
    """File of the script that the statement stands in."""
    return None


@scalar("cfg_line")
def _cfg_line(ctx: Context) -> Value:
    """Line of the statement."""
    return None


@keyed("argv")
def _argv(ctx: Context, which: str) -> Value:
    """Value that the command line gives to a name."""
    return None
