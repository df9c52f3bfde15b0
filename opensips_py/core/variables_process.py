"""Variables of this process: log levels, and the socket that the request will leave by."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.core.functions_network import socket_named, socket_of_host
from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.pseudo_variables_network import received_on, socket_field
from opensips_py.server import log


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
    from opensips_py.server.process import this

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
        raise ValueRefused("a field of a socket cannot be written")
    if value is None:
        ctx.send_socket = None
    elif not isinstance(value, str):
        raise ValueRefused("a socket is a text: proto:address:port")
    elif (found := socket_named(value) or socket_of_host(value)) is not None:
        ctx.send_socket = found
    else:
        log.log(log.ERROR, "core", "socket_out", f"the server does not listen on {value}: nothing is forced")


@module.variable("socket_out", argument="optional", write=_set_socket_out)
def _socket_out(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Socket that the request will be sent from, or a field of it: the one that was forced, or the one that it came in by."""
    return socket_field(received_on(ctx) if ctx.send_socket is None else ctx.send_socket, argument)


@module.variable("fs", write=_set_socket_out)
def _forced_socket(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Socket that the request is forced to leave by; NULL until one is."""
    return socket_field(ctx.send_socket, None)
