"""From the destinations of a request to branches that are sent: what t_relay, and whatever else forks, does.

Making a branch may have to wait, for the DNS or for its branch route. So branches are collected first, without holding the
transaction while something waits, and become the transaction's all at once (:func:`_forwarded`). What is left to do when
the process dies meanwhile is :class:`Relay` and :class:`BranchRoute`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits

import msgspec

from opensips_py.dns.rfc3263 import Hop
from opensips_py.engine import continuation as continuations
from opensips_py.engine.continuation import Continuation
from opensips_py.net import destinations
from opensips_py.net.destinations import Destinations
from opensips_py.net.resolve import destinations_of
from opensips_py.net.tcp import tuning
from opensips_py.script.context import Branch, Context, RouteKind
from opensips_py.server.guard import run_guarded
from opensips_py.server.process import this
from opensips_py.tm import callbacks, identity, loops, machine, msg_translator, server_transaction
from opensips_py.tm.branch_route import BranchRun
from opensips_py.tm.errors import RETURN_CODES, error_reply
from opensips_py.tm.picking import SEND_FAILED
from opensips_py.tm.record import (
    CANCELLED,
    KEEP_BRANCHES,
    MAX_BRANCHES,
    MINOR,
    NO_NEW_BRANCHES,
    NOT_RELAYED,
    OVER_STREAM,
    PARKED,
    PASS_REASON,
    PHONY,
    REPLICATED,
    Alternative,
    Record,
    UacBranch,
)
from opensips_py.tm.request_script import Injected, TransactionRoute, following
from opensips_py.tm.server_transaction import (
    E_BAD_ADDRESS,
    E_BAD_URI,
    E_NO_DESTINATION,
    E_SEND,
    E_TOO_MANY_BRANCHES,
    E_UNSPEC,
    hooks,
)
from opensips_py.tm.states import Uac
from opensips_py.tm.transaction import Transaction, commit, hold

NO_ERROR_REPLY = 0x02
NO_DNS_FAILOVER = 0x04
PASS_CANCEL_REASON = 0x08
FOLLOW_NO_CANCEL = 0x10
"""Flags of t_relay."""

RECORD_FLAGS = "tm.flags"
"""Slot of a Context: flags that its transaction gets when it is relayed (RESTORE_FROM, RESTORE_TO)."""


class Forwarding(msgspec.Struct, array_like=True):
    """One run of t_relay: what has become of its destinations so far."""

    flags: int
    proxy: Hop | None
    targets: list[Branch]
    """Destinations to come, the present one first."""
    made_here: bool
    """t_relay has made the transaction, so that it answers an error itself."""
    made: list[UacBranch] = []
    """Branches that are ready: they become the transaction's all at once."""
    error: int = 0
    """Last internal error."""
    first: int = 0
    """How many branches the transaction had when it began: if there are more at the end, others have taken our numbers."""
    later: bool = False
    """They come to what is under way: the request that is kept for failure routes stays as it was relayed."""


def forward_all(ctx: Context, tx: Transaction, rec: Record, work: Forwarding) -> int:
    """Add branches and send them. 0, or the number of an internal error; -1 when the transaction was made elsewhere."""
    rec.flags &= ~PARKED
    server_transaction.take_over_routes(ctx, rec)
    refused = _refused(ctx, tx, rec)
    if refused:
        return refused
    if work.flags & PASS_CANCEL_REASON:
        rec.flags |= PASS_REASON
    if work.flags & FOLLOW_NO_CANCEL and _no_cancel(ctx):
        rec.flags |= KEEP_BRANCHES
    work.targets = [_own_branch(ctx), *ctx.branches]
    refused = loops.refused(ctx, rec, len(work.targets))
    if refused:
        return refused
    return _fork(ctx, tx, rec, work)


def outcome(ctx: Context, tx: Transaction, work: Forwarding, error: int) -> int:
    """The return code of t_relay for an internal error number (0: none), with the reply to the caller that it may bring."""
    if error == 0:
        return 1
    if error < 0:  # the request was a retransmission after all
        return 0
    ctx.slots["tm.error"] = error
    rec = tx.record
    if work.made_here and not work.flags & NO_ERROR_REPLY and rec is not None and rec.code < 200:
        server_transaction.send_reply(ctx, tx, rec, *error_reply(error, "TM"))
        commit(tx)
        return 0
    return RETURN_CODES.get(error, -1)


def _fork(ctx: Context, tx: Transaction, rec: Record, work: Forwarding) -> int:
    """Make all branches and send them. As :func:`forward_all`."""
    work.first = len(rec.branches)
    outer = ctx.continuation
    ctx.continuation = Relay(following(ctx), work)
    try:
        _add_branches(ctx, tx, rec, work)
    finally:
        ctx.continuation = outer
    return _forwarded(ctx, tx, work)


def _refused(ctx: Context, tx: Transaction, rec: Record) -> int:
    """The internal error for a transaction that may not be forwarded any more, or 0."""
    if rec.code >= 200 and not rec.flags & REPLICATED:  # a copy may follow the reply
        return E_NO_DESTINATION
    if rec.flags & (CANCELLED | NO_NEW_BRANCHES):
        if not rec.branches and ctx.route_kind is not RouteKind.FAILURE and not rec.flags & NOT_RELAYED:
            server_transaction.send_reply(ctx, tx, rec, 487, "Request Terminated")
            commit(tx)
        return E_NO_DESTINATION
    return 0


def _forwarded(ctx: Context, tx: Transaction, work: Forwarding) -> int:
    """All destinations have been looked at: the branches become the transaction's, and are sent."""
    if not (tx.new or tx.depth):  # a wait has stored the new transaction; from here on it is held like any other
        hold(tx)
    rec = tx.record
    if rec is None:
        return E_NO_DESTINATION
    rec.flags &= ~PARKED
    # a CANCEL may have come, or a reply to an earlier branch, while a branch waited
    refused = _refused(ctx, tx, rec)
    if refused:
        return refused
    first = len(rec.branches)
    now = this.clock.now()
    for branch in work.made[: MAX_BRANCHES - first]:
        if first != work.first:  # others have taken the numbers while it waited (t_inject_branches)
            _number(branch, identity.branch_id(tx.key, len(rec.branches)))
        machine.branch_started(rec, branch, now)
        rec.branches.append(branch)
    if RECORD_FLAGS in ctx.slots:
        rec.flags |= ctx.slots[RECORD_FLAGS]
    if not work.made:
        return work.error or E_NO_DESTINATION
    ctx.branches = []
    failing = ctx.route_kind is RouteKind.FAILURE
    if failing:
        rec.first = first
    kept = rec.on_failure is not None or hooks.keep_avps_for_replies or rec.context or hooks.branches_come_later
    if kept and not failing and not work.later:  # what a failure route has changed is for its own branches (failure.keep)
        server_transaction.keep_rport(ctx)
        rec.context = ctx.freeze()
    return _send(tx, rec, first)


def _number(branch: UacBranch, via: str) -> None:
    """Give a branch its number."""
    if branch.via != via:
        branch.sent = branch.sent.replace(branch.via.encode(), via.encode(), 1)
        branch.via = via


def _no_cancel(ctx: Context) -> bool:
    """Whether the caller wants no branch cancelled when another one answers (RFC 3841 9.1)."""
    return any(value.strip().lower() == "no-cancel" for value in ctx.msg.values("request-disposition"))


def inject(ctx: Context, tx: Transaction, rec: Record, cancel: bool) -> int:
    """Add the destinations of ``ctx``, which is over the request of a held transaction, while others may be under way.

    ``cancel``: those are cancelled. 1 sent, -2 the transaction has been answered, -3 nothing could be sent.
    """
    if rec.code >= 200:
        return -2
    if rec.flags & (CANCELLED | NO_NEW_BRANCHES):
        return -3
    first = len(rec.branches)
    ctx.continuation = Injected()
    work = Forwarding(0, None, [_own_branch(ctx), *ctx.branches], made_here=False, later=True)
    error = _fork(ctx, tx, rec, work)
    current = tx.record
    if cancel and current is not None:
        now = this.clock.now()
        for branch in current.branches[:first]:
            if not branch.flags & PHONY:
                machine.cancel_branch(current, branch, machine.COMPLETED_ELSEWHERE, now, tx.out)
        commit(tx)
    return -3 if error else 1


def start(ctx: Context, tx: Transaction, rec: Record) -> int:
    """Send a request that was made here; ``tx`` is held. 0, or the number of an internal error. It has one branch only."""
    server_transaction.take_over_routes(ctx, rec)
    rec.on_branch = None
    return _fork(ctx, tx, rec, Forwarding(0, None, [_own_branch(ctx)], made_here=False))


def _add_branches(ctx: Context, tx: Transaction, rec: Record, work: Forwarding) -> None:
    """Make a branch of each destination. Whatever waits here (names, branch routes) does so without holding the transaction."""
    route = None if rec.on_branch is None else this.program.route(RouteKind.BRANCH, rec.on_branch)
    while work.targets:
        if len(rec.branches) + len(work.made) >= MAX_BRANCHES:
            work.error = E_TOO_MANY_BRANCHES
            return
        target = work.targets[0]
        if route is None:
            _add(work, _branch(ctx, tx, rec, target, work))
        else:
            _add(work, _branch_through_route(ctx, tx, rec, target, work, route))


def _add(work: Forwarding, branch: UacBranch | int) -> None:
    """The first of the destinations to come is done with."""
    del work.targets[0]
    if isinstance(branch, int):
        work.error = branch
    else:
        work.made.append(branch)


def _own_branch(ctx: Context) -> Branch:
    """The destination that stands in the context itself."""
    socket = ctx.send_socket
    return Branch(ctx.ruri, ctx.dst_uri, ctx.path, ctx.q, ctx.branch_flags, None if socket is None else socket.name)


def _branch(ctx: Context, tx: Transaction, rec: Record, target: Branch, work: Forwarding) -> UacBranch | int:
    next_hop = target.dst_uri or target.uri
    hop = work.proxy or destinations.hop_of_uri(next_hop)
    if hop is None:
        return E_BAD_URI
    forced = None if target.socket is None else destinations.forced_for(work.proxy, this.sockets_by_name[target.socket])
    found = destinations.known_destinations(hop, forced, ctx.socket, getrandbits(32))
    if found is None:
        # those of the destinations to come are looked up at the same time
        others = (destinations.hop_of_uri(other.dst_uri or other.uri) for other in work.targets[1:])
        found = destinations_of(ctx, hop, forced, getrandbits(32), others=[other for other in others if other is not None])
    if not found:
        return E_BAD_ADDRESS
    ip, port, sock = found[0]
    via = identity.branch_id(tx.key, len(rec.branches) + len(work.made))
    edits = ctx.msg.edits
    if rec.kept is not None and callbacks.wanted(rec, callbacks.When.REQUEST_OUT):
        ctx.msg.edits = list(edits)  # what callbacks change is for this branch
        number = len(rec.branches) + len(work.made)
        callbacks.tell(callbacks.When.REQUEST_OUT, tx, rec, message=ctx.msg, branch=number, ctx=ctx, socket=sock)
    sent = msg_translator.forwarded(ctx, target.uri, sock, via, target.path, rec.headers)
    if ctx.msg.edits is not edits:
        ctx.msg.edits = edits
    minor = hooks.minor_branch_flag
    return UacBranch(
        uri=target.uri,
        host=ip,
        port=port,
        socket=sock.name,
        via=via,
        sent=sent,
        state=0,
        flags=(MINOR if minor and target.flags & minor else 0) | (0 if sock.proto == "udp" else OVER_STREAM),
        script_flags=target.flags,
        further=_further(ctx, found, work.flags) if len(found) > 1 else None,
    )


def _further(ctx: Context, found: Destinations, flags: int) -> list[Alternative] | None:
    """What is to be tried after the first destination, each with the beginning of our Via if it leaves from another socket."""
    if flags & NO_DNS_FAILOVER or this.program.settings.disable_dns_failover:
        return None
    out = []
    before = found[0].socket
    for ip, port, sock in found[1:]:
        via = "" if sock is before else msg_translator.via_of(ctx, sock)
        out.append(Alternative(ip, port, sock.name, via, sock.proto != "udp"))
        before = sock
    return out


def _branch_through_route(
    ctx: Context, tx: Transaction, rec: Record, target: Branch, work: Forwarding, route: server_transaction.Route
) -> UacBranch | int:
    """Run the branch route over a branch: what it changes holds for this branch alone."""
    run = BranchRun(ctx)
    before = ctx.continuation
    ctx.continuation = BranchRoute(before, run)
    run.begin(target, len(rec.branches) + len(work.made), rec.on_branch or "")
    tx.branch_reply_route = None
    try:
        run_guarded(ctx, route)
        return _branch_of_route(ctx, tx, rec, work)
    finally:
        ctx.continuation = before
        run.end()


def _branch_of_route(ctx: Context, tx: Transaction, rec: Record, work: Forwarding) -> UacBranch | int:
    """The branch that a branch route has left behind."""
    if ctx.dropped:
        return E_UNSPEC
    branch = _branch(ctx, tx, rec, _own_branch(ctx), work)
    if not isinstance(branch, int):
        branch.on_reply = tx.branch_reply_route
        branch.avps = ctx.slots.pop("tm.bavp", None)
    return branch


def _send(tx: Transaction, rec: Record, first: int) -> int:
    """Store the new branches, then send them, each to the first of its servers that can be sent to. 0 when one went out."""
    if not commit(tx):
        return -1
    refused = _unsent(tx, rec, range(first, len(rec.branches)))
    while refused:
        with tx as held:
            if held is None:
                return E_SEND
            for n in refused:
                machine.send_failed(held, n, this.clock.now(), [])
            again = [n for n in refused if held.branches[n].state == Uac.CALLING]
            if all(branch.code == SEND_FAILED for branch in held.branches[first:]):
                del held.branches[first:]
                held.first = min(held.first, max(first - 1, 0))
                commit(tx)
                return E_SEND
            commit(tx)
            refused = _unsent(tx, held, again)
    return 0


def _unsent(tx: Transaction, rec: Record, numbers: Sequence[int]) -> list[int]:
    """Send branches; gives those that cannot be sent."""
    out = []
    for n in numbers:
        branch = rec.branches[n]
        send = this.send_open if branch.script_flags & tuning.open_branch_flag else this.send
        socket = this.sockets_by_name[branch.socket]
        if not send(socket, branch.sent, branch.host, branch.port):
            out.append(n)
        elif rec.kept is not None:
            callbacks.sent(tx, rec, socket, branch.sent, branch.host, branch.port)
    return out


class Relay(TransactionRoute):
    """t_relay() that waits, for a name for example: the script goes on after it.

    In another process: the branches are made and sent, or the caller gets an error; the script's rest is lost.
    """

    kind = "relay"
    in_line = True

    def __init__(self, outer: TransactionRoute, work: Forwarding) -> None:
        self.outer = outer
        """What follows the route that has called t_relay()."""
        self.work = work

    def freeze(self) -> bytes:
        return msgspec.msgpack.encode((continuations.pack(self.outer), self.work))

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        outer, work = msgspec.msgpack.decode(state, type=tuple[bytes, Forwarding])
        follows = continuations.unpack(outer)
        assert isinstance(follows, TransactionRoute)
        return cls(follows, work)

    def mark(self, ctx: Context, rec: Record) -> None:
        self.outer.mark(ctx, rec)

    def unmark(self, ctx: Context, rec: Record) -> None:
        self.outer.unmark(ctx, rec)

    def resume(self, ctx: Context) -> bool:
        return self.outer.resume(ctx)

    def end(self, ctx: Context) -> None:
        tx: Transaction = ctx.tx
        code = RETURN_CODES[E_NO_DESTINATION]
        with tx as rec:
            ctx.continuation = self
            if rec is not None:
                self.outer.unmark(ctx, rec)
                _add_branches(ctx, tx, rec, self.work)
                code = outcome(ctx, tx, self.work, _forwarded(ctx, tx, self.work))
        ctx.continuation = self.outer
        if code < 0:
            self.outer.give_up(ctx, 500, "Server Internal Error")
        else:
            self.outer.end(ctx)

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        self.outer.give_up(ctx, code, reason)


class BranchRoute(Relay):
    """A branch route that is suspended: t_relay() waits for it, and looks at its other destinations afterwards."""

    kind = "branch"

    def __init__(self, outer: Relay, run: BranchRun) -> None:
        super().__init__(outer.outer, outer.work)
        self.run = run

    def freeze(self) -> bytes:
        return msgspec.msgpack.encode((super().freeze(), self.run.freeze()))

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        relay_state, run = msgspec.msgpack.decode(state, type=tuple[bytes, bytes])
        thawed = Relay.thaw(relay_state)
        assert isinstance(thawed, Relay)
        return cls(thawed, BranchRun.thaw(run))

    def resume(self, ctx: Context) -> bool:
        if not self.outer.resume(ctx):
            return False
        self.run.show(ctx)
        return True

    def end(self, ctx: Context) -> None:
        tx: Transaction = ctx.tx
        with tx as rec:
            if rec is not None:
                ctx.continuation = self
                _add(self.work, _branch_of_route(ctx, tx, rec, self.work))
        self.run.end()
        super().end(ctx)
