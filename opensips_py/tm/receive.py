"""Reception: from a received message to the script.

Nothing that comes from the network makes :func:`receive_message` raise: a message that cannot be read is answered
with 400 where RFC 3261 8.2 allows it and otherwise dropped with one line in the log; an exception in the script is logged with
its line there, answered with 500 if nothing has been answered, and handed to error_route.
"""

from __future__ import annotations

from ipc.store import StoreFull
from opensips_py.net import tcp
from opensips_py.script.context import Context, ListenSocket, RouteKind, Source
from opensips_py.server import traffic
from opensips_py.server.guard import report_error, run_guarded
from opensips_py.server.log import NOTICE, log
from opensips_py.server.process import this
from opensips_py.sip.message import BadMessage, ParseError, note_source, parse
from opensips_py.tm import message_limits, overload, replies, server_transaction, stateless
from opensips_py.tm.request_script import REQUEST as REQUEST_SCRIPT
from opensips_py.tm.request_script import ErrorRoute
from opensips_py.tm.script_errors import CRITICAL_ERROR, ERROR, NORMAL_ERROR, PARSER, SCRIPT
from opensips_py.tm.server_transaction import hooks

REQUEST = RouteKind.REQUEST
limits = message_limits.Limits

_requests = traffic.rcv_requests
_replies = traffic.rcv_replies
_dropped_requests = traffic.drop_requests
_dropped_replies = traffic.drop_replies
_error_requests = traffic.err_requests
_error_replies = traffic.err_replies
_bad_headers = traffic.bad_msg_hdr


def receive_message(data: bytes, addr: tuple[str, int], socket: ListenSocket) -> None:
    """Process one message (a whole datagram, or one message of a stream) that came from ``addr`` on ``socket``."""
    try:
        _receive(data, addr, socket)
    except Exception as error:
        report_error(error, f"message from {addr[0]}:{addr[1]}")


def _receive(data: bytes, addr: tuple[str, int], socket: ListenSocket) -> None:
    if len(data) < 12 and not data.strip(b"\r\n\0 \t"):
        return  # keep-alive (RFC 5626 3.5.1, and what NATs get from phones)
    if hooks.program is not this.program:
        server_transaction.prepare()
    ip, port = addr[0], addr[1]
    try:
        msg = parse(data)
        if len(data) > limits.small:
            message_limits.check(msg)
    except ParseError as error:
        _refuse(error, ip, port, socket)
        return
    msg.source = (ip, port)
    source = Source(ip, port, socket.proto)
    if not msg.is_request:
        _replies.cells[_replies.index] += 1  # as add() does
        if not replies.reply_received(msg, source, socket, hooks.reply_route):
            _dropped_replies.add()
        return
    _requests.cells[_requests.index] += 1
    method = msg.method
    if method == "ACK" and stateless.is_own_ack(msg):
        return
    route = hooks.main_route
    if route is None:
        _dropped_requests.add()
        return
    ctx = Context(msg, source, socket, REQUEST)
    ctx.continuation = REQUEST_SCRIPT
    if hooks.accept_aliases and socket.proto != "udp" and "alias" in msg.via.params:
        tcp.add_alias(ctx, msg.via.effective_port)
    if this.draining and overload.begins(ctx):
        stateless.send(ctx, 503, "Service Unavailable")
        return
    if this.store.is_low and overload.refused(ctx):
        return
    try:
        route(ctx)
    except Exception as error:
        _failed(ctx, error)
    else:
        if ERROR in ctx.slots and not ctx.suspended:
            _handled(ctx)  # the script has come upon headers that cannot be read
    if ctx.tx is not None and not ctx.suspended:
        server_transaction.script_end(ctx)


def _refuse(error: ParseError, ip: str, port: int, socket: ListenSocket) -> None:
    """A message that is not SIP, or bad SIP."""
    msg = error.message if isinstance(error, BadMessage) else None
    log(NOTICE, "core", "receive_msg", f"bad message from {ip}:{port}: {error.reason}")
    _bad_headers.add()
    if msg is not None and not msg.is_request:
        _error_replies.add()
        return
    _error_requests.add()
    if msg is None:
        return
    note_source(msg, ip, port)
    ctx = Context(msg, Source(ip, port, socket.proto), socket)
    code, reason = _note(ctx, error)
    if _handled(ctx):
        return
    if ctx.tx is not None:
        server_transaction.script_end(ctx)
    elif stateless.SENT not in ctx.slots:
        stateless.send(ctx, code, reason)


def refuse(head: bytes, code: int, reason: str, addr: tuple[str, int], socket: ListenSocket) -> None:
    """Answer a message of a stream whose body has no certain end; ``head`` is empty when not even its headers have one."""
    try:
        _refuse(_error_of(head, code, reason), *addr, socket)
    except Exception as error:
        report_error(error, f"message from {addr[0]}:{addr[1]}")


def _error_of(head: bytes, code: int, reason: str) -> ParseError:
    if not head:
        return ParseError(reason)
    try:
        return BadMessage(reason, parse(head), code)
    except BadMessage as error:  # that it has more faults does not matter
        return BadMessage(reason, error.message, code)
    except ParseError:
        return ParseError(reason, code)


def _note(ctx: Context, error: Exception) -> tuple[int, str]:
    """Keep for ``$err.…`` what has gone wrong; the status and phrase that suit it."""
    if isinstance(error, ParseError):
        info = error.reason
        code = error.code
        reason = _printable(f"Bad Request ({info})" if code == 400 else info)
        kind, level = PARSER, NORMAL_ERROR
    else:
        info = f"{type(error).__name__}: {error}"
        full = isinstance(error, StoreFull)
        code, reason = (503, "Service Unavailable") if full else (500, "Server Internal Error")
        kind, level = SCRIPT, CRITICAL_ERROR
    ctx.slots[ERROR] = {"class": kind, "level": level, "info": info, "rcode": code, "rreason": reason}
    return code, reason


def _handled(ctx: Context) -> bool:
    """Run error_route, if there is one. True: nothing is left to do (it has dropped the request, or waits)."""
    route = this.program.route(RouteKind.ERROR, "0")
    if route is None:
        return False
    ctx.route_kind = RouteKind.ERROR
    ctx.continuation = ErrorRoute()
    run_guarded(ctx, route)
    return ctx.suspended or ctx.dropped


def _printable(text: str) -> str:
    """A reason phrase may hold no control characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _failed(ctx: Context, error: Exception) -> None:
    """The script has raised: log, answer, run error_route."""
    report_error(error)
    _error_requests.add()
    code, reason = _note(ctx, error)
    if _handled(ctx):
        return
    headers = overload.RETRY_HEADER if code == 503 else ""
    if ctx.tx is not None:
        try:
            if server_transaction.reply(ctx, code, reason, headers) >= 0 or not ctx.tx.new:
                return
            ctx.tx = None  # its first reply was the one that could not be stored
        except StoreFull:
            pass  # not even its end can be stored: it is answered without
    if stateless.SENT not in ctx.slots:
        stateless.send(ctx, code, reason, headers)
