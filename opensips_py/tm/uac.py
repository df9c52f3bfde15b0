"""Requests that are made here: for management commands, scripts (t_new_request) and modules. OpenSIPS' tm calls this ``t_uac``.

Such a request has a transaction as any other, only that nobody is upstream: local_route runs over it, it is retransmitted and
timed out, a failure route may try again if local_route has armed one. Its final reply may come to any process, or be made up by
the timer process; whoever wants to know of it leaves a :class:`~opensips_py.tm.record.Notice`, or waits here with a function.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from opensips_py.engine.unsettled import unsettled
from opensips_py.net import destinations
from opensips_py.net.resolve import destinations_of, wait_for_destinations
from opensips_py.script.context import Avps, Context, ListenSocket, RouteKind, Source
from opensips_py.server.guard import run_guarded
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.errors import ParseError
from opensips_py.sip.forward import MAX_FORWARDS
from opensips_py.sip.message import parse
from opensips_py.sip.request import DEFAULT_CSEQ, build_request
from opensips_py.tm import callbacks, forking, identity, messages, relay, server_transaction, uac_reply
from opensips_py.tm.record import LOCAL, NEVER, PARKED, Notice, Record
from opensips_py.tm.request_script import RequestScript
from opensips_py.tm.server_transaction import MAIN, hooks
from opensips_py.tm.settings import settings
from opensips_py.tm.states import Uas
from opensips_py.tm.transaction import Transaction, commit
from opensips_py.tm.uac_reply import Outcome


class NotSent(Exception):
    """A request made here was not sent; ``error`` is the internal error number (``transactions.E_…``)."""

    def __init__(self, error: int, text: str) -> None:
        super().__init__(text)
        self.error = error


DROPPED = "local_route has dropped it"


@dataclass(slots=True)
class LocalRequest:
    """What is to be sent."""

    method: str
    ruri: str
    from_: str
    """Value of From, with its tag."""
    to: str
    call_id: str
    cseq: int = DEFAULT_CSEQ
    headers: str = ""
    """Further header lines, each with its CRLF."""
    body: str = ""
    next_hop: str | None = None
    """URI to whose address it goes; None: to that of ``ruri``."""
    socket: ListenSocket | None = None
    """Socket to send it from, if that suits the next hop."""
    avps: Avps = field(default_factory=dict)
    """AVPs that the routes see."""
    max_forwards: int = MAX_FORWARDS


Waiter = Callable[[Outcome], None]
"""Called in this process with the final reply, and before it with provisional ones if they are wanted."""

_HANDLER = "waiter"
_waiting: dict[bytes, Waiter] = {}


def new_call_id(socket: ListenSocket) -> str:
    """A Call-ID that nobody else has (RFC 3261 8.1.1.4)."""
    return f"{os.urandom(12).hex()}@{socket.host}"


def new_tag() -> str:
    """A tag (19.3)."""
    return os.urandom(8).hex()


def socket_for(uri: str, preferred: ListenSocket | None = None, ctx: Context | None = None) -> ListenSocket:
    """The socket from which a request to ``uri`` would be sent. Raises NotSent.

    While a name is looked up others are served, if a script asks, over ``ctx``; a process without scripts waits.
    """
    hop = destinations.hop_of_uri(uri)
    if hop is None:
        raise NotSent(server_transaction.E_BAD_URI, f"{uri} is not a SIP URI")
    if ctx is None:
        found = wait_for_destinations(hop, preferred, this.sockets[0])
    else:
        found = destinations_of(ctx, hop, preferred, received_on=this.sockets[0])
    if not found:
        raise NotSent(server_transaction.E_BAD_ADDRESS, f"{uri} leads to no address that can be sent to")
    return found[0].socket


def send(request: LocalRequest, notice: Notice | None = None, within: Context | None = None) -> bytes:
    """Send a request, statefully (an ACK without state). Returns the key of its transaction. Raises NotSent.

    ``within``: the script that asks for it; it waits where the DNS or local_route waits, while others are served.
    """
    server_transaction.prepare()
    next_hop = request.next_hop or request.ruri
    socket = socket_for(next_hop, request.socket, within)
    key = identity.new_key()
    ctx, tx = _begin(request, next_hop, socket, key, notice)
    ctx.continuation = LocalRoute()
    ctx.outer = within
    route = this.program.route(RouteKind.LOCAL, MAIN)
    if route is not None:
        run_guarded(ctx, route)
        if ctx.dropped:
            _forget(tx)
            raise NotSent(server_transaction.E_UNSPEC, DROPPED)
    try:
        _go(ctx, tx)
    except NotSent:
        _forget(tx)
        raise
    return key


def _go(ctx: Context, tx: Transaction) -> None:
    """Send it as local_route has left it. Raises NotSent."""
    # the Via in it was for local_route to see: each branch gets its own
    via = ctx.msg.header("via")
    if via is not None:
        ctx.msg.edits.insert(0, (via.start, via.end - via.start, ""))
    if ctx.msg.method == "ACK":
        _forget(tx)
        if relay.forward(ctx) != 1:
            raise NotSent(int(ctx.slots.get("tm.error", server_transaction.E_UNSPEC)), "the ACK could not be sent")
        return
    with tx as rec:
        if rec is None:
            raise NotSent(server_transaction.E_UNSPEC, "its transaction is gone")
        error = forking.start(ctx, tx, rec)
        unsettled.clear()
    if error:
        raise NotSent(error, f"{ctx.dst_uri or ctx.ruri} cannot be reached")
    hooks.created_here(tx.key)


class LocalRoute(RequestScript):
    """local_route that is suspended: whoever sends the request waits for it.

    In another process the request is sent as the route has left it, and fails if that cannot be: its notice holds anywhere.
    """

    kind = "local"
    in_line = True

    def prepare(self, ctx: Context) -> int:
        return 1  # it has its transaction

    def end(self, ctx: Context) -> None:
        try:
            if ctx.dropped:
                raise NotSent(server_transaction.E_UNSPEC, DROPPED)
            _go(ctx, ctx.tx)
        except NotSent as reason:
            log(WARNING, "tm", "local_request", f"{ctx.msg.method} {ctx.ruri} is not sent: {reason}")
            self.give_up(ctx, 500, "")

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        tx: Transaction = ctx.tx
        with tx as rec:
            if rec is None:
                return
            try:
                if rec.code < 200:
                    rec.flags &= ~PARKED
                    uac_reply.local_reply(tx, rec, code, b"", this.clock.now())
                    commit(tx)
            finally:
                unsettled.clear()


def _forget(tx: Transaction) -> None:
    """It will not be sent: nothing of it is to stay, if local_route has had it stored by waiting for something."""
    unsettled.clear()
    if not tx.new:
        this.store.delete(tx.key)


def ask(request: LocalRequest, waiter: Waiter, *, provisional: bool = False, within: Context | None = None) -> bytes:
    """Send a request and have ``waiter`` called here with its reply. As :func:`send` otherwise."""
    token = os.urandom(8)
    _waiting[token] = waiter
    try:
        return send(request, Notice(_HANDLER, token, this.slot, this.incarnation, provisional), within)
    except BaseException:
        del _waiting[token]
        raise


@uac_reply.handler(_HANDLER)
def _answered(token: bytes, outcome: Outcome) -> None:
    waiter = _waiting.get(token) if outcome.code < 200 else _waiting.pop(token, None)
    if waiter is not None:
        waiter(outcome)


def _begin(
    request: LocalRequest, next_hop: str, socket: ListenSocket, key: bytes, notice: Notice | None
) -> tuple[Context, Transaction]:
    """The request as routes see it, and its transaction, which nobody knows of yet."""
    raw = build_request(
        request.method,
        request.ruri,
        via=f"Via: {socket.via};branch={identity.branch_id(key, 0)}",
        from_=request.from_,
        to=request.to,
        call_id=request.call_id,
        cseq=request.cseq,
        headers=request.headers,
        body=request.body,
        user_agent=messages.Identification.user_agent,
        max_forwards=request.max_forwards,
    )
    rec = Record(
        deadline=NEVER,
        done=False,
        method=request.method,
        state=Uas.TRYING,
        raw=raw,
        ip=socket.host,
        port=socket.port,
        socket=socket.name,
        reply_host="",
        reply_port=0,
        to_tag="",
        flags=LOCAL,
        fr=settings.fr_timeout,
        fr_inv=settings.fr_inv_timeout,
        notice=notice,
    )
    tx = Transaction(key, rec, new=True)
    try:
        msg = parse(raw)
    except ParseError as error:
        raise NotSent(server_transaction.E_BAD_REQ, f"{request.method} {request.ruri} cannot be sent: {error.reason}") from None
    ctx = Context(msg, Source(socket.host, socket.port, socket.proto), socket, RouteKind.LOCAL)
    ctx.tx, ctx.tx_key = tx, key
    ctx.dst_uri, ctx.send_socket = next_hop, socket
    ctx.avps = request.avps
    callbacks.begin(ctx, rec)
    return ctx, tx
