"""Replies: to the transaction that they belong to, through the onreply routes, and upstream."""

from __future__ import annotations

import msgspec

from opensips_py.dns.rfc3263 import PORT_OPEN, Hop, family_of
from opensips_py.engine.continuation import Continuation
from opensips_py.engine.unsettled import unsettled
from opensips_py.net.destinations import Destinations, known_destinations
from opensips_py.net.own_address import is_own_address
from opensips_py.net.resolve import when_located
from opensips_py.script.context import Context, ListenSocket, RouteKind, Source
from opensips_py.server import traffic
from opensips_py.server.guard import run_guarded
from opensips_py.server.process import this
from opensips_py.sip.message import ParseError, SipMessage, reread
from opensips_py.sip.via import Via
from opensips_py.tm import ack_2xx, callbacks, failure_route, identity, machine, messages, server_transaction
from opensips_py.tm.address_headers import restore_addresses
from opensips_py.tm.msg_translator import with_length
from opensips_py.tm.record import NOT_RELAYED, RELIABLE, RESTORE_CSEQ, RESTORE_FROM, RESTORE_TO, Record
from opensips_py.tm.request_script import TransactionRoute
from opensips_py.tm.server_transaction import hooks
from opensips_py.tm.transaction import Transaction, commit, hold, look, release


def reply_received(msg: SipMessage, source: Source, socket: ListenSocket, global_route: server_transaction.Route | None) -> bool:
    """Process a reply. False: it belongs to no transaction (its context has been through the global onreply route)."""
    name = identity.of_branch_id(msg.via.branch or "")
    ctx: Context | None = None
    if global_route is not None:
        if hooks.waiting_scripts and name is not None and _is_held(name, msg):
            return True
        ctx = Context(msg, source, socket, RouteKind.ONREPLY)
        if name is not None:
            ctx.tx = Transaction(name[0])
            ctx.tx_key = name[0]
            ctx.branch_index = name[1]
        ctx.continuation = OnreplyRoute(-1 if name is None else name[1], globally=True)
        run_guarded(ctx, global_route)
        if ctx.suspended:
            return True
    return _to_transaction(ctx, msg, source, socket, name)


def _to_transaction(
    ctx: Context | None, msg: SipMessage, source: Source, socket: ListenSocket, name: tuple[bytes, int] | None
) -> bool:
    """A reply that has been through the global onreply route, over ``ctx``, if there is one."""
    if name is None:
        return stray(ctx, msg)
    key, n = name
    tx = Transaction(key)
    words = (msg.value("cseq") or "").split()
    if len(words) != 2:
        return True
    method = words[1]
    dropped = ctx is not None and ctx.dropped
    if hooks.named_reply_routes:
        rec = look(tx)
        if rec is None:
            return stray(ctx, msg)
        if n < len(rec.branches) and method == rec.method and (rec.on_reply or rec.branches[n].on_reply):
            if rec.branches[n].held != msg.status:  # else it is a retransmission of what is held back
                if not hooks.keep_avps_for_replies:
                    _through_routes(tx, rec, n, msg, source, socket, dropped)
                else:
                    with tx as held:
                        if held is not None:
                            _through_routes(tx, held, n, msg, source, socket, dropped)
            return True
        tx.record = None
    with tx as rec:
        if rec is None:
            return stray(ctx, msg)
        _received(tx, rec, n, method, msg, dropped)
    return True


def _is_held(name: tuple[bytes, int], msg: SipMessage) -> bool:
    """Whether a suspended onreply route holds back this very reply: a retransmission."""
    rec = look(Transaction(name[0]))
    return rec is not None and name[1] < len(rec.branches) and rec.branches[name[1]].held == msg.status


def _through_routes(
    tx: Transaction, rec: Record, n: int, msg: SipMessage, source: Source, socket: ListenSocket, dropped: bool
) -> None:
    """Run the branch's onreply route, then the transaction's: of a held one, with its AVPs, if onreply_avp_mode=1."""
    ctx = Context(msg, source, socket, RouteKind.ONREPLY)
    ctx.tx, ctx.tx_key, ctx.branch_index = tx, tx.key, n
    ctx.flags, ctx.branch_flags = rec.script_flags, rec.branches[n].script_flags
    if hooks.keep_avps_for_replies:
        _take_avps(ctx, rec)
    names = [name for name in (rec.branches[n].on_reply, rec.on_reply) if name]
    _run_named(ctx, OnreplyRoute(n, names, dropped))


def _take_avps(ctx: Context, rec: Record) -> None:
    """Give an onreply route the AVPs of the transaction (onreply_avp_mode=1)."""
    if rec.context:
        ctx.avps = failure_route.request_context(rec).avps


def _keep_avps(ctx: Context, rec: Record) -> None:
    """Give them back."""
    if rec.context:
        frozen = failure_route.request_context(rec)
        frozen.avps = ctx.avps
        rec.context = frozen.freeze()


def _run_named(ctx: Context, follow: OnreplyRoute) -> None:
    """Run what is left of the onreply routes with names, and let the reply go its way unless one is suspended."""
    ctx.continuation = follow
    while follow.left:
        name = follow.left.pop(0)
        route = this.program.route(RouteKind.ONREPLY, name)
        if route is not None:
            ctx.route_name = name
            ctx.params, ctx.depth = (), 0
            run_guarded(ctx, route)
            if ctx.suspended:
                return
    tx: Transaction = ctx.tx
    with tx as rec:
        if rec is None:
            return
        try:
            server_transaction.take_over_routes(ctx, rec)
            if follow.branch < len(rec.branches):
                branch = rec.branches[follow.branch]
                branch.script_flags = ctx.branch_flags
                if "tm.bavp" in ctx.slots:
                    branch.avps = ctx.slots["tm.bavp"]
            if hooks.keep_avps_for_replies:
                _keep_avps(ctx, rec)
            _received(tx, rec, follow.branch, rec.method, ctx.msg, follow.dropped or ctx.dropped)
        finally:
            unsettled.clear()  # set if a route has waited in line


class OnreplyRoute(TransactionRoute):
    """An onreply route: the reply is held back; afterwards it goes through the remaining routes and to its transaction.

    Its retransmissions are absorbed meanwhile, and a final one stops the timers of its branch.
    """

    kind = "onreply"

    def __init__(self, branch: int, left: list[str] | None = None, dropped: bool = False, globally: bool = False) -> None:
        self.branch = branch
        """Number of the branch; -1: the reply belongs to no transaction."""
        self.left = [] if left is None else left
        """Onreply routes that are still to run."""
        self.dropped = dropped
        """The global onreply route has dropped it."""
        self.globally = globally
        """It is the global onreply route."""

    @property
    def _locked(self) -> bool:
        return hooks.keep_avps_for_replies and not self.globally

    def freeze(self) -> bytes:
        return msgspec.msgpack.encode((self.branch, self.left, self.dropped, self.globally))

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        return cls(*msgspec.msgpack.decode(state, type=tuple[int, list[str], bool, bool]))

    def mark(self, ctx: Context, rec: Record) -> None:
        if 0 <= self.branch < len(rec.branches):
            machine.held_back(rec, self.branch, ctx.msg.status)
        if self._locked:
            _keep_avps(ctx, rec)

    def unmark(self, ctx: Context, rec: Record) -> None:
        if 0 <= self.branch < len(rec.branches):
            machine.not_held_back(rec, self.branch, ctx.msg.status, this.clock.now())

    def resume(self, ctx: Context) -> bool:
        server_transaction.resume(ctx)
        ctx.branch_index = self.branch
        if ctx.tx is None:
            return True
        tx: Transaction = ctx.tx
        with tx as rec:
            if rec is None:
                return True
            self.unmark(ctx, rec)
            if self._locked:
                _take_avps(ctx, rec)
                hold(tx)  # until leave() or end()
            else:
                commit(tx)
        return True

    def leave(self, ctx: Context) -> None:
        if ctx.tx is not None:
            release(ctx.tx)

    def end(self, ctx: Context) -> None:
        try:
            if self.globally:
                name = None if ctx.tx_key is None else (ctx.tx_key, self.branch)
                if not _to_transaction(ctx, ctx.msg, ctx.source, ctx.socket, name):
                    traffic.drop_replies.add()
            elif ctx.tx is not None:
                _run_named(ctx, self)
                if ctx.suspended:
                    return  # held back again, by the next route
        finally:
            unsettled.clear()
            self.leave(ctx)


def _received(tx: Transaction, rec: Record, n: int, method: str, msg: SipMessage, dropped: bool) -> None:
    """The state machine's part, with the transaction held."""
    if n >= len(rec.branches):
        return
    code = msg.status
    if method != rec.method:
        if method == "CANCEL" and code >= 200:
            machine.cancel_answered(rec.branches[n])
            commit(tx)
        return
    hooks.received(code)
    now = this.clock.now()
    if rec.kept is not None and callbacks.wanted(rec, callbacks.When.REPLY_IN):
        callbacks.tell(callbacks.When.REPLY_IN, tx, rec, code=code, message=msg, branch=n)
    if rec.flags & (RESTORE_FROM | RESTORE_TO | RESTORE_CSEQ):
        restore_addresses(rec, n, msg)
    if rec.flags & RELIABLE:
        with_length(msg, msg.edits)
    if rec.flags & NOT_RELAYED:
        relayed = msg.serialise()
        if 200 <= code < 300 and rec.method == "INVITE":
            ack_2xx.acknowledge(tx, rec, n, msg)
    else:
        relayed = messages.relayed_reply(msg) if code > 100 else b""
    outcome = machine.reply_received(rec, n, code, msg, relayed, now, tx.out)
    if outcome == machine.RELAY:
        if code >= 200 and rec.code < 300 and not rec.index and rec.method == "INVITE":
            rec.index = server_transaction.success_ack_key_of(reread(rec.raw) if rec.flags & RESTORE_CSEQ else msg)
        if code >= 200 or not dropped:
            failure_route.relay_upstream(tx, rec, code, relayed, now, msg)
    elif outcome >= 0:
        failure_route.all_failed(tx, rec, outcome, now)
    commit(tx)


def stray(ctx: Context | None, msg: SipMessage) -> bool:
    """A reply without transaction: passed on by its second Via only if the script forwards without state itself.

    And only if we have put its top Via there (RFC 3261 18.1.2).
    """
    if not hooks.stateless_forwarding or (ctx is not None and ctx.dropped and msg.status < 200):
        return False
    try:
        vias = msg.vias
    except ParseError:
        return False
    if len(vias) < 2 or not _is_own(msg, vias):
        return False
    via = vias[1]
    host = via.address if via.received is None or family_of(via.received) is None else via.received
    port = via.rport or _connection_port(msg) or via.effective_port
    hop = Hop(host, port, via.transport.lower(), 0 if via.port or via.received else PORT_OPEN)

    def send(found: Destinations) -> bool:
        if found and found[0].socket.proto != "udp":
            with_length(msg, msg.edits)
        return any(this.send(to.socket, messages.relayed_reply(msg), to.ip, to.port) for to in found)

    known = known_destinations(hop, None, this.sockets[0])
    if known is None:  # a name that the next hop has not marked with an address: RFC 3263 5
        when_located(hop, None, this.sockets[0], send)
    elif not send(known):
        return False
    traffic.fwd_replies.add()
    return True


def _is_own(msg: SipMessage, vias: list[Via]) -> bool:
    """Whether the top Via of a reply is ours: it names this server, or has the branch that we gave."""
    top, below = vias[0], vias[1]
    if is_own_address(top.host, top.effective_port):
        return True
    return below.branch is not None and top.branch == identity.stateless_branch_id(below.branch, below.sent_by, msg.method)


def _connection_port(msg: SipMessage) -> int | None:
    """Source port of the connection that the request came in on: ``i`` in our Via (see ``relay.forward``)."""
    text = msg.via.params.get("i")
    if text is None or len(text) > 4 or not text.isalnum():
        return None
    try:
        return int(text, 16) or None
    except ValueError:
        return None
