"""Rows of a table that every process holds in memory, and how all of them get new ones at one moment.

The rows are read before the processes are forked, so that each has them from the start. :meth:`Reloaded.publish` puts others into
the shared store under the next number; whoever uses the table compares the number first, and takes the new rows when it is
another one. A process that replaces a dead one finds them there as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from ipc.store import StoreError
from opensips_py.db.database import Database, DatabaseError, Result, Row
from opensips_py.db.query import ask
from opensips_py.db.statement import Statement
from opensips_py.mi.dispatcher import Later
from opensips_py.script.declarations import MIError
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

Made = TypeVar("Made")

_NUMBER = 8
"""Bytes of a load's number before its rows."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


class Reloaded(Generic[Made]):
    """One table, and what is made of its rows."""

    def __init__(self, key: bytes, make: Callable[[list[Row]], Made]) -> None:
        """``key``: where its rows are in the shared store. ``make`` raises ValueError for rows that cannot be used at all."""
        self._key = key
        self._make = make
        self._number = b""
        self._now = make([])

    def begin(self, database: Database, statement: Statement) -> None:
        """Read the rows before the fork, which waits. Raises DatabaseError, StatementError, ValueError."""
        self._number = b""
        self._now = self._make(database.read(statement).rows)

    @property
    def now(self) -> Made:
        """What holds at this moment."""
        number = this.store.get(self._key + b"\0number") or b""
        if number != self._number:
            data = this.store.get(self._key + b"\0rows")
            if data is not None:
                self._now = self._make(_decode(data[_NUMBER:]))
                self._number = data[:_NUMBER]
        return self._now

    def publish(self, rows: list[Row]) -> None:
        """Give rows to all processes. Raises ValueError when they cannot be used; what was there stays."""
        self._make(rows)
        number_key = self._key + b"\0number"
        with this.store.batch() as batch:
            number = (int.from_bytes(batch.get(number_key) or b"", "big") + 1).to_bytes(_NUMBER, "big")
            batch.put(number_key, number)
            batch.put(self._key + b"\0rows", number + _encode(rows))

    def reload(self, database: Database, statement: Statement, name: str, result: object = "OK") -> Later:
        """A management command that reads the table again, beside other work; what cannot be read stays as it was."""
        later = Later()

        def take(answer: Result | None) -> None:
            try:
                if answer is None:
                    raise DatabaseError("the database refuses or cannot be reached; see the log")
                self.publish(answer.rows)
            except (DatabaseError, StoreError, ValueError) as error:
                log(ERROR, name, "reload", str(error))
                later.failed(MIError(500, "Failed to reload", str(error)))
            else:
                later.done(result)

        ask(database, statement, take)
        return later
