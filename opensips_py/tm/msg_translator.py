"""Messages made from a Context: replies to its request, and its request on the way to the next hop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from opensips_py.script.context import Q_UNSPECIFIED, Context, ListenSocket
from opensips_py.sip.edits import Edit
from opensips_py.sip.forward import build_forward
from opensips_py.sip.message import SipMessage
from opensips_py.sip.reply import DEFAULT_SERVER, build_reply

REPLY_HEADERS = "reply_headers"
"""Slot of a Context for the header lines that append_to_reply() has collected (a str; each line with its CRLF)."""


ADVERTISED = "advertised"
"""Slot of a Context: [address or None, port or None] by which the request names this server (set_advertised_address())."""
LOCAL_RPORT = "local_rport"
"""Slot of a Context: our Via asks the next hop for ``rport`` (RFC 3581)."""
SENDER_SLOTS = (ADVERTISED, LOCAL_RPORT)
"""Slots that a branch route sets for its branch alone."""


class Identification:
    """How this server names itself in replies (core parameters server_header and server_signature)."""

    server = DEFAULT_SERVER
    """Whole header line without CRLF; empty for none."""


def reply(ctx: Context, code: int, reason: str, *, to_tag: str | None, headers: str = "", body: str = "") -> bytes:
    """A reply to the request of ``ctx``, with what append_to_reply() has collected, and the Contacts of a redirection."""
    slots = ctx.slots
    if slots and code > 100:
        headers = slots.get(REPLY_HEADERS, "") + headers
    if 300 <= code < 400 and (ctx.new_uri is not None or ctx.branches):
        headers += f"Contact: {contacts(ctx)}\r\n"
    return build_reply(ctx.msg, code, reason, to_tag=to_tag, headers=headers, body=body, server=Identification.server)


def contacts(ctx: Context) -> str:
    """The destination set as the value of a Contact header (RFC 3261 21.3)."""
    found = [] if ctx.new_uri is None else [_contact(ctx.new_uri, ctx.q)]
    found += [_contact(branch.uri, branch.q) for branch in ctx.branches]
    return ", ".join(found)


def _contact(uri: str, q: int) -> str:
    if q == Q_UNSPECIFIED:
        return f"<{uri}>"
    return f"<{uri}>;q={q / 1000:g}"


other_socket: list[Callable[[Context, ListenSocket, list[Edit]], list[Edit]]] = []
"""Called when a request leaves from another socket than it came to, with the edits to be made; gives those to make instead."""


def on_other_socket(adapt: Callable[[Context, ListenSocket, list[Edit]], list[Edit]]) -> None:
    """Have ``adapt`` called so from now on. Idempotent."""
    if adapt not in other_socket:
        other_socket.append(adapt)


def forwarded(ctx: Context, uri: str, socket: ListenSocket, branch: str, path: str | None, headers: str = "") -> bytes:
    """The request of ``ctx`` as it goes from ``socket`` to ``uri``, with ``path`` as Route and more ``headers`` (lines)."""
    msg = ctx.msg
    slots = ctx.slots
    if slots and ADVERTISED in slots:
        socket = _as_advertised(socket, *slots[ADVERTISED])
    via = f"Via: {socket.via};branch={branch}"
    if slots and LOCAL_RPORT in slots:
        via += ";rport"
    if path is None and not headers and socket is ctx.socket:
        return build_forward(msg, via=via, ruri=uri)
    edits = list(msg.edits)
    if socket.proto != "udp":
        with_length(msg, edits)
    if socket is not ctx.socket:
        for adapt in other_socket:
            edits = adapt(ctx, socket, edits)
    if path is not None:
        route = msg.header("route")
        edits.append((msg.headers_end if route is None else route.start, 0, f"Route: {path}\r\n"))
    if headers:
        edits.append((msg.headers_end, 0, headers))
    return build_forward(msg, via=via, ruri=uri, edits=edits)


def with_length(msg: SipMessage, edits: list[Edit]) -> None:
    """A message that came in a datagram may lack Content-Length; on a stream it must say where it ends (RFC 3261 18.3)."""
    if not msg.has("content-length") and not any(offset >= msg.body_start for offset, _, _ in edits):
        edits.append((msg.headers_end, 0, f"Content-Length: {len(msg.body)}\r\n"))


def via_of(ctx: Context, socket: ListenSocket) -> str:
    """The beginning of our Via, without parameters, when the request of ``ctx`` leaves from ``socket``."""
    if ADVERTISED in ctx.slots:
        socket = _as_advertised(socket, *ctx.slots[ADVERTISED])
    return socket.via


def _as_advertised(socket: ListenSocket, host: str | None, port: int | None) -> ListenSocket:
    """A socket under the name that the script gives it for one request."""
    return replace(
        socket,
        advertised_host=socket.advertised_host if host is None else host,
        advertised_port=socket.advertised_port if port is None else port,
    )
