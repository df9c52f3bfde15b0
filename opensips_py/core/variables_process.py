"""Variables of this process: log levels, and the socket that the request will leave by."""

from __future__ import annotations

from opensips_py.core import log
from opensips_py.core.core_module import module
from opensips_py.core.functions_network import socket_named
from opensips_py.script.context import Context, Value
from opensips_py.script.pseudo_variables_network import socket_field


def _set_log_level(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    if value is None:
        log.state.level = _configured("log_level")
    elif isinstance(value, int):
        log.state.level = int(value)


def _set_xlog_level(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    if value is None:
        log.state.xlog_level = _configured("xlog_level")
    elif isinstance(value, int):
        log.state.xlog_level = int(value)


def _configured(name: str) -> int:
    from opensips_py.core.process import this

    return int(getattr(this.program.settings, name))


@module.variable("log_level", write=_set_log_level)
def _log_level(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Log level of this process; NULL sets it back to the script's ``log_level``."""
    return log.state.level


@module.variable("xlog_level", write=_set_xlog_level)
def _xlog_level(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Level up to which xlog() writes in this process; NULL sets it back to the script's ``xlog_level``."""
    return log.state.xlog_level


def _set_socket_out(ctx: Context, argument: str | None, index: int | str | None, value: Value) -> None:
    if argument is not None:
        return
    if value is None:
        ctx.send_socket = None
        return
    found = socket_named(str(value))
    if found is not None:
        ctx.send_socket = found


@module.variable("socket_out", argument="optional", write=_set_socket_out)
def _socket_out(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Socket that the request will be sent from, or a field of it; NULL until one is forced."""
    return None if ctx.send_socket is None else socket_field(ctx.send_socket, argument)
