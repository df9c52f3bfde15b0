"""A request that could not be delivered (RFC 3261 17.1.4): it goes to the next server of its name, or its branch ends as if a
477 had come.

Connections tell this when the request's sender has long gone on, in the process that owns the connection. Which
branch it was stands in the request itself: in our Via.
"""

from __future__ import annotations

from opensips_py.engine.unsettled import unsettled
from opensips_py.net.tcp import is_reply
from opensips_py.server.guard import report_error
from opensips_py.server.log import NOTICE, log
from opensips_py.server.process import this
from opensips_py.sip.message import reread
from opensips_py.tm import failure_route, identity, machine
from opensips_py.tm.states import Uac
from opensips_py.tm.transaction import Transaction, commit


def not_sent(data: bytes) -> None:
    """``data`` was not delivered. Does nothing for a reply, an ACK, a CANCEL and what belongs to no transaction."""
    if is_reply(data):
        log(NOTICE, "core", "tcp_send", f"a reply was not delivered: {_shown(data)}")
        return
    msg = reread(data)
    name = identity.of_branch_id(msg.via.branch or "")
    if name is None:
        return
    try:
        _end_branch(*name, msg.method, msg.via.branch or "")
    except Exception as error:
        report_error(error, "transport error")


def _shown(data: bytes) -> str:
    """A reply in a line of the log: status, Call-ID, and whom its topmost Via names."""
    msg = reread(data)
    status = data[8:].partition(b"\r\n")[0].decode("latin-1")
    return f"{status}, Call-ID {msg.call_id}, for {msg.via.sent_by}"


def _end_branch(key: bytes, n: int, method: str, via: str) -> None:
    tx = Transaction(key)
    with tx as rec:
        if rec is None:
            return
        if rec.method != method or n >= len(rec.branches) or rec.branches[n].state != Uac.CALLING:
            return
        if rec.branches[n].via != via:  # it has gone on to another server of its name
            return
        now = this.clock.now()
        outcome = machine.send_failed(rec, n, now, tx.out)
        if outcome >= 0:
            failure_route.all_failed(tx, rec, outcome, now)
        commit(tx)
        unsettled.clear()  # set if a failure route has waited in line
