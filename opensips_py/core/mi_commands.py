"""Management commands of the core (manual page "Core MI Functions" of OpenSIPS 3.1)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

import opensips_py
from opensips_py.clients import pools
from opensips_py.core import mi_async, reload
from opensips_py.mi.dispatcher import Later
from opensips_py.net.tcp import receivers, streams
from opensips_py.script.declarations import MICommand, MIError, Module
from opensips_py.server.log import ALERT, DBG, state
from opensips_py.server.process import this
from opensips_py.server.statistics import registry
from opensips_py.tm import uac_reply

module = Module("core", doc="Management commands of the core")

_commands: dict[str, MICommand] = {}
"""What ``which`` and ``help`` tell about; set by :func:`describe`."""


def describe(commands: dict[str, MICommand]) -> None:
    """Tell ``which`` and ``help`` what commands there are."""
    _commands.clear()
    _commands.update(commands)


def modules() -> list[Module]:
    """Every module object of this server that may have commands."""
    loaded: Iterable[Module] = this.program.modules.values()
    return [module, mi_async.module, *loaded]


# --- the server -----------------------------------------------------------------------------------------------------


@module.mi("uptime")
def uptime() -> dict[str, str]:
    """Time of day, start of the server, and seconds between them."""
    now = this.clock.now()
    return {
        "Now": time.ctime(now),
        "Up since": time.ctime(this.started_at),
        "Up time": f"{int(now - this.started_at)} [sec]",
    }


@module.mi("version")
def version() -> dict[str, str]:
    """Name and version of the server."""
    return {"Server": f"opensips-py ({opensips_py.__version__} ({platform.machine()}/linux))"}


@module.mi("pwd")
def pwd() -> dict[str, str]:
    """Working directory of the server."""
    return {"WD": os.getcwd()}


@module.mi("arg")
def arg() -> list[str]:
    """Command line of the server."""
    return list(this.argv)


@module.mi("kill")
def kill() -> str:
    """Stop the server in an orderly way."""
    this.control.send("kill")
    return "OK"


@module.mi("ps")
def ps() -> dict[str, Any]:
    """Processes of the server: ID (place in the process table), PID, Type."""
    return {"Processes": [{"ID": slot, "PID": pid, "Type": kind} for slot, pid, kind in _processes()]}


def _processes() -> list[tuple[int, int, str]]:
    return [(slot, this.counters.status(slot).pid, kind) for slot, kind in enumerate(this.kinds)]


# --- commands about commands ----------------------------------------------------------------------------------------


@module.mi("which", (), ("command",))
def which(command: str | None = None) -> list[Any]:
    """Names of all commands, or the parameter lists that one command accepts."""
    if command is None:
        return list(_commands)
    return [list(recipe) for recipe in _known(command).recipes]


@module.mi("help", (), ("mi_cmd",))
def help(mi_cmd: str | None = None) -> dict[str, str]:
    """What a command does, and which module it belongs to."""
    if mi_cmd is None:
        return {"Help": 'help mi_cmd - "which" lists the commands'}
    found = _known(mi_cmd)
    return {"Help": found.doc, "Exported by": found.module}


def _known(name: str) -> MICommand:
    found = _commands.get(name)
    if found is None:
        raise MIError(404, "unknown MI command")
    return found


# --- statistics -----------------------------------------------------------------------------------------------------


@module.mi("get_statistics", ("statistics",))
def get_statistics(statistics: list[str]) -> dict[str, int]:
    """Values of statistics: names, ``group:name``, ``group:`` for a whole group, ``all``. Unknown names are left out."""
    return {f"{stat.group}:{stat.name}": registry.value(stat) for stat in registry.select(statistics)}


@module.mi("list_statistics", (), ("statistics",))
def list_statistics(statistics: list[str] | None = None) -> dict[str, str]:
    """Names of statistics, and whether they count (``incremental``) or are computed or protected."""
    return {
        f"{stat.group}:{stat.name}": "non-incremental" if stat.gauge is not None or stat.no_reset else "incremental"
        for stat in registry.select(["all"] if statistics is None else statistics)
    }


@module.mi("reset_statistics", ("statistics",))
def reset_statistics(statistics: list[str]) -> str:
    """Set statistics to zero, as far as they can be reset."""
    found = registry.select(statistics)
    if not found:
        raise MIError(404, "Statistics Not Found")
    for stat in found:
        registry.reset(stat)
    return "OK"


# --- log levels -----------------------------------------------------------------------------------------------------


@module.mi("log_level", (), ("level",), ("level", "pid"))
def log_level(level: int | None = None, pid: int | None = None) -> dict[str, Any]:
    """Log level of every process; or set that of all processes, or of one."""
    if level is None:
        return {
            "Processes": [
                {"PID": number, "Log level": this.counters.status(slot).log_level, "Type": kind}
                for slot, number, kind in _processes()
            ]
        }
    level = _bounded(level)
    slots = [slot for slot, number, _ in _processes() if pid is None or number == pid]
    if not slots:
        raise MIError(404, "Bad PID")
    for slot in slots:
        this.counters.status(slot).log_level = level
    _tell_all("log_level", {"level": level, "pid": pid})
    return {"New global log level": level} if pid is None else {"Log level": level}


@module.mi("xlog_level", (), ("level",))
def xlog_level(level: int | None = None) -> dict[str, int]:
    """Level up to which xlog() lines are written; or set it in all processes."""
    if level is None:
        return {"xLog Level": state.xlog_level}
    _tell_all("xlog_level", {"level": _bounded(level)})
    return {"New xLog level": _bounded(level)}


def _bounded(level: int) -> int:
    return min(max(level, ALERT), DBG)


def _tell_all(command: str, arguments: dict[str, Any]) -> None:
    """Have every process obey; this one at once, so that the next command sees it."""
    CONTROL[command](**arguments)
    this.control.send_all(command, arguments)


def _take_local_reply(key: bytes) -> str:
    uac_reply.take(key)
    return "OK"


def _set_log_level(level: int, pid: int | None) -> str:
    # the row that shows the level is written by who decides it: a process that obeys late would bring back an older one
    if pid is None or pid == os.getpid():
        state.level = level
    return "OK"


def _set_xlog_level(level: int) -> str:
    state.xlog_level = level
    return "OK"


CONTROL: dict[str, Callable[..., Any]] = {
    "log_level": _set_log_level,
    "xlog_level": _set_xlog_level,
    "local_reply": _take_local_reply,
    "reload_routes": reload.take,
    "routes_newer_than": reload.newer_than,
    "async_cancel": mi_async.cancel_here,
    "async_cancelled": mi_async.cancel_waiting_here,
    "async_pools": pools.describe,
}
"""Commands of the control channel that every process obeys, the attendant included."""


# --- the script -----------------------------------------------------------------------------------------------------


@module.mi("reload_routes")
def reload_routes() -> Later:
    """Read the script's routes again, in every process; parameters, modules and sockets stay. All or nothing: when
    the script is wrong the error names the first mistake, and nothing changes."""
    return reload.reload_routes()


# --- connections ----------------------------------------------------------------------------------------------------

LISTING_SECONDS = 1.0
"""How long processes that are just starting are asked again for their connections."""


@module.mi("list_tcp_conns")
def list_tcp_conns() -> Later:
    """Connections over TCP: ID, Type (protocol), State (0 open, 1 being opened), Remote, Local, Lifetime (when it is closed if
    nothing moves until then), the process that owns it, Alias port if it has any."""
    later = Later()
    wanted = {str(slot) for slot in receivers()}
    until = this.clock.now() + LISTING_SECONDS

    def ask() -> None:
        this.control.send_all("connections", {}, told)

    def told(answers: Any, error: str | None) -> None:
        answers = answers or {}
        if wanted - answers.keys() and this.clock.now() < until:  # who is just starting cannot be reached yet
            this.reactor.call_at(this.clock.now() + 0.05, ask)
            return
        later.done({"Connections": [found for slot in sorted(answers, key=int) for found in answers[slot]]})

    ask()
    return later


def _connections() -> list[dict[str, Any]]:
    return [] if streams.local is None else streams.local.describe()


CONTROL["connections"] = _connections
