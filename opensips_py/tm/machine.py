"""What each event does to a transaction: functions of (record, event, now), without I/O.

Each function changes the record that it is given and appends what is to be sent to ``out``; nothing is sent before
the caller has committed the changed record. ``now`` is this.clock.now(). Which state follows which stands in
:mod:`opensips_py.tm.states`.
"""

from __future__ import annotations

from opensips_py.sip.message import SipMessage
from opensips_py.tm import failover, messages
from opensips_py.tm.picking import SEND_FAILED, pick
from opensips_py.tm.record import (
    CANCEL_WANTED,
    CANCELLED,
    KEEP_BRANCHES,
    LOCAL_REPLY,
    LOCAL_SUCCESS,
    NEVER,
    NO_NEW_BRANCHES,
    OVER_STREAM,
    PARKED,
    PHONY,
    RECEIVED,
    RELIABLE,
    REPLIED_HERE,
    SILENT,
    Record,
    UacBranch,
)
from opensips_py.tm.settings import settings
from opensips_py.tm.states import EVENT_OF_CLASS, UAC_INVITE, UAC_NON_INVITE, UAS_INVITE, UAS_NON_INVITE, Event, Ignored, Uac, Uas

Send = tuple[str, bytes, str, int]
"""(name of the socket, datagram, host, port)"""

RELAY = -1
"""Pass this reply upstream."""
ABSORB = -2
"""Nothing goes upstream. (A number >= 0 is the branch whose final reply has won.)"""

ORIGINATOR_CANCEL = 'SIP;cause=487;text="ORIGINATOR_CANCEL"'
NO_ANSWER = 'SIP;cause=480;text="NO_ANSWER"'
COMPLETED_ELSEWHERE = 'SIP ;cause=200 ;text="Call completed elsewhere"'

TIMEOUT_CODE = 408
CANCELLED_CODE = 487
SERVER_ERROR = 500

CHALLENGES = (401, 407)
"""Relayed without being repeated until the ACK comes: who floods us with INVITEs is not to be helped (RFC 3261 26.3.2.4)."""


def _move(rec: Record, event: Event) -> bool:
    """Bring the server transaction into the state that follows; False, and counted, when this one does not allow the event."""
    state = (UAS_INVITE if rec.method == "INVITE" else UAS_NON_INVITE).get((rec.state, event))
    if state is None:
        Ignored.count(event)
        return False
    rec.state = state
    return True


def _move_branch(rec: Record, branch: UacBranch, event: Event) -> bool:
    """The same for a client transaction."""
    state = (UAC_INVITE if rec.method == "INVITE" else UAC_NON_INVITE).get((branch.state, event))
    if state is None:
        Ignored.count(event)
        return False
    branch.state = state
    return True


def replied(rec: Record, code: int, data: bytes, now: float, *, local: bool) -> bool:
    """``data`` goes upstream as the reply to the request (RFC 3261 17.2). ``local``: made here, not relayed.

    False, and nothing changes, when a final reply has gone upstream and the state allows no other: then it must not be sent.
    """
    invite = rec.method == "INVITE"
    before, event = rec.state, EVENT_OF_CLASS[code // 100]
    state = (UAS_INVITE if invite else UAS_NON_INVITE).get((before, event))  # as _move(), without a call
    if state is None:
        Ignored.count(event)
        if rec.code >= 200:
            return False
    else:
        rec.state = state
    rec.code = code
    rec.reply = data
    rec.repeated_at = 0.0
    rec.flags = rec.flags | REPLIED_HERE if local else rec.flags & ~REPLIED_HERE
    if code < 200:
        return True
    end_waiting(rec)
    if not invite or (not local and (code < 300 or code in CHALLENGES)):
        if before != Uas.ACCEPTED or rec.end_at == NEVER:  # a repeated 2xx does not start timer L again
            rec.end_at = now + _linger(rec)
        return True
    if code < 300:
        rec.flags |= LOCAL_SUCCESS  # 13.3.1.4: repeated until its ACK arrives over whatever transport
    if code < 300 or not rec.flags & RELIABLE:
        rec.interval = settings.t1
        rec.retransmit_at = now + settings.t1
    rec.end_at = now + settings.fr_timeout
    return True


def ended_here(rec: Record, code: int, now: float) -> None:
    """The final reply to a request made here has come, or has been made up: nobody upstream gets it."""
    _move(rec, Event.ENDED_HERE)
    rec.code = code
    rec.end_at = now + settings.wt_timer
    end_waiting(rec)


def acknowledged(rec: Record, now: float) -> None:
    """The ACK for our final reply to an INVITE has arrived (17.2.1; 13.3.1.4 for a 2xx made here)."""
    if not _move(rec, Event.ACK):
        return
    rec.retransmit_at = NEVER
    rec.end_at = now + _linger(rec)


def _linger(rec: Record) -> float:
    """How long a completed transaction absorbs what is repeated: timers I, J, K are zero where nothing is (17.2.1, 17.2.2).

    What is downstream counts too: a reply that is repeated there has to be acknowledged, or kept from going upstream.
    """
    if rec.flags & RELIABLE and not rec.flags & LOCAL_SUCCESS:
        accepted = rec.method == "INVITE" and rec.code < 300  # RFC 6026: the Accepted state lasts over any transport
        if not accepted and all(branch.flags & OVER_STREAM for branch in rec.branches):
            return 0.0
    if rec.method == "INVITE" and rec.code < 300 and not rec.flags & LOCAL_SUCCESS:
        return settings.accepted_timer  # until the ACK passes: a 2xx that gets lost is repeated by the callee
    return settings.wt_timer


def released(rec: Record, now: float) -> None:
    """The script has ended without replying or relaying: absorb retransmissions for a while, then forget."""
    _move(rec, Event.RELEASED)
    rec.end_at = now + settings.wt_timer


def branch_started(rec: Record, branch: UacBranch, now: float) -> None:
    """A copy of the request is sent: timers A/E and B/F start (17.1.1.2, 17.1.2.2)."""
    if not branch.flags & OVER_STREAM:
        branch.interval = settings.t1
        branch.retransmit_at = now + settings.t1
    branch.fr_at = now + rec.fr


def waiting(now: float, seconds: float, socket: str) -> UacBranch:
    """A branch without a request, which ends after ``seconds``."""
    return UacBranch(
        uri="", host="", port=0, socket=socket, via="", sent=b"", state=Uac.CALLING, flags=PHONY, fr_at=now + seconds
    )


def end_waiting(rec: Record) -> None:
    """Nothing is waited for any more: a final reply has gone upstream, or nobody will add a branch."""
    for branch in rec.branches:
        if branch.flags & PHONY and branch.state < Uac.COMPLETED:
            _move_branch(rec, branch, Event.GIVEN_UP)
            _stop(branch)


def reply_received(rec: Record, n: int, code: int, reply: SipMessage, relayed: bytes, now: float, out: list[Send]) -> int:
    """A reply came on branch ``n``; ``relayed`` is its form for upstream (a final negative one is kept until picking).

    Returns RELAY, ABSORB, or the number of the branch that has won (RFC 3261 16.7).
    """
    branch = rec.branches[n]
    invite = rec.method == "INVITE"
    before, event = branch.state, EVENT_OF_CLASS[code // 100]
    state = (UAC_INVITE if invite else UAC_NON_INVITE).get((before, event))  # as _move_branch(), without a call
    if state is None:
        Ignored.count(event)
        return ABSORB
    branch.state = state
    branch.flags |= RECEIVED
    if code < 200:
        return _provisional(rec, branch, code, invite, now, out)
    if code < 300:
        branch.code = code
        _stop(branch)
        if not invite:
            return RELAY if rec.code < 200 else ABSORB
        if before == Uac.ACCEPTED or rec.code >= 300:
            return RELAY
        if not rec.flags & KEEP_BRANCHES:
            cancel_branches(rec, n, COMPLETED_ELSEWHERE, now, out)
        return RELAY
    if invite:
        out.append((branch.socket, messages.ack(branch.sent, reply, rec.headers), branch.host, branch.port))
    if before >= Uac.COMPLETED:
        return ABSORB
    branch.code = code
    branch.reply = relayed
    _stop(branch)
    if rec.code >= 200:
        return ABSORB
    return _negative(rec, n, now, out)


def _provisional(rec: Record, branch: UacBranch, code: int, invite: bool, now: float, out: list[Send]) -> int:
    last = branch.code
    branch.code = code
    if not invite and branch.flags & OVER_STREAM:
        pass  # nothing is repeated
    elif not invite:
        branch.interval = settings.t2
        branch.retransmit_at = now + settings.t2
    else:
        branch.retransmit_at = NEVER
        if branch.cancel:
            pass  # the wait for its final reply has a limit of its own
        elif settings.restart_fr_on_each_reply or last == 0 or (code > last and code >= 180):
            branch.fr_at = now + rec.fr_inv
        if branch.flags & CANCEL_WANTED:
            _cancel(rec, branch, None, now, out)
    return RELAY if code > 100 and rec.code < 200 else ABSORB


def _negative(rec: Record, n: int, now: float, out: list[Send]) -> int:
    """Branch ``n`` has ended with a negative reply: is that the end of the whole (16.7 steps 5 and 6)?"""
    if rec.branches[n].code >= 600 and not settings.disable_6xx_block:
        rec.flags |= NO_NEW_BRANCHES
        cancel_branches(rec, n, None, now, out)
        return n if rec.failing < 0 else ABSORB
    if rec.failing >= 0:  # a minor branch: what follows is up to the failure route that is suspended
        return ABSORB
    winner = pick(rec.branches, bool(rec.flags & CANCELLED), rec.first)
    if winner is None:
        return ABSORB
    again = failover.to_go_on(rec, winner)
    if again is None:
        return winner
    branch = failover.next_branch(rec, again)
    branch_started(rec, branch, now)
    rec.branches.append(branch)
    out.append((branch.socket, branch.sent, branch.host, branch.port))
    return ABSORB


def finish_minor(rec: Record, now: float, out: list[Send]) -> None:
    """All that counts has ended: branches that are not waited for are cancelled."""
    cancel_branches(rec, -1, None, now, out)


def send_failed(rec: Record, n: int, now: float, out: list[Send]) -> int:
    """Branch ``n`` could not be sent (17.1.4): to the next server of its name, else it counts as answered with 477 here."""
    branch = rec.branches[n]
    wanted = rec.code < 200 and not (rec.flags & CANCELLED or branch.flags & CANCEL_WANTED)
    if branch.further and wanted and branch.state == Uac.CALLING:
        _move_branch(rec, branch, Event.NEXT_SERVER)
        failover.redirect(branch)
        branch_started(rec, branch, now)
        out.append((branch.socket, branch.sent, branch.host, branch.port))
        return ABSORB
    if not _move_branch(rec, branch, Event.TRANSPORT_ERROR):
        return ABSORB
    branch.code = SEND_FAILED
    branch.flags |= LOCAL_REPLY
    _stop(branch)
    if rec.code >= 200:
        return ABSORB
    return _negative(rec, n, now, out)


def cancel_received(rec: Record, reason: str | None, now: float, out: list[Send]) -> int:
    """The caller cancels (9.2, 16.10). ``reason``: Reason header to send along.

    Returns ABSORB, or the number of the branch that has won: when nothing is pending but a wait for branches.
    """
    rec.flags |= CANCELLED
    if rec.code >= 200:
        return ABSORB
    cancel_branches(rec, -1, reason, now, out)
    pending = [n for n, branch in enumerate(rec.branches) if branch.state < Uac.COMPLETED]
    if rec.failing >= 0 or not pending or not all(rec.branches[n].flags & PHONY for n in pending):
        return ABSORB
    last = rec.branches[pending[-1]]
    _move_branch(rec, last, Event.GIVEN_UP)
    last.code = CANCELLED_CODE
    last.flags |= LOCAL_REPLY
    _stop(last)
    return _negative(rec, pending[-1], now, out)


def cancel_branches(rec: Record, but: int, reason: str | None, now: float, out: list[Send]) -> None:
    """Cancel every pending branch except number ``but``."""
    if rec.method != "INVITE":  # 9.1: only an INVITE can be cancelled
        return
    for n, branch in enumerate(rec.branches):
        if n != but and branch.state < Uac.COMPLETED and not branch.flags & PHONY:
            cancel_branch(rec, branch, reason, now, out)


def cancel_branch(rec: Record, branch: UacBranch, reason: str | None, now: float, out: list[Send]) -> None:
    """Cancel a branch: at once when it has a provisional reply, else when one arrives (9.1)."""
    if branch.cancel or branch.state >= Uac.COMPLETED:
        return
    if branch.state == Uac.PROCEEDING:
        _cancel(rec, branch, reason, now, out)
    else:
        branch.flags |= CANCEL_WANTED


def abandon(rec: Record, branch: UacBranch, now: float, out: list[Send]) -> None:
    """End a branch whatever has become of it; one that rings is cancelled."""
    rings = rec.method == "INVITE" and branch.state == Uac.PROCEEDING and not branch.cancel
    branch.held = 0
    branch.further = None
    if branch.state < Uac.COMPLETED:
        _move_branch(rec, branch, Event.GIVEN_UP)
        branch.code = SERVER_ERROR
        branch.flags |= LOCAL_REPLY
    _stop(branch)
    if rings:
        out.append((branch.socket, messages.cancel(branch.sent, None, rec.headers), branch.host, branch.port))


def _cancel(rec: Record, branch: UacBranch, reason: str | None, now: float, out: list[Send]) -> None:
    branch.flags &= ~CANCEL_WANTED
    branch.cancel = messages.cancel(branch.sent, reason, rec.headers)
    if not branch.flags & OVER_STREAM:
        branch.cancel_interval = settings.t1
        branch.cancel_at = now + settings.t1
    branch.cancel_until = branch.fr_at = now + settings.fr_timeout
    out.append((branch.socket, branch.cancel, branch.host, branch.port))


def held_back(rec: Record, n: int, code: int) -> None:
    """A reply to branch ``n`` has come but is not processed yet: its onreply route is suspended. The request has arrived."""
    branch = rec.branches[n]
    branch.held = code
    if code >= 200:
        branch.retransmit_at = branch.fr_at = NEVER
    elif rec.method == "INVITE":
        branch.retransmit_at = NEVER


def not_held_back(rec: Record, n: int, code: int, now: float) -> None:
    """It is processed now; when it cannot be after all, the branch must not stay without a timer."""
    branch = rec.branches[n]
    if branch.held == code:
        branch.held = 0
    if code >= 200 and branch.state < Uac.COMPLETED and branch.fr_at == NEVER:
        branch.fr_at = now + rec.fr


def cancel_answered(branch: UacBranch) -> None:
    """A reply to our CANCEL: it need not be repeated."""
    branch.cancel_at = NEVER


def timer_fired(rec: Record, now: float, out: list[Send]) -> int:
    """Do whatever is due. Returns ABSORB or the number of the branch that has won."""
    winner = ABSORB
    for n, branch in enumerate(rec.branches):
        if branch.retransmit_at <= now:
            out.append((branch.socket, branch.sent, branch.host, branch.port))
            branch.interval = min(2 * branch.interval, settings.t2)
            branch.retransmit_at = _next(branch.retransmit_at, branch.interval, now)
        if branch.cancel_at <= now:
            if branch.cancel_until <= now:
                branch.cancel_at = NEVER
            else:
                out.append((branch.socket, branch.cancel, branch.host, branch.port))
                branch.cancel_interval = min(2 * branch.cancel_interval, settings.t2)
                branch.cancel_at = _next(branch.cancel_at, branch.cancel_interval, now)
        if branch.fr_at <= now:
            outcome = _timed_out(rec, n, branch, now, out)
            if outcome >= 0:
                winner = outcome
    if rec.retransmit_at <= now:
        out.append((rec.socket, rec.reply, rec.reply_host, rec.reply_port))
        rec.interval = min(2 * rec.interval, settings.t2)
        rec.retransmit_at = _next(rec.retransmit_at, rec.interval, now)
    if rec.end_at <= now and winner == ABSORB and rec.failing < 0:
        limit = max((b.fr_at for b in rec.branches if b.state < Uac.COMPLETED), default=now)
        if now < limit < NEVER:
            rec.end_at = limit  # a cancelled branch still owes its final reply, which must be acknowledged
            rec.retransmit_at = NEVER
        else:
            if rec.state != Uas.TERMINATED:
                _move(rec, Event.TIMEOUT)
            rec.retransmit_at = NEVER
    return winner


def _timed_out(rec: Record, n: int, branch: UacBranch, now: float, out: list[Send]) -> int:
    """Timers B, C and F: as if a 408 had come (16.8, 8.1.3.1)."""
    rings = branch.state == Uac.PROCEEDING
    if not _move_branch(rec, branch, Event.TIMEOUT):
        branch.fr_at = NEVER
        return ABSORB
    if rec.method == "INVITE" and rings and not branch.cancel:
        _cancel(rec, branch, NO_ANSWER, now, out)
    branch.fr_at = branch.retransmit_at = NEVER
    branch.code = TIMEOUT_CODE
    branch.flags |= LOCAL_REPLY if rings or branch.flags & CANCEL_WANTED else LOCAL_REPLY | SILENT
    if rec.code >= 200:
        return ABSORB
    return _negative(rec, n, now, out)


def _stop(branch: UacBranch) -> None:
    branch.retransmit_at = branch.fr_at = branch.cancel_at = NEVER
    branch.flags &= ~CANCEL_WANTED


def _next(due: float, interval: float, now: float) -> float:
    """The next tick, on the grid of the first one unless the timer process is far behind."""
    following = due + interval
    return following if following > now else now + interval


def update_deadline(rec: Record) -> None:
    """Bring ``deadline`` and ``done`` in line with the timers. To be called after every change."""
    if rec.flags & PARKED:
        rec.deadline, rec.done = NEVER, False
        return
    earliest = rec.retransmit_at
    end_at = rec.end_at if rec.failing < 0 else NEVER
    for b in rec.branches:
        if b.retransmit_at < earliest:
            earliest = b.retransmit_at
        if b.fr_at < earliest:
            earliest = b.fr_at
        if b.cancel_at < earliest:
            earliest = b.cancel_at
    if earliest == NEVER:
        rec.done = end_at != NEVER
        rec.deadline = end_at
    else:
        rec.done = False
        rec.deadline = earliest if earliest < end_at else end_at
