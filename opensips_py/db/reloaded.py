"""Rows of a table that every process holds in memory, and how all of them get new ones at one moment.

The rows are read before the processes are forked, so that each has them from the start. ``reload()`` puts others into
the shared store under the next number; whoever uses the table compares the number first, and takes the new rows when it is
another one. A process that replaces a dead one finds them there as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ipc.store import Batch, StoreError
from opensips_py.db.database import PATIENCE, Database, DatabaseError, Result, Row
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
        self._rows: list[Row] = []
        self._made: Made | None = None

    def begin(self, database: Database, statement: Statement, seconds: float = PATIENCE) -> None:
        """Read the rows before the fork, which waits. Raises DatabaseError, StatementError, ValueError."""
        self._number, self._rows = b"", database.read(statement, seconds).rows
        self._made = self._make(self._rows)

    @property
    def now(self) -> Made:
        """What holds at this moment."""
        number = this.store.get(self._key + b"\0number") or b""
        if number != self._number:
            data = this.store.get(self._key + b"\0rows")
            if data is not None:
                self._number, self._rows, self._made = data[:_NUMBER], _decode(data[_NUMBER:]), None
        made = self._made
        if made is None:
            made = self._made = self._make(self._rows)
        return made

    def make_again(self) -> None:
        """What is made of the rows depends on something else that has changed."""
        self._made = None

    def check(self, rows: list[Row]) -> None:
        """Raises ValueError when the rows cannot be used."""
        self._make(rows)

    def rows_before(self, batch: Batch) -> list[Row]:
        """The rows that hold until :meth:`put` gives others."""
        if (batch.get(self._key + b"\0number") or b"") == self._number:
            return self._rows
        data = batch.get(self._key + b"\0rows")
        return self._rows if data is None else _decode(data[_NUMBER:])

    def put(self, batch: Batch, rows: list[Row]) -> None:
        """Give rows to all processes, with the change that ``batch`` is; a subclass may change with it what goes with them."""
        number_key = self._key + b"\0number"
        number = (int.from_bytes(batch.get(number_key) or b"", "big") + 1).to_bytes(_NUMBER, "big")
        batch.put(number_key, number)
        batch.put(self._key + b"\0rows", number + _encode(rows))


Source = tuple[Reloaded[Any], Database, Statement]
"""A table, and where its rows come from."""


def reload(module: str, sources: Sequence[Source]) -> Later:
    """A management command that reads tables again, beside other work.

    All processes get all of them at one moment; when one cannot be read, or the store has no room, all stay as they were.
    """
    later, read = Later(), list[list[Row]]()

    def ask_next() -> None:
        _, database, statement = sources[len(read)]
        ask(database, statement, take)

    def take(answer: Result | None) -> None:
        try:
            if answer is None:
                raise DatabaseError("the database refuses or cannot be reached; see the log")
            sources[len(read)][0].check(answer.rows)
            read.append(answer.rows)
            if len(read) < len(sources):
                ask_next()
                return
            with this.store.batch() as batch:
                for (table, _, _), rows in zip(sources, read, strict=True):
                    table.put(batch, rows)
        except (DatabaseError, StoreError, ValueError) as error:
            log(ERROR, module, "reload", str(error))
            later.failed(MIError(500, "Failed to reload", str(error)))
        else:
            later.done("OK")

    ask_next()
    return later
