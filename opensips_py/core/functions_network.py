"""Sending without a transaction, choosing the socket, and whether an address is ours."""

from __future__ import annotations

from collections.abc import Sequence

from opensips_py.core.core_module import module
from opensips_py.net import tcp
from opensips_py.net.destinations import forced_for, hop_of_proxy
from opensips_py.net.own_address import is_ours
from opensips_py.net.resolve import destinations_of
from opensips_py.script.context import Context, ListenSocket
from opensips_py.script.declarations import ALL, HeaderLines, Line
from opensips_py.script.one_line import shown
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.tm import msg_translator, relay


@module.function(routes=ALL)
def forward(ctx: Context, destination: str | None = None) -> int:
    """Forward the request without a transaction: to ``[proto:]host[:port]``, or to ``$du`` or the R-URI.

    1 sent, -1 the destination is wrong, -2 the URI is, -4 unresolvable, other negative codes: not sent.
    """
    hop = None if destination is None else hop_of_proxy(destination)
    if destination is not None and hop is None:
        return -1
    return relay.forward(ctx, hop)


@module.function(routes=ALL)
def send(ctx: Context, destination: str, headers: HeaderLines | None = None) -> int:
    """Send the message as it was received (no Via is added) to ``[proto:]host[:port]``, with more header lines if given.

    1 sent, -1 the destination is wrong or unresolvable, or it could not be sent.
    """
    hop = hop_of_proxy(destination)
    found = () if hop is None else destinations_of(ctx, hop, forced_for(hop, ctx.send_socket))
    data = ctx.msg.raw
    headers = headers or ""
    if any(to.socket.proto != "udp" for to in found) and not ctx.msg.has("content-length"):
        headers = f"Content-Length: {len(ctx.msg.body)}\r\n{headers}"
    if headers:
        if not headers.endswith("\n"):
            headers += "\r\n"
        end = ctx.msg.headers_end
        data = data[:end] + headers.encode("latin-1") + data[end:]
    return 1 if any(this.send(to.socket, data, to.ip, to.port) for to in found) else -1


@module.function(routes=ALL)
def force_rport(ctx: Context) -> int:
    """Answer to the port that the request came from, although its Via has no rport (RFC 3581)."""
    ctx.msg.force_rport = True
    return 1


@module.function(routes=ALL)
def add_local_rport(ctx: Context) -> int:
    """Ask the next hop to answer to the port that the request comes from: put ``rport`` into our Via (RFC 3581)."""
    ctx.slots[msg_translator.LOCAL_RPORT] = True
    return 1


@module.function(routes=ALL)
def set_advertised_address(ctx: Context, address: Line) -> int:
    """Name this server ``address`` in the Via and Record-Route of this request. 1 always; an empty one changes nothing."""
    _, port = ctx.slots.get(msg_translator.ADVERTISED, (None, None))
    if address:
        ctx.slots[msg_translator.ADVERTISED] = [address.strip("[]"), port]
    return 1


@module.function(routes=ALL)
def set_advertised_port(ctx: Context, port: str) -> int:
    """Name ``port`` as this server's port in the Via and Record-Route of this request.

    1 always, as in OpenSIPS; what is not a port changes nothing, and is logged.
    """
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        log(ERROR, "core", "set_advertised_port", f"{shown(port)} is not a port")
        return 1
    address, _ = ctx.slots.get(msg_translator.ADVERTISED, (None, None))
    ctx.slots[msg_translator.ADVERTISED] = [address, int(port)]
    return 1


@module.function(routes=ALL)
def force_tcp_alias(ctx: Context, port: int | None = None) -> int:
    """Let requests to ``port`` of the sender (default: the port in its Via) go over the connection that this request came in on.

    1 done, or the request came over UDP; -1 the connection has gone, or another one has that address already.
    """
    if ctx.socket.proto == "udp":
        return 1
    return 1 if tcp.add_alias(ctx, port or ctx.msg.via.effective_port) else -1


def socket_named(text: str, among: Sequence[ListenSocket] | None = None) -> ListenSocket | None:
    """The listening socket ``[proto:]host[:port]``; ``among`` those of the script before they are opened."""
    hop = hop_of_proxy(text.strip())
    if hop is None:
        return None
    for sock in this.sockets if among is None else among:
        if sock.host == hop.host and sock.port == hop.port and sock.proto == hop.proto:
            return sock
    return None


def socket_of_host(host: str) -> ListenSocket | None:
    """The first listening socket with this address."""
    return next((sock for sock in this.sockets if sock.host == host.strip()), None)


@module.function(routes=ALL)
def force_send_socket(ctx: Context, name: str) -> int:
    """Send the request from this socket, ``[proto:]host[:port]``. -1 when the server does not listen on it."""
    found = socket_named(name)
    if found is None:
        return -1
    ctx.send_socket = found
    return 1


@module.function(routes=ALL)
def is_myself(ctx: Context, host: str, port: int | None = None) -> int:
    """Whether an address is one of this server: of its sockets, their advertised addresses, an alias, or a domain (module
    domain, db_mode 1)."""
    return 1 if is_ours(host, (port or 0) & 0xFFFF) else -1
