"""Rows of a table that every process holds in memory, and how all of them get new ones at one moment.

The rows are read before the processes are forked, so that each has them from the start. ``reload()`` exchanges them
(:mod:`opensips_py.server.exchanged`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ipc.store import Batch, StoreError
from opensips_py.db.database import PATIENCE, Database, DatabaseError, Result, Row
from opensips_py.db.query import ask
from opensips_py.db.statement import Statement
from opensips_py.mi.dispatcher import Later
from opensips_py.script.declarations import MIError
from opensips_py.server.exchanged import Exchanged, Made
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


class Reloaded(Exchanged[Made]):
    """One table, and what is made of its rows."""

    def __init__(self, key: bytes, make: Callable[[list[Row]], Made]) -> None:
        """``key``: where its rows are in the shared store. ``make`` raises ValueError for rows that cannot be used at all."""
        super().__init__(key, lambda data: make(_decode(data) if data else []))
        self._made_of = make

    def begin(self, database: Database, statement: Statement, seconds: float = PATIENCE) -> Made:
        """Read the rows before the fork, which waits. Raises DatabaseError, StatementError, ValueError."""
        return self.hold(_encode(database.read(statement, seconds).rows))

    def check(self, rows: list[Row]) -> None:
        """Raises ValueError when the rows cannot be used."""
        self._made_of(rows)

    def rows_before(self, batch: Batch) -> list[Row]:
        """The rows that hold until :meth:`put` gives others."""
        return _decode(self.before(batch))

    def put(self, batch: Batch, rows: list[Row]) -> None:
        """Give rows to all processes, with the change that ``batch`` is; a subclass may change with it what goes with them."""
        self.exchange(batch, _encode(rows))


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
