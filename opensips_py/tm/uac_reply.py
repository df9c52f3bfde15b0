"""Replies to requests that were made here: who is told, in whichever process they arrive.

A request made here may carry a *notice*: the name of a handler and some bytes for it. Of the final reply (and of provisional
ones, if the notice says so) a row is stored in the same batch as the transaction's new state. Whoever writes its name into
the row runs the handler and deletes the row, so each reply is told once, or again if the process dies over its handler:

- a notice for any process is run by the one that got the reply;
- a notice for one process (somebody waits there) is run by that one, which hears of the row over the control channel;
- rows that are left because a process died are found by the timer process (:func:`sweep`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ipc.prefixes import prefix
from ipc.store import StoreError
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, reread
from opensips_py.tm import callbacks, machine
from opensips_py.tm.record import Notice, Record
from opensips_py.tm.server_transaction import hooks
from opensips_py.tm.transaction import Transaction

PREFIX = prefix(b"q", "reply to a request made here, until somebody has been told of it", __name__)
"""Begins the key of a row: then the transaction's 8 bytes and the status in 2."""
SWEEP_SECONDS = 1.0
"""How often the timer process looks for rows that are left."""

PHRASES = {408: "Request Timeout", 477: "Send failed (477/TM)", 487: "Request Terminated", 500: "Server Internal Error"}
"""Reason phrases of replies that the transaction layer makes by itself."""


class Outcome(msgspec.Struct, array_like=True):
    """A reply to a request made here."""

    code: int
    reply: bytes
    """As received; empty for one made here (408 when nothing has come)."""
    notice: Notice
    runner: tuple[int, int] | None = None
    """Slot and incarnation of the process that runs the handler."""

    @property
    def message(self) -> SipMessage | None:
        """The reply, None when it was made here."""
        return reread(self.reply) if self.reply else None

    @property
    def status(self) -> str:
        """Status and phrase: ``404 Not Found``."""
        message = self.message
        return f"{self.code} {PHRASES.get(self.code, '') if message is None else message.reason}"


Handler = Callable[[bytes, Outcome], None]
"""``handler(state, outcome)``: ``state`` is that of the notice."""

handlers: dict[str, Handler] = {}

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Outcome).decode


def handler(name: str) -> Callable[[Handler], Handler]:
    """Declare a handler under the name that notices use. It has to be declared in every process (at import)."""

    def declare(call: Handler) -> Handler:
        handlers[name] = call
        return call

    return declare


def local_reply(tx: Transaction, rec: Record, code: int, reply: bytes, now: float) -> None:
    """A reply to the request of a held transaction that has nobody upstream. The caller commits, and releases."""
    if code >= 200:
        if rec.kept is not None and rec.code < 200:
            message = reread(reply) if reply else None
            callbacks.tell(callbacks.When.COMPLETED, tx, rec, code=code, message=message, local=message is None)
        machine.ended_here(rec, code, now)
    hooks.answered(code, not reply)
    notice = rec.notice
    if notice is not None and (code >= 200 or notice.provisional):
        tx.told.append((PREFIX + tx.key[1:] + code.to_bytes(2, "big"), _encode(Outcome(code, reply, notice))))


def tell(key: bytes, _value: bytes = b"") -> None:
    """Run the handler of a row here, or have the process that it is for do so."""
    value = this.store.get(key)
    if value is None:
        return
    outcome = _decode(value)
    notice = outcome.notice
    wanted = (notice.slot, notice.incarnation)
    if outcome.runner is not None and _lives(*outcome.runner):
        return
    if notice.slot < 0 or wanted == (this.slot, this.incarnation):
        take(key)
    elif _lives(*wanted):
        this.control.send_to(notice.slot, "local_reply", {"key": key})
    else:
        this.store.delete(key)


def _lives(slot: int, incarnation: int) -> bool:
    return bool(this.counters.status(slot).incarnation == incarnation)


def take(key: bytes) -> None:
    """Run the handler of a row, unless somebody else does or has done so."""
    with this.store.batch() as batch:
        value = batch.get(key)
        if value is None:
            return
        outcome = _decode(value)
        if outcome.runner is not None and _lives(*outcome.runner):
            return
        outcome.runner = (this.slot, this.incarnation)
        batch.put(key, _encode(outcome))
    _run(outcome)
    this.store.delete(key)


def _run(outcome: Outcome) -> None:
    call = handlers.get(outcome.notice.handler)
    if call is None:
        log(ERROR, "tm", "local_reply", f"nobody is there to be told of a reply: {outcome.notice.handler}")
        return
    try:
        call(outcome.notice.state, outcome)
    except Exception as error:
        report_error(error, f"reply to a local request, {outcome.notice.handler}")


def sweep() -> None:
    """Tell of what was left by processes that died before they could. For the timer process."""
    for key, _ in this.store.scan(PREFIX):
        try:
            tell(key)
        except StoreError:
            raise
        except Exception as error:  # of one row: the others wait behind it
            report_error(error, "reply to a local request")
            this.store.delete(key)
