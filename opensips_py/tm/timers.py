"""The transaction timers: what the timer process does.

May be killed at any point, and may run in two processes at once: a timer row disappears only in the batch that holds
its effect, and a transaction is changed only under its lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ipc.store import StoreError
from opensips_py.engine.unsettled import unsettled
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.tm import callbacks, failure_route, identity, machine, rows, server_transaction
from opensips_py.tm.record import NEVER, Record, peek
from opensips_py.tm.states import Uas
from opensips_py.tm.transaction import Transaction, commit, remove, try_lock

AT_ONCE = 1000
"""Rows taken from the store at a time."""
HELD_SECONDS = 0.05
"""When a row is looked at again whose transaction another process holds."""
FULL_SECONDS = 0.5
"""When rows are looked at again after the effect of one could not be stored."""


_PEEKED = 13
"""Bytes of a record that peek() reads."""


class Due(NamedTuple):
    """An entry of a module whose time has come."""

    key: bytes
    row: bytes
    """Its timer row: a handler that changes the entry deletes it in the same batch, so that neither is done twice."""
    now: float


Handler = Callable[[Due], "float | None"]

handlers: dict[bytes, Handler] = {}
"""By the prefix of the keys that they are for."""
TRIES = 5
"""How often a handler may fail over one entry."""


def handler(prefix: bytes) -> Callable[[Handler], Handler]:
    """Have the decorated function called when a timer row of an entry is due whose key begins with ``prefix``.

    A module stores such a row, ``rows.row(deadline, key)`` with the value ``rows.LOAD``, in one batch with the entry. The handler
    runs in the process that fires timers, holding no lock; two may run at once, and one may run again when its process dies: it
    takes the entry's lock and looks. It returns when it is to be called again, or None. When it raises it is called
    again after 2, 4, 8, 16 seconds; then the entry is deleted, so that neither it nor its row stays for ever.
    """

    def declare(call: Handler) -> Handler:
        handlers[prefix] = call
        return call

    return declare


class _Pause:
    """Nothing is done before."""

    until = 0.0


def fire_due(now: float) -> float | None:
    """Do all that is due at ``now`` (this.clock.now()); the deadline of the next row, None when there is none."""
    if now < _Pause.until:
        return _Pause.until
    server_transaction.prepare()
    store = this.store
    while True:
        first = store.scan(rows.PREFIX, limit=1)
        if not first:
            return None
        following = rows.of_row(first[0][0])[0]
        if following > now:
            return following
        due: list[tuple[bytes, bytes]] = []
        for name, value in store.scan(rows.PREFIX, limit=AT_ONCE, stop=rows.until(now)):
            if rows.of_row(name)[0] > now:
                break
            due.append((name, value))
        full = _fire_all(due, now)
        if full is not None:
            log(ERROR, "tm", "timer", f"timers are late: {full}")
            _Pause.until = now + FULL_SECONDS
            return _Pause.until


def _fire_all(due: list[tuple[bytes, bytes]], now: float) -> StoreError | None:
    """Do what is due. The error when some of it could not be stored: those rows stay where they are."""
    full: StoreError | None = None
    try:
        to_load = _delete_done(due)
    except StoreError as error:
        full = error
        to_load = [name for name, value in due if value[:1] != rows.DELETE]
    for name in to_load:
        try:
            _fire_one(name, now)
        except StoreError as error:
            full = error
    return full


def _delete_done(due: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Delete finished transactions, all in one batch; move rows that were early. What is left has to be loaded.

    Of a record only its deadline is read: it may be as large as a message, and everybody waits for the batch.
    """
    to_load = []
    with this.store.batch_of_heads() as batch:
        for name, value in due:
            deadline, key = rows.of_row(name)
            if key[:1] != identity.PREFIX and value[:1] != rows.DELETE:
                to_load.append(name)
                continue
            if value:
                batch.delete(key)
                if len(value) > 1:
                    batch.delete(value[1:])
                batch.delete(name)
                continue
            data = batch.head(key, _PEEKED)
            if data is None:
                batch.delete(name)
                continue
            if len(data) < _PEEKED:
                to_load.append(name)
                continue
            at, done = peek(data)
            if at <= deadline:
                to_load.append(name)
                continue
            batch.delete(name)
            if not done and at != NEVER:  # a done one has its own row already
                batch.put(rows.row(at, key), rows.LOAD)
    return to_load


def _fire_one(name: bytes, now: float) -> None:
    """:func:`fire`; a transaction whose handler fails is ended, so that neither it nor its row stays for ever."""
    try:
        if name[9:10] == identity.PREFIX:
            fire(name, now)
        else:
            _fire_entry(name, now)
    except StoreError:
        raise
    except Exception as error:  # one bad transaction must not stop the others' timers
        report_error(error, "transaction timer")
        _end(name, now)


def fire(name: bytes, now: float) -> None:
    """Let the transaction of timer row ``name`` do what is due."""
    tx = Transaction(rows.of_row(name)[1])
    if not try_lock(tx):
        # its holder may be stopped: the others' timers must not wait for it
        _move(name, now + HELD_SECONDS)
        return
    with tx as rec:
        if rec is None:
            _drop(name)
            return
        # when somebody else was faster nothing is due any more, and only the row moves
        outcome = machine.timer_fired(rec, now, tx.out)
        if outcome >= 0:
            failure_route.all_failed(tx, rec, outcome, now)
        if rec.state == Uas.TERMINATED and rec.end_at <= now:
            _delete(tx, rec, name)
        else:
            commit(tx, fired=name)
        unsettled.clear()  # set if a failure route has waited in line


def _fire_entry(name: bytes, now: float) -> None:
    """Call the handler of a module's entry."""
    key = rows.of_row(name)[1]
    call = next((call for prefix, call in handlers.items() if key.startswith(prefix)), None)
    if call is None:
        log(ERROR, "tm", "timer", f"no module has timers for {key!r}: its timer is deleted")
        _drop(name)
        return
    try:
        again = call(Due(key, name, now))
    except StoreError:
        raise
    except Exception as error:
        report_error(error, f"timer of {key!r}")
        _try_later(name, key, now)
        return
    if again is None:
        _drop(name)
    else:
        _move(name, max(again, now + HELD_SECONDS))


def _try_later(name: bytes, key: bytes, now: float) -> None:
    with this.store.batch() as batch:
        value = batch.take(name)
        if value is None:
            return
        failed = (value[1] if value[:1] == rows.TRIED else 0) + 1
        if failed < TRIES:
            batch.put(rows.row(now + 2**failed, key), rows.TRIED + bytes([failed]))
        else:
            batch.delete(key)
            log(ERROR, "tm", "timer", f"{key!r} is deleted: its timer has failed {failed} times")


def _end(name: bytes, now: float) -> None:
    """End the transaction of row ``name``, whose handler has failed: with 500, if nothing final was sent, else at once."""
    key = rows.of_row(name)[1]
    tx = Transaction(key)
    try:
        if not try_lock(tx):
            _move(name, now + HELD_SECONDS)
            return
        with tx as rec:
            if rec is None:
                _drop(name)
            elif rec.code < 200:
                failure_route.give_up(tx, rec, now)
                commit(tx, fired=name)
            else:
                _delete(tx, rec, name)
    except StoreError:
        raise
    except Exception as error:  # not even that is possible with what is stored
        report_error(error, f"transaction {identity.ident(key)} is deleted")
        with this.store.batch() as batch:
            batch.delete(key)
            batch.delete(name)


def _delete(tx: Transaction, rec: Record, name: bytes) -> None:
    if rec.kept is not None:
        callbacks.tell(callbacks.When.DELETED, tx, rec, code=rec.code)
    remove(tx, name)


def _move(name: bytes, deadline: float) -> None:
    with this.store.batch() as batch:
        batch.delete(name)
        batch.put(rows.row(deadline, rows.of_row(name)[1]), rows.LOAD)


def _drop(name: bytes) -> None:
    with this.store.batch() as batch:
        batch.delete(name)
