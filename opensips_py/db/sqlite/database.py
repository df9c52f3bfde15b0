"""A SQLite file behind the common interface."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

from opensips_py.db.database import PATIENCE, Call, Database, DatabaseError, How, Result
from opensips_py.db.sqlite.call import SqliteCall
from opensips_py.db.sqlite.dialect import SqliteDialect
from opensips_py.db.sqlite.file import PAUSES, connect, is_busy, parse, rows_of
from opensips_py.db.sqlite.thread import FileThread
from opensips_py.db.statement import Statement, StatementError
from opensips_py.server.process import this


class SqliteDatabase(Database):
    """``sqlite://``."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.path = parse(url)
        self.dialect = SqliteDialect()
        self._reader = FileThread(self.path, reading=True)
        self._writer = FileThread(self.path, reading=False)

    @property
    def name(self) -> str:
        return f"sqlite://{self.path}"

    def _text(self, statement: Statement) -> str:
        """As the library wants it, which knows only UTF-8."""
        try:
            return self.dialect.text(statement).encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise StatementError("the statement is not UTF-8; use ? for values with other bytes") from None

    def call(self, statement: Statement, how: How) -> SqliteCall:
        return SqliteCall(self.name, self._reader, self._writer, self._text(statement), how)

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        return self.call(statement, how).go_on(state)

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        text = self._text(statement)
        until = this.clock.now() + seconds
        while True:
            try:
                connection = connect(self.path)
                try:
                    return rows_of(connection.execute(text), True, 0)
                finally:
                    connection.close()
            except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
                if not (isinstance(error, sqlite3.Error) and is_busy(error)) or this.clock.now() > until:
                    raise DatabaseError(str(error)) from None
            time.sleep(PAUSES[1])

    def create(self) -> None:
        try:
            # whoever may read it sees what passwords are checked by
            os.close(os.open(self.path.encode("latin-1"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640))
            connect(self.path).close()
        except OSError as error:
            raise DatabaseError(f"it cannot be made: {error.strerror}") from None
        except sqlite3.Error as error:
            raise DatabaseError(str(error)) from None

    def describe(self) -> dict[str, Any]:
        """For ``async_pools``; empty as long as it has not been used."""
        threads = (self._reader, self._writer)
        busy = [thread.threads.busy for thread in threads]
        opened, failed = sum(thread.opened for thread in threads), sum(thread.failed for thread in threads)
        if not opened and not failed and not sum(busy):
            return {}
        is_open = sum(thread.is_open for thread in threads)
        return {
            "Destination": self.name,
            "State": "up" if is_open or not failed else "down",
            "Open": is_open,
            "Connecting": 0,
            "Idle": sum(thread.is_open and not thread.threads.busy for thread in threads),
            "Limit": len(threads),
            "Waiting": sum(max(0, n - 1) for n in busy),
            "Opened": opened,
            "Failed": failed,
            "Retried": 0,
            "Refused": sum(thread.refused for thread in threads),
        }

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
