"""Transactions as scripts use them: making and finding them, replying, and the life of a script's run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensips_py.engine.unsettled import unsettled
from opensips_py.net import destinations
from opensips_py.net.tcp import tuning
from opensips_py.script.context import Context, RouteKind
from opensips_py.server.log import NOTICE, log
from opensips_py.server.process import this
from opensips_py.sip.forward import DEFAULT_USER_AGENT
from opensips_py.sip.message import SipMessage, note_source, reread
from opensips_py.sip.reply import DEFAULT_SERVER
from opensips_py.tm import callbacks, identity, machine, message_limits, messages, msg_translator, rows
from opensips_py.tm.address_headers import set_cseq
from opensips_py.tm.record import CANCELLED, LOCAL, LOCAL_SUCCESS, NEVER, OPEN_ONLY, PARKED, RELIABLE, Record, peek
from opensips_py.tm.settings import settings
from opensips_py.tm.states import Uas
from opensips_py.tm.transaction import ANSWERED, RENUMBERED, Transaction, answer_retransmission, commit, look

E_LOOP, E_BREADTH = 482, 440
E_UNSPEC, E_BAD_URI, E_SEND, E_BAD_ADDRESS, E_BAD_REQ, E_NO_DESTINATION, E_TOO_MANY_BRANCHES = 1, 475, 477, 476, 400, 3, 4
"""Internal error numbers, as they stand in the phrases of replies made on errors."""


MAIN = "0"
"""Name of the routes without one."""


def flush(ctx: Context) -> bool:
    """Write what is pending, before anything that waits. False: it was a retransmission after all."""
    tx = ctx.tx
    if tx is None or not tx.new:
        return True
    take_over_routes(ctx, tx.record)
    return commit(tx)


# --- making and finding --------------------------------------------------------------------------------------------


def key_of(msg: SipMessage, method: str) -> bytes:
    """Store key of the server transaction with ``method`` that a request belongs to (RFC 3261 17.2.3)."""
    via = msg.via
    branch = via.branch
    if branch is not None and branch.startswith(identity.COOKIE):
        return identity.server_key(branch, via.sent_by if settings.via1_matching else "", method)
    from_, cseq = msg.from_, msg.cseq
    tag = (from_.tag or "") if from_ is not None else ""
    ruri = msg.ruri if settings.ruri_matching else ""
    top = via.value if settings.via1_matching else ""
    return identity.rfc2543_key(msg.call_id or "", cseq.number if cseq else 0, method, tag, ruri, top)


def success_ack_key_of(msg: SipMessage) -> bytes:
    """Store key under which the ACK for a 2xx finds its INVITE: they share Call-ID and CSeq number."""
    cseq = (msg.value("cseq") or "").split(None, 1)
    return identity.success_ack_key(msg.call_id or "", cseq[0] if cseq else "")


def new_transaction(ctx: Context) -> int:
    """t_newtran: 1 made or already there (or an ACK for a 2xx), 0 a retransmission or an ACK absorbed, -1 error."""
    if ctx.tx is not None:
        return 1
    msg = ctx.msg
    method = msg.method
    if method == "ACK":
        return 0 if acknowledge(ctx) == 1 else 1
    if not msg.complete or (ctx.new_uri is not None and not destinations.valid_uri(ctx.new_uri)):
        if not msg.complete:
            log(
                NOTICE,
                "tm",
                "t_newtran",
                f"{method} from {ctx.source.ip}:{ctx.source.port}: From, To, Call-ID or CSeq is missing",
            )
        ctx.slots["tm.error"] = E_BAD_URI if msg.complete else E_BAD_REQ
        return -2
    key = ctx.tx_key
    if key is None:
        key = key_of(msg, method)
        if answer_retransmission(key, len(msg.raw)):
            return 0
    host, port = destinations.reply_address(ctx)
    source = ctx.source
    slots = ctx.slots
    rec = Record(
        deadline=NEVER,
        done=False,
        method=method,
        state=Uas.TRYING,
        raw=msg.raw,
        ip=source.ip,
        port=source.port,
        socket=ctx.socket.name,
        reply_host=host,
        reply_port=port,
        to_tag=identity.to_tag(key),
        fr=settings.fr_timeout,
        fr_inv=settings.fr_inv_timeout,
        flags=0 if ctx.socket.proto == "udp" else RELIABLE,
    )
    if slots:
        rec.fr = slots.pop("tm.fr", rec.fr)
        rec.fr_inv = slots.pop("tm.fr_inv", rec.fr_inv)
    tx = Transaction(key, rec, new=True)
    tx._request = msg
    ctx.tx = tx
    ctx.tx_key = key
    if slots or callbacks.beginning:
        callbacks.begin(ctx, rec)
    hooks.created(key)
    if method == "INVITE" and hooks.auto_100trying:
        data = msg_translator.reply(ctx, 100, "Giving it a try", to_tag=None, headers="")
        machine.replied(rec, 100, data, 0.0, local=True)
        tx.out.append((rec.socket, data, host, port))
    return 1


Route = Callable[[Context], int]
"""A compiled route."""

Change = Callable[[Record], None]


class Hooks:
    """What module tm tells this layer: choices and statistics."""

    auto_100trying = True
    cancel_parked = False
    keep_avps_for_replies = False
    """onreply_avp_mode."""
    minor_branch_flag = 0
    named_reply_routes = True
    """The script has onreply routes with names."""
    waiting_scripts = False
    """The script has ``async()`` or ``await()`` in it."""
    stateless_forwarding = False
    """Replies without transaction are passed on."""
    accept_aliases = False
    """tcp_accept_aliases."""
    branches_come_later = False
    """The script calls t_inject_branches(): the request is to be kept as it was relayed."""
    main_route: Route | None = None
    reply_route: Route | None = None
    """The onreply route without a name."""
    program: Any = None
    """What these were taken from."""

    @staticmethod
    def created(key: bytes) -> None:
        """A server transaction was made."""

    @staticmethod
    def created_here(key: bytes) -> None:
        """A transaction was made for a request that is made here."""

    @staticmethod
    def answered(code: int, local: bool) -> None:
        """A reply went upstream."""

    @staticmethod
    def received(code: int) -> None:
        """A reply to a branch has come in."""


hooks = Hooks()


def prepare() -> None:
    """Take from the running program what is needed for every message."""
    program = this.program
    if hooks.program is program:
        return
    hooks.main_route = program.route(RouteKind.REQUEST, MAIN)
    hooks.reply_route = program.route(RouteKind.ONREPLY, MAIN)
    # as in OpenSIPS: only a script that forwards without state gets replies forwarded so
    hooks.stateless_forwarding = "forward" in program.called and not program.settings.disable_stateless_fwd
    hooks.named_reply_routes = any(kind == RouteKind.ONREPLY and name != MAIN for kind, name in program.routes)
    hooks.waiting_scripts = bool({"async", "await"} & program.called)
    hooks.branches_come_later = "t_inject_branches" in program.called
    callbacks.use(program.modules)
    given = program.settings
    message_limits.configure(given)
    settings.max_reply_factor = given.max_reply_factor
    hooks.accept_aliases = bool(given.tcp_accept_aliases)
    msg_translator.Identification.server = (given.server_header or DEFAULT_SERVER) if given.server_signature else ""
    messages.Identification.user_agent = (given.user_agent_header or DEFAULT_USER_AGENT) if given.server_signature else ""
    hooks.program = program


def find(ctx: Context) -> bytes | None:
    """Key of the known transaction that the request belongs to. Remembers the answer "none" for new_transaction()."""
    if ctx.tx_key is None:
        key = key_of(ctx.msg, ctx.msg.method)
        if this.store.get(key) is not None:
            return key
        ctx.tx_key = key
    return None


def _renumber(ack: SipMessage, key: bytes) -> None:
    """Give the ACK for a 2xx the number in CSeq by which the callee knows the INVITE."""
    rec = look(Transaction(key))
    for branch in () if rec is None else rec.branches:
        cseq = reread(branch.sent).cseq if branch.code // 100 == 2 else None
        if cseq is not None:
            set_cseq(ack, cseq.number)


def acknowledge(ctx: Context) -> int:
    """An ACK: 1 for a final reply that was made here or is negative, -2 for a relayed 2xx, -1 for an unknown one."""
    slots = ctx.slots
    if "tm.ack" in slots:
        return int(slots["tm.ack"])
    slots["tm.ack"] = found = _acknowledge(ctx.msg)
    return found


def _acknowledge(msg: SipMessage) -> int:
    store = this.store
    key = key_of(msg, "INVITE")  # first: several INVITEs of a forked call may share Call-ID and CSeq
    if store.get(key) is None:  # the ACK for a 2xx has a branch of its own (RFC 3261 13.2.2.4)
        index = success_ack_key_of(msg)
        entry = store.get(index)
        if entry is None:
            return -1
        if entry[:1] != ANSWERED:
            if entry[:1] == RENUMBERED:
                _renumber(msg, entry[1:])
            _ends_soon(entry[1:], index)
            return -2
        key = entry[1:]
    tx = Transaction(key)
    with tx as rec:
        if rec is None:
            return -1
        if rec.code // 100 == 2 and not rec.flags & LOCAL_SUCCESS:
            return -2
        before = rec.retransmit_at
        machine.acknowledged(rec, this.clock.now())
        told = callbacks.tell(callbacks.When.ACK_IN, tx, rec, message=msg)
        if told or rec.retransmit_at != before:
            commit(tx)
        return 1


def _ends_soon(key: bytes, index: bytes) -> None:
    """The ACK for a relayed 2xx passes: the transaction is needed for wt_timer only, if all its branches have ended."""
    data = this.store.get(key)
    if data is None:
        return
    deadline, done = peek(data)
    end = this.clock.now() + settings.wt_timer
    if done and deadline > end + 1:
        this.store.put(rows.row(end, key), rows.DELETE + index)


def original(ctx: Context) -> Transaction | None:
    """The INVITE transaction that a CANCEL asks to cancel (RFC 3261 9.2)."""
    key = key_of(ctx.msg, "INVITE")
    return None if this.store.get(key) is None else Transaction(key)


def take_over_routes(ctx: Context, rec: Record | None) -> None:
    """Give the routes that the script has armed to the transaction, and what its flags say about replies."""
    if rec is None:
        return
    rec.script_flags = ctx.flags
    if ctx.flags & tuning.open_reply_flag:
        rec.flags |= OPEN_ONLY
    if ctx.armed_failure is not None:
        rec.on_failure, ctx.armed_failure = ctx.armed_failure, None
    if ctx.armed_reply is not None:
        rec.on_reply, ctx.armed_reply = ctx.armed_reply, None
    if ctx.armed_branch is not None:
        rec.on_branch, ctx.armed_branch = ctx.armed_branch, None


# --- replying ------------------------------------------------------------------------------------------------------


def reply(ctx: Context, code: int, reason: str, headers: str = "", body: str = "") -> int:
    """t_reply: 1 sent, 0 the request was a retransmission, -1 error or already answered."""
    tx = ctx.tx
    if tx is None:
        if ctx.msg.method == "ACK":
            return -1
        made = new_transaction(ctx)
        if made <= 0:
            return 0 if made == 0 else -1
        tx = ctx.tx
    with tx as rec:
        if rec is None:
            return -1
        if rec.code >= 200 or rec.flags & LOCAL:
            return -1
        rec.flags &= ~PARKED
        take_over_routes(ctx, rec)
        send_reply(ctx, tx, rec, code, reason, headers, body)
        return 1 if commit(tx) else 0


def send_reply(
    ctx: Context,
    tx: Transaction,
    rec: Record,
    code: int,
    reason: str,
    headers: str = "",
    body: str = "",
    to_tag: str | None = None,
) -> None:
    """Make a reply to the request of a held transaction and prepare it for sending; final ones end the branches.

    ``to_tag``: in place of the transaction's own.
    """
    tag = (to_tag or rec.to_tag) if code > 100 else None
    data = msg_translator.reply(ctx, code, reason, to_tag=tag, headers=headers, body=body)
    if rec.kept is not None:
        data = callbacks.reply_out(tx, rec, code, data, local=True)
    now = this.clock.now()
    if not machine.replied(rec, code, data, now, local=True):
        return
    if code >= 200:
        if rec.branches:
            machine.cancel_branches(rec, -1, None, now, tx.out)
        if code < 300 and rec.method == "INVITE" and not rec.index:
            rec.index = success_ack_key_of(ctx.msg)
    tx.out.append((rec.socket, data, rec.reply_host, rec.reply_port))
    hooks.answered(code, True)


# --- the life of a script run ---------------------------------------------------------------------------------------


def resume(ctx: Context) -> None:
    """The script goes on: forget the old view of the transaction."""
    if ctx.tx_key is None:
        ctx.tx = None
    else:
        ctx.tx = Transaction(ctx.tx_key)
        unsettled.set(ctx.tx_key)
    mark_source(ctx)


def script_end(ctx: Context) -> None:
    """After the script of a request: write what is pending; a transaction neither answered nor relayed is released."""
    tx = ctx.tx
    if tx is None:
        return
    try:
        _settle(ctx, tx)
    finally:
        unsettled.clear()


def _settle(ctx: Context, tx: Transaction) -> None:
    if not tx.new and (rec := tx.record) is not None and (rec.code >= 200 or rec.branches):
        if rec.context and rec.code < 200:
            _keep_context(ctx, tx, rec.context)
        return
    with tx as rec:
        if rec is None:
            return
        if rec.code >= 200 or rec.branches:
            return
        take_over_routes(ctx, rec)
        rec.flags &= ~PARKED
        now = this.clock.now()
        if rec.code > 100:
            rec.end_at = now + rec.fr_inv  # answered provisionally, for ever: not even OpenSIPS' callers wait that long
        else:
            machine.released(rec, now)
        commit(tx)


def _keep_context(ctx: Context, tx: Transaction, before: bytes) -> None:
    """What the script has changed after t_relay() (AVPs, flags) is still the transaction's: failure routes see it."""
    after = ctx.freeze()
    if after == before:
        return
    with tx as rec:
        if rec is None:
            return
        if rec.context == before:  # no failure route has run meanwhile
            rec.context = after
            commit(tx)


def keep_rport(ctx: Context) -> None:
    """Have force_rport() survive freezing: it belongs to the message, of which only the bytes are frozen."""
    if ctx.msg.force_rport:
        ctx.slots["tm.rport"] = True


def mark_source(ctx: Context) -> None:
    """After thawing: tell the message where it came from."""
    note_source(ctx.msg, ctx.source.ip, ctx.source.port)
    if "tm.rport" in ctx.slots:
        ctx.msg.force_rport = True


def was_cancelled(ctx: Context) -> bool:
    """t_was_cancelled."""
    tx = ctx.tx
    if tx is None:
        return False
    if not tx.new and not tx.depth:
        tx.record = None  # another process may have received the CANCEL
    rec = look(tx)
    return rec is not None and bool(rec.flags & CANCELLED)
