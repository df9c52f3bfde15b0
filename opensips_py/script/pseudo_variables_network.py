"""Where the message came from and through which socket."""

from __future__ import annotations

from opensips_py.script.context import Context, ListenSocket, Value
from opensips_py.script.variable_kinds import Access, Index, Text, built, scalar
from opensips_py.script.variable_syntax import VariableError

_TRANSPORTS = ("udp", "tcp", "tls", "sctp", "ws", "wss", "bin", "hep_udp", "hep_tcp", "smpp")


def transport_number(transport: str) -> int:
    """The number of a transport, which counts in comparisons with numbers; 0: none that is known."""
    return _TRANSPORTS.index(transport) + 1 if transport in _TRANSPORTS else 0


@scalar("si", "src_ip")
def _si(ctx: Context) -> Value:
    """Source address."""
    return ctx.source.ip


@scalar("sp")
def _sp(ctx: Context) -> Value:
    """Source port."""
    return ctx.source.port


@scalar("proto", "pr", numbers=transport_number)
def _proto(ctx: Context) -> Value:
    """Transport that the message came by; where there is none, the text ``<null>``, as in OpenSIPS."""
    return ctx.source.proto or "<null>"


def received_on(ctx: Context) -> ListenSocket | None:
    """The socket that the message came in by; None for the message of a route that runs without one."""
    return ctx.socket if ctx.source.proto else None


@scalar("Ri")
def _ri(ctx: Context) -> Value:
    """Address that the message was received on."""
    socket = received_on(ctx)
    return None if socket is None else socket.host


@scalar("Rp")
def _rp(ctx: Context) -> Value:
    """Port that the message was received on."""
    socket = received_on(ctx)
    return None if socket is None else socket.port


@scalar("af")
def _af(ctx: Context) -> Value:
    """Address family of the source: ``INET`` or ``INET6``."""
    return "INET6" if ":" in ctx.source.ip else "INET"


FIELDS = ("proto", "ip", "port", "tag", "advertised_ip", "advertised_port", "forced_proto", "af", "anycast")


def socket_field(socket: ListenSocket | None, field: str | None) -> Value:
    """One of :data:`FIELDS` of a socket, or the whole as text for None."""
    if socket is None:
        return None
    if field is None:
        return socket.name
    if field in ("proto", "forced_proto"):
        return socket.proto
    if field == "ip":
        return socket.host
    if field == "port":
        return socket.port
    if field == "tag":
        return socket.tag
    if field == "advertised_ip":
        return socket.advertised_host
    if field == "advertised_port":
        return socket.advertised_port
    if field == "anycast":
        return 0  # no socket is: OpenSIPS has this for its clusters
    return "INET6" if ":" in socket.host else "INET"


def check_field(argument: Text | None) -> str | None:
    """The field that a socket variable names; VariableError for an unknown one."""
    if argument is None:
        return None
    if not isinstance(argument, str) or argument.strip() not in FIELDS:
        raise VariableError(f"unknown field of a socket: {argument!r} (one of {', '.join(FIELDS)})")
    return argument.strip()


@built("socket_in", argument="optional")
def _socket_in(argument: Text | None, index: Index) -> Access:
    """Socket that the message was received on, or a field of it."""
    field = check_field(argument)
    return Access(lambda ctx: socket_field(received_on(ctx), field))
