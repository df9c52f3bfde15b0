"""How modules take part in transactions: data that they keep with one, and calls at moments of its life (OpenSIPS: TMCB_*).

A module declares what it keeps with a transaction, as a type, and what is called for those transactions that have it::

    class Call(msgspec.Struct):
        began: float = 0.0

    calls = TransactionData(module, Call)

    @module.function(routes=R)
    def watch_call(ctx: Context) -> int:
        calls.set(ctx, Call(this.clock.now()))          # from here on the callbacks below run for it
        return 1

    @calls.on(When.COMPLETED)
    def report(moment: Moment, call: Call) -> None: ...

The data are the subscription: a transaction without them costs nothing, and one has the callbacks of as many modules as have
data on it. The law:

- **Data** may be given before there is a transaction (they are the message's then, and become the transaction's when it is
  made). They are part of its record: kept while its script is suspended, read and changed by whichever process holds it, deleted
  with it.
- **A callback** runs in the process that makes the change it is told of, with the transaction's lock held and *before* the change
  is stored. What it changes in its data, and what it posts (:meth:`Moment.post`), is stored in one batch with the change: all or
  nothing. Messages are sent after that. A change that could not be stored (the process died, the request was a retransmission
  after all) has not happened; whoever makes it again calls again. So data and posted items follow the change *exactly once*;
  anything else that a callback does (a counter, a line in the log) may happen without the change, or twice.
- It must not wait: the lock is held. What takes time is posted to an :class:`~opensips_py.engine.outbox.Outbox`, which delivers
  it after the commit, in another process if this one dies.
- One that raises is logged; its changes of data and message are undone, and nothing else is affected.
- ``When.SENT`` is the exception to both: it tells of a message after it was sent, and nothing that it changes is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

import msgspec

from ipc.prefixes import prefix
from opensips_py.engine.outbox import Outbox, deliver
from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.guard import report_error
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, reread
from opensips_py.tm import rows
from opensips_py.tm.record import NEVER, Record

T = TypeVar("T")

KEPT = "tm.kept"
"""Slot of a Context: data for the transaction that is still to be made."""
PREFIX = prefix(b"f", "mark of what was posted at once, at a moment of a transaction", __name__)
MARK_SECONDS = 300.0
"""How long a mark is kept: longer than a reply is repeated."""


class When(Enum):
    """Moments in the life of a transaction; in brackets OpenSIPS' name for it."""

    REQUEST_OUT = "request_out"
    """A request is made for a branch; edits of ``message`` hold for this branch alone (TMCB_REQUEST_FWDED)."""
    SENT = "sent"
    """A message of the transaction was sent, for the first time or again: ``data``, ``destination`` (TMCB_MSG_SENT_OUT)."""
    REPLY_IN = "reply_in"
    """A reply to a branch has come and been through the onreply routes; edits of ``message`` go upstream (TMCB_RESPONSE_IN)."""
    REPLY_OUT = "reply_out"
    """A reply goes upstream, relayed or made here; ``message`` may be edited (TMCB_RESPONSE_FWDED, TMCB_RESPONSE_PRE_OUT)."""
    FAILURE = "failure"
    """All branches have failed, ``code`` is the best reply; the failure route, if one is armed, follows (TMCB_ON_FAILURE)."""
    COMPLETED = "completed"
    """The first final reply goes upstream, after REPLY_OUT; for a request made here: it has come (TMCB_RESPONSE_OUT,
    TMCB_LOCAL_COMPLETED). Once in a transaction, unless its script answers nothing and relays nothing."""
    CANCELLED = "cancelled"
    """A CANCEL for it has come: ``message`` (TMCB_TRANS_CANCELLED)."""
    ACK_IN = "ack_in"
    """The ACK for a negative reply, or for a 2xx that was made here, has come: ``message``."""
    DELETED = "deleted"
    """It is deleted, whatever became of it: the last moment of every stored transaction (TMCB_TRANS_DELETED)."""


class Told(Protocol):
    """The transaction that a callback is told of (:class:`opensips_py.tm.transaction.Transaction`)."""

    key: bytes
    told: list[tuple[bytes, bytes]]

    @property
    def request(self) -> SipMessage | None:
        """The request as it was received."""


@dataclass(slots=True)
class Moment:
    """What a callback is told of."""

    when: When
    tx: Told
    record: Record
    """For reading. Data of other modules may be there too."""
    code: int = 0
    """Status of the reply that it is about; 0: there is none."""
    message: SipMessage | None = None
    """The request or reply that it is about; at COMPLETED as it was received. None at FAILURE when the reply was made here, and
    at COMPLETED if nobody gets it."""
    branch: int = -1
    """Number of the branch that it is about; -1: none."""
    local: bool = False
    """The reply was made here (t_reply, 408, 477)."""
    ctx: Context | None = None
    """At REQUEST_OUT: the context of the script that relays."""
    socket: ListenSocket | None = None
    """At REQUEST_OUT and SENT: where it leaves from."""
    data: bytes = b""
    destination: tuple[str, int] = ("", 0)
    _at_once: int = 0
    """How many items were posted at once: when the moment comes again, they come in the same order."""

    @property
    def request(self) -> SipMessage:
        """The request as it was received."""
        request = self.tx.request
        assert request is not None
        return request

    def post(self, box: Outbox[T], item: T) -> None:
        """Have ``item`` delivered once the change is stored."""
        self.tx.told.append(box.row(item))

    def post_at_once(self, box: Outbox[T], item: T) -> None:
        """Have ``item`` delivered before the script goes on: at FAILURE a route follows before the change is stored.

        If the process dies in that route, the same moment comes again; a mark in the store sees to it that each outbox gets its
        items once. The handler runs while the transaction is held, so it must leave other transactions alone.
        """
        self._at_once += 1
        what = f"{self.when.value} {self._at_once} {box.name}"
        mark = PREFIX + self.tx.key[1:] + bytes((self.branch & 0xFF,)) + what.encode()
        row = box.row(item)
        with this.store.batch() as batch:
            if not batch.put_new(mark, b""):
                return
            batch.put(*row)
            batch.put(rows.row(this.clock.now() + MARK_SECONDS, mark), rows.DELETE)
        deliver(*row)


class Subscriber:
    """What a module keeps with transactions, as this layer sees it (:mod:`opensips_py.tm.transaction_data`)."""

    def __init__(self, module: str, name: str, decode: Callable[[bytes], Any]) -> None:
        self.module, self.name, self.decode = module, name, decode
        self.callbacks: dict[When, list[Callable[[Moment, Any], object]]] = {}
        self.begin: Callable[[Context], Any] | None = None
        """Called for every new transaction: what is kept with it."""


declared: dict[str, Subscriber] = {}
"""Everything that modules keep with transactions, by name."""


def with_data(kept: dict[str, bytes] | None, name: str, data: bytes | None) -> dict[str, bytes] | None:
    """The same data with one changed."""
    changed = dict(kept or {})
    changed.pop(name, None)
    if data is not None:
        changed[name] = data
    return changed or None


# --- what the transaction layer calls -------------------------------------------------------------------------------

beginning: list[tuple[str, Callable[[Context], Any]]] = []
"""What is called for every new transaction, with the name under which its data are kept."""


def use(modules: Collection[str]) -> None:
    """The script has these modules: what they have called for every request."""
    beginning[:] = [(d.name, d.begin) for d in declared.values() if d.begin is not None and d.module in modules]


def begin(ctx: Context, rec: Record) -> None:
    """A transaction was made, and is not stored yet; data of the message become its own."""
    rec.kept = ctx.slots.pop(KEPT, None) or None
    for name, call in beginning:
        try:
            value = call(ctx)
        except Exception as error:
            report_error(error, f"{name}, new transaction")
            continue
        if value is not None:
            rec.kept = with_data(rec.kept, name, msgspec.msgpack.encode(value))


def wanted(rec: Record, when: When) -> bool:
    """Whether a callback is to run."""
    for name in rec.kept or ():
        one = declared.get(name)
        if one is not None and when in one.callbacks:
            return True
    return False


def run(moment: Moment) -> None:
    """Run the callbacks of a held (or new) transaction, which has data. The caller commits."""
    rec, when, message = moment.record, moment.when, moment.message
    for name, data in list((rec.kept or {}).items()):
        one = declared.get(name)
        calls = None if one is None else one.callbacks.get(when)
        if one is None or not calls:
            continue
        for call in calls:
            edits = None if message is None else list(message.edits)
            posted = len(moment.tx.told)
            try:
                value = one.decode(data)
                call(moment, value)
                data = msgspec.msgpack.encode(value)
            except Exception as error:
                report_error(error, f"{name}, {when.value} of a transaction")
                del moment.tx.told[posted:]
                if message is not None and edits is not None:
                    message.edits = edits
        if when is not When.SENT and rec.kept is not None and name in rec.kept and rec.kept[name] != data:
            rec.kept = with_data(rec.kept, name, data)


def tell(when: When, tx: Told, rec: Record, **of: Any) -> bool:
    """:func:`run`, with the fields of the moment, if a callback wants to know. Whether one did."""
    if not wanted(rec, when):
        return False
    run(Moment(when, tx, rec, **of))
    return True


def reply_out(
    tx: Told, rec: Record, code: int, data: bytes, *, local: bool, branch: int = -1, received: SipMessage | None = None
) -> bytes:
    """``data`` is about to go upstream as a reply of a held transaction that has data; the reply that goes instead.

    ``received``: what it was made of, if that is at hand, so that it need not be read again.
    """
    if wanted(rec, When.REPLY_OUT):
        message = reread(data)
        run(Moment(When.REPLY_OUT, tx, rec, code, message, branch, local))
        if message.edits:
            data = message.serialise()
    if code >= 200 and rec.code < 200 and wanted(rec, When.COMPLETED):
        message = reread(data) if received is None else received
        run(Moment(When.COMPLETED, tx, rec, code, message, branch, local))
    return data


@dataclass(slots=True)
class _Cancel:
    """A CANCEL without a transaction of its own; what is posted is stored with the INVITE's."""

    key: bytes
    told: list[tuple[bytes, bytes]]
    request: SipMessage | None


def cancel_answered(ctx: Context, invite: Told, data: bytes) -> None:
    """A CANCEL, whose message has data, is answered with ``data`` without a transaction of its own: it is completed."""
    kept, source = ctx.slots.pop(KEPT), ctx.source
    rec = Record(
        deadline=NEVER,
        done=True,
        method=ctx.msg.method,
        state=0,
        raw=ctx.msg.raw,
        ip=source.ip,
        port=source.port,
        socket=ctx.socket.name,
        reply_host="",
        reply_port=0,
        to_tag="",
        kept=kept,
    )
    tell(When.COMPLETED, _Cancel(invite.key, invite.told, ctx.msg), rec, code=200, message=reread(data), local=True)


def sent(tx: Told, rec: Record, socket: ListenSocket, data: bytes, host: str, port: int) -> None:
    """A message of a transaction that has data was sent."""
    if wanted(rec, When.SENT):
        run(Moment(When.SENT, tx, rec, data=data, socket=socket, destination=(host, port)))
