"""OpenSIPS module path: Path for registrations that pass this proxy (RFC 3327), and routing back to where they came from.

Path is written with the address that the request was received on. When it leaves from another one, that stands in it (or, with
``enable_double_path``, both do: RFC 3327 5.1 leaves a proxy with two interfaces two values).
"""

from __future__ import annotations

from urllib.parse import unquote

from opensips_py.modules import rr
from opensips_py.script.context import Context, ListenSocket
from opensips_py.script.declarations import Line, Module, R
from opensips_py.sip.edits import Edit
from opensips_py.tm import msg_translator

module = Module("path", doc="Path of registrations through this proxy (RFC 3327; OpenSIPS module path)", depends=("rr",))

use_received = module.param(
    "use_received", int, 0, doc="loose_route() aims a request at the `received` address in the Route that was our Path"
)
enable_double_path = module.param(
    "enable_double_path", int, 1, doc="two Path values when a request leaves from another socket than it came to"
)

ADDED = "path"
"""Slot of a Context: a Path has been added."""

_NAME = "Path: <sip:"


@module.on_config
def configure() -> None:
    """Have Path follow the socket that a request leaves from, and loose_route() look for ``received``, if that is wanted."""
    msg_translator.on_other_socket(_two_sockets)
    if _aim_at_received in rr.routed:
        rr.routed.remove(_aim_at_received)
    if use_received.value:
        rr.routed.append(_aim_at_received)


def _add(ctx: Context, user: str | None, parameters: str) -> int:
    address = f"{user}@" if user else ""
    ctx.slots[ADDED] = 1
    line = f"{_NAME}{address}{ctx.socket.route};lr{parameters}>\r\n"
    if ctx.msg.has("path"):
        ctx.msg.insert_header(line, before="path")
    else:
        ctx.msg.append_header(line)
    return 1


@module.function(routes=R)
def add_path(ctx: Context, user: Line | None = None) -> int:
    """Add a Path with this server's address (and ``user``), so that requests to the contact come this way. 1 always."""
    return _add(ctx, user, "")


@module.function(routes=R)
def add_path_received(ctx: Context, user: Line | None = None) -> int:
    """Add a Path whose parameter ``received`` is the address that the request came from. 1 always."""
    source = ctx.source
    host = f"[{source.ip}]" if ":" in source.ip else source.ip
    transport = "" if source.proto == "udp" else f"%3Btransport%3D{source.proto}"
    return _add(ctx, user, f";received=sip:{host}:{source.port}{transport}")


def _two_sockets(ctx: Context, socket: ListenSocket, edits: list[Edit]) -> list[Edit]:
    """The request leaves from another socket than it came to, or under another name."""
    if ADDED not in ctx.slots:
        return edits
    inbound, outbound = ctx.socket.route, socket.route
    if inbound == outbound:
        return edits
    out = []
    for offset, length, line in edits:
        if not length and line.startswith(_NAME):
            before, ours, tail = line.partition(f"{inbound};lr")
            if ours and enable_double_path.value and socket.index != ctx.socket.index:
                line = f"{before}{outbound};r2=on;lr{tail}{before}{inbound};r2=on;lr{tail}"
            elif ours:
                line = f"{before}{outbound};lr{tail}"
        out.append((offset, length, line))
    return out


def _aim_at_received(ctx: Context) -> None:
    received = rr.route_param(ctx, "received")
    if received:
        ctx.dst_uri = unquote(received.strip("\"'"))
