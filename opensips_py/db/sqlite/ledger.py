"""Which changes have been made: table ``opensips_py_done`` of each SQLite file.

A change that may be handed over to another process has a token, which is written in the transaction of the change. Whoever comes
to make it once more, because nobody knows what became of it, finds the token, or fails to write it, and takes the answer that is
there. So it is made exactly once, whenever its process dies or however long that is stuck.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections import deque

import msgspec

from opensips_py.db.database import LEDGER, Result
from opensips_py.server.process import this

KEPT = 120.0
"""Seconds for which a token is kept after its process has its answer."""
ABANDONED = 7200
"""Seconds after which other tokens are removed: of processes that have died, and of changes with a name."""
_SWEEP = 600.0
"""Seconds between two sweeps of a process."""
_AT_ONCE = 64
"""Tokens removed with one change."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Result).decode


class Ledger:
    """The part of one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._old: deque[tuple[float, bytes]] = deque()
        """Tokens by when they were written."""
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {LEDGER} "
            "(token BLOB PRIMARY KEY, at INTEGER NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID"
        )
        self._swept = float("-inf")

    def answer(self, token: bytes) -> Result | None:
        """The answer to a change that has been made."""
        row = self._connection.execute(f"SELECT answer FROM {LEDGER} WHERE token = ?", (token,)).fetchone()
        return None if row is None else _decode(row[0])

    def note(self, token: bytes, answer: Result) -> bool:
        """Write a token, in the transaction of its change. False: it is there already, and nothing must be committed."""
        now = this.clock.now()
        if now > self._swept + _SWEEP:
            self._swept = now
            self._connection.execute(f"DELETE FROM {LEDGER} WHERE at < ?", (int(this.clock.now()) - ABANDONED,))
        try:
            self._connection.execute(f"INSERT INTO {LEDGER} VALUES (?, ?, ?)", (token, int(this.clock.now()), _encode(answer)))
        except sqlite3.IntegrityError:
            return False
        old = self._old
        for _ in range(_AT_ONCE):
            if not old or old[0][0] > now - KEPT:
                break
            self._connection.execute(f"DELETE FROM {LEDGER} WHERE token = ?", (old.popleft()[1],))
        if len(token) == _DRAWN:
            old.append((now, token))
        return True


_DRAWN = 12


def drawn() -> bytes:
    """A token of one call."""
    return os.urandom(_DRAWN)


def named(once: str) -> bytes:
    """The token of a change with a name; empty for none."""
    return hashlib.blake2b(once.encode("utf-8", "surrogatepass"), digest_size=16).digest() if once else b""
