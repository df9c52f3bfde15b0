"""The transaction timers: what the timer process does.

May be killed at any point, and may run in two processes at once: a timer row disappears only in the batch that holds
its effect, and a transaction is changed only under its lock.
"""

from __future__ import annotations

from opensips_py.core import failure, transactions
from opensips_py.core.guard import report_error
from opensips_py.core.process import this
from opensips_py.core.transaction import Transaction, commit, hold, release, remove
from opensips_py.tm import machine, rows
from opensips_py.tm.record import NEVER, peek
from opensips_py.tm.states import Uas

AT_ONCE = 1000
"""Rows taken from the store at a time."""


def fire_due(now: float) -> float | None:
    """Do all that is due at ``now`` (time.monotonic()); the deadline of the next row, None when there is none."""
    transactions.prepare()
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
        to_load = _delete_done(due)
        for name in to_load:
            try:
                fire(name, now)
            except Exception as error:  # one bad transaction must not stop the others' timers
                report_error(error, "transaction timer")
                _drop(name)


def _delete_done(due: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Delete finished transactions, all in one batch; move rows that were early. What is left has to be loaded."""
    to_load = []
    with this.store.batch() as batch:
        for name, value in due:
            deadline, key = rows.of_row(name)
            if value:
                batch.delete(key)
                if len(value) > 1:
                    batch.delete(value[1:])
                batch.delete(name)
                continue
            data = batch.get(key)
            if data is None:
                batch.delete(name)
                continue
            at, done = peek(data)
            if at <= deadline:
                to_load.append(name)
                continue
            batch.delete(name)
            if not done and at != NEVER:  # a done one has its own row already
                batch.put(rows.row(at, key), rows.LOAD)
    return to_load


def fire(name: bytes, now: float) -> None:
    """Let the transaction of timer row ``name`` do what is due."""
    tx = Transaction(rows.of_row(name)[1])
    rec = hold(tx)
    if rec is None:
        _drop(name)
        return
    try:
        # when somebody else was faster nothing is due any more, and only the row moves
        outcome = machine.timer_fired(rec, now, tx.out)
        if outcome >= 0:
            failure.all_failed(tx, rec, outcome, now)
        if rec.state == Uas.TERMINATED and rec.end_at <= now:
            remove(tx, name)
        else:
            commit(tx, fired=name)
    finally:
        release(tx)


def _drop(name: bytes) -> None:
    with this.store.batch() as batch:
        batch.delete(name)
