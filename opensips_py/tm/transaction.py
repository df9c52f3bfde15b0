"""One transaction as a process sees it: loading it, holding it, committing changes.

``Context.tx`` is a :class:`Transaction`. Its record is the truth in three cases: it is *new* (nobody else can see it
yet), or it is *held* (this process has its lock), or it was only looked at. Every change follows one pattern::

    with tx as rec:                 # lock and load; at once for a new one
        if rec is None:             # it is gone
            return
        ... change rec, append to tx.out ...
        commit(tx)                  # one batch: record, timer row, index; then send tx.out

So a killed process leaves either the old or the new state, and a message is never sent from a state that is not stored.

The lock is let go at the end of the outermost block, also by an exception; what was to be sent and told is forgotten then, as it
is when the commit fails. A transaction that stays held between two calls (a failure route that goes on until it waits again) is
held with :func:`hold` and :func:`release`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ipc.store import StoreError
from opensips_py.engine.unsettled import unsettled
from opensips_py.server.guard import report_error
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, note_source, reread
from opensips_py.tm import callbacks, identity, machine, rows
from opensips_py.tm.record import LOCAL_SUCCESS, NEVER, OPEN_ONLY, RELIABLE, RESTORE_CSEQ, Record, decode, encode
from opensips_py.tm.settings import settings

RELAYED, ANSWERED, RENUMBERED = b"r", b"a", b"n"
"""First byte of what the ACK for a 2xx finds (the rest is the transaction's key): who made that reply.

RENUMBERED: it was relayed, and the callee knows the INVITE by another number in CSeq."""


class Transaction:
    """This process' view of one transaction."""

    __slots__ = (
        "_request",
        "branch_reply_route",
        "deadline",
        "depth",
        "done",
        "indexed",
        "key",
        "locked",
        "new",
        "out",
        "record",
        "stored",
        "told",
        "view",
    )

    def __init__(self, key: bytes, record: Record | None = None, *, new: bool = False) -> None:
        self.key = key
        self.record = record
        self.new = new
        self.depth = 0
        """How many times it is held; > 0: this process has the lock."""
        self.locked = False
        """:func:`try_lock` has locked it, and nobody has held it since."""
        self.deadline = NEVER
        """Deadline of the stored record."""
        self.done = False
        """The stored record is done, and has its delete row."""
        self.indexed = False
        """The ACK for its 2xx finds it in the store."""
        self.out: list[machine.Send] = []
        """To be sent once the record has been committed."""
        self.told: list[tuple[bytes, bytes]] = []
        """Rows to be stored with it: replies that somebody is to be told of (:mod:`opensips_py.tm.uac_reply`), posted items."""
        self.stored: list[tuple[bytes, bytes]] = []
        """Those that are stored: somebody is told of them once it is released."""
        self._request: SipMessage | None = None
        self.branch_reply_route: str | None = None
        """onreply_route that the running branch route asks for."""
        self.view: Any = None
        """Its request as a context, once ``$(<request>…)`` has asked for it."""

    def __enter__(self) -> Record | None:
        if self.new:
            return self.record
        if self.depth:
            self.depth += 1
            return self.record
        store = this.store
        if self.locked:
            self.locked = False
        elif not store.try_lock(self.key):
            store.lock(self.key).__enter__()
        self.record = rec = None
        try:
            data = store.get(self.key)
            if data is not None:
                self.record = rec = decode(data)
        finally:
            if rec is None:
                store.unlock(self.key)
        if rec is not None:
            self.depth = 1
            self.deadline, self.done, self.indexed = rec.deadline, rec.done, bool(rec.index)
        return rec

    def __exit__(self, *exc: object) -> None:
        if exc and exc[0] is not None and self.depth <= 1:
            forget_changes(self)
        if self.depth:
            self.depth -= 1
            if not self.depth:
                this.store.unlock(self.key)
                if self.stored:
                    _tell(self)

    @property
    def request(self) -> SipMessage | None:
        """The request that it was made for."""
        if self._request is None:
            rec = look(self)
            if rec is not None:
                self._request = reread(rec.raw)
                note_source(self._request, rec.ip, rec.port)
        return self._request


# --- loading, holding, committing ----------------------------------------------------------------------------------


def look(tx: Transaction) -> Record | None:
    """Its record, for reading."""
    if tx.record is not None:
        return tx.record
    data = this.store.get(tx.key)
    if data is None:
        return None
    tx.record = decode(data)
    return tx.record


def hold(tx: Transaction) -> Record | None:
    """Lock and load it for changing; None (and not held) when it is gone."""
    return tx.__enter__()


def release(tx: Transaction) -> None:
    """Undo one :func:`hold`."""
    tx.__exit__()


def forget_changes(tx: Transaction) -> None:
    """A change that is not stored has not happened: nothing is sent or told of it."""
    tx.out.clear()
    tx.told.clear()


def try_lock(tx: Transaction) -> bool:
    """Lock one that is not held here, for the ``with tx`` that must follow; False while another process holds it."""
    tx.locked = this.store.try_lock(tx.key)
    return tx.locked


tellers: dict[bytes, Callable[[bytes, bytes], None]] = {}
"""Called with each row that was stored, by its first byte, when nothing is held: who is told may want other transactions."""


def _tell(tx: Transaction) -> None:
    rows_, tx.stored = tx.stored, []
    for key, value in rows_:
        try:
            tellers[key[:1]](key, value)
        except Exception as error:  # of one row: the others wait behind it
            report_error(error, "what follows a transaction")


def let_go(tx: Transaction) -> int:
    """Release it however often it is held, for a wait; how often it was."""
    depth, tx.depth = tx.depth, 0
    if depth:
        this.store.unlock(tx.key)
    if tx.stored:
        this.reactor.call_soon(lambda: None if tx.depth else _tell(tx))
    return depth


def take_back(tx: Transaction, depth: int) -> Record | None:
    """Hold it again, ``depth`` times; None (and not held) when it is gone.

    The record stays the same object and gets the content that is stored now, so that frames which have it see no old one.
    """
    before = tx.record
    rec = hold(tx)
    if rec is None:
        return None
    tx.depth = depth
    if before is not None:
        for name in Record.__struct_fields__:
            setattr(before, name, getattr(rec, name))
        rec = tx.record = before
    return rec


def commit(tx: Transaction, fired: bytes | None = None, also: tuple[bytes, bytes] | None = None) -> bool:
    """Store the record with its timer row, then send what is in ``tx.out``.

    ``fired``: a timer row whose effect this is. ``also``: key and value of an entry to be stored with it. False when a
    new transaction turns out to exist already, made by another process from a retransmission: then nothing is sent but
    its last reply.
    """
    rec = tx.record
    assert rec is not None
    machine.update_deadline(rec)
    if rec.kept is not None and rec.done:
        rec.done = not callbacks.wanted(rec, callbacks.When.DELETED)  # else it would be deleted without being loaded
    deadline, key = rec.deadline, tx.key
    if tx.new and deadline == NEVER:
        unsettled.set(key)
    try:
        with this.store.batch() as batch:
            if tx.new:
                made = batch.put_new(key, encode(rec))
            elif tx.done and batch.get(key) is None:
                made = False  # its end came meanwhile: what is done is deleted without the lock
            else:
                batch.put(key, encode(rec))
                made = True
            if made:
                if rec.done:
                    if not tx.done or deadline != tx.deadline:
                        batch.put(rows.row(deadline, key), rows.DELETE + rec.index)
                elif deadline < tx.deadline or (fired is not None and deadline != NEVER):
                    batch.put(rows.row(deadline, key), rows.LOAD)
                if rec.index and not tx.indexed:
                    batch.put(rec.index, _answered_by(rec) + key)
                for name, value in tx.told:
                    batch.put(name, value)
                if also is not None:
                    batch.put(*also)
            if fired is not None and not (made and fired == rows.row(deadline, key)):
                batch.delete(fired)
    except StoreError:
        forget_changes(tx)
        raise
    if tx.new:
        tx.new = False
        if not made:
            forget_changes(tx)
            tx.record = None
            unsettled.clear()
            answer_retransmission(tx.key, len(rec.raw))
            return False
    tx.deadline, tx.done, tx.indexed = deadline, rec.done, bool(rec.index)
    if tx.told:
        if made:
            tx.stored += tx.told
        tx.told = []
    send_out(tx)
    if tx.stored and not tx.depth:  # it was new: nobody releases it
        _tell(tx)
    return True


def _answered_by(rec: Record) -> bytes:
    if rec.flags & LOCAL_SUCCESS:
        return ANSWERED
    return RENUMBERED if rec.flags & RESTORE_CSEQ else RELAYED


def remove(tx: Transaction, fired: bytes) -> None:
    """Delete a held transaction whose end has come, with the timer row ``fired``."""
    rec = tx.record
    assert rec is not None
    with this.store.batch() as batch:
        batch.delete(tx.key)
        if rec.index:
            batch.delete(rec.index)
        batch.delete(fired)
        for name, value in tx.told:
            batch.put(name, value)
    tx.stored += tx.told
    tx.told = []
    tx.record = None
    send_out(tx)


AT_ONCE = 500
"""Transactions read at a time when all are looked at."""


def everyone() -> Iterator[tuple[bytes, bytes]]:
    """Key and encoded record of every transaction. Those that come or go meanwhile may be missed or seen."""
    start = identity.PREFIX
    while True:
        found = this.store.scan(identity.PREFIX, start=start, limit=AT_ONCE)
        yield from found
        if len(found) < AT_ONCE:
            return
        start = found[-1][0] + b"\0"


unsent: list[Callable[[Transaction, list[bytes]], None]] = []
"""Called with the messages of a transaction that could not be sent."""


def send_out(tx: Transaction) -> None:
    """Send what waits for the commit."""
    out = tx.out
    if out:
        tx.out = []
        rec = tx.record
        only_open = rec is not None and rec.flags & OPEN_ONLY
        refused = []
        for name, data, host, port in out:
            send = this.send_open if only_open and data.startswith(b"SIP/2.0") else this.send
            if not send(this.sockets_by_name[name], data, host, port):
                refused.append(data)
            elif rec is not None and rec.kept is not None:
                callbacks.sent(tx, rec, this.sockets_by_name[name], data, host, port)
        if refused and rec is not None:
            for tell in unsent:
                tell(tx, refused)


def answer_retransmission(key: bytes, size: int) -> bool:
    """Send the last reply of transaction ``key`` again, because a request of ``size`` bytes asks for it. False: there is no such.

    In a datagram, whose sender may be forged, at most once in T1/2, and not when it is much larger than what asks for it.
    """
    data = this.store.get(key)
    if data is None:
        return False
    rec = decode(data)
    if not rec.reply:
        return True
    if not rec.flags & RELIABLE:
        now = this.clock.now()
        if now < rec.repeated_at + settings.t1 / 2 or 0 < settings.max_reply_factor * size < len(rec.reply):
            return True
        if not _note_repetition(key, now):
            return True
    this.send(this.sockets_by_name[rec.socket], rec.reply, rec.reply_host, rec.reply_port)
    return True


def _note_repetition(key: bytes, now: float) -> bool:
    """Whether the reply of a transaction may be repeated now: nobody else has just done so."""
    tx = Transaction(key)
    if not try_lock(tx):  # somebody works on it, and will be asked again
        return False
    with tx as rec:
        if rec is None or now < rec.repeated_at + settings.t1 / 2:
            return False
        rec.repeated_at = now
        return commit(tx)
