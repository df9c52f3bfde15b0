"""A change with a name, which is made once: with a token in table ``opensips_py_done``, in one transaction.

Whoever makes it once more cannot write the token again: while the first transaction goes on, the server makes the second one wait
for its end. The statements go one after the other over one connection.
"""

from __future__ import annotations

import hashlib

from opensips_py.db.database import LEDGER, Answered, How, Result
from opensips_py.db.mysql.call import MysqlCall
from opensips_py.db.mysql.connection import Connection
from opensips_py.db.mysql.pool import Pool
from opensips_py.db.mysql.result import ResultReader
from opensips_py.engine.operation import Done

TABLE = LEDGER.encode()
CREATE = b"CREATE TABLE IF NOT EXISTS %s (token CHAR(32) PRIMARY KEY, at DATETIME NOT NULL, INDEX (at)) ENGINE=InnoDB" % TABLE
_SWEEP = b"DELETE FROM %s WHERE at < NOW() - INTERVAL 2 HOUR LIMIT 10" % TABLE
_BEGIN, _COMMIT, _ROLLBACK = b"START TRANSACTION", b"COMMIT", b"ROLLBACK"
_DUPLICATE, _NO_TABLE = 1062, 1146


class NamedChange(MysqlCall):
    """See the head of this file."""

    def __init__(self, pool: Pool, query: bytes, how: How) -> None:
        super().__init__(pool, query, how)
        self._change = query
        self._token = hashlib.blake2b(how.once.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest().encode()
        self._next: list[bytes] = []
        self._made: Answered | None = None
        self._begin_anew()

    def _begin_anew(self, *first: bytes) -> None:
        note = b"INSERT INTO %s VALUES ('%s', NOW())" % (TABLE, self._token)
        self._next = [*first, _BEGIN, note, self._change, _SWEEP, _COMMIT]
        self._query = self._next.pop(0)
        self._made = None

    def _may_ask_again(self, connection: Connection) -> bool:
        return True

    def _try_again(self, connection: Connection) -> Done | None:
        self._begin_anew()
        self._next_answer()
        return super()._try_again(connection)

    def _next_answer(self) -> None:
        self._reader = ResultReader(self._holding)
        self._received.clear()
        self._sent = False

    def _finish(self, connection: Connection) -> Done | None:
        error = self._reader.error
        if error is None:
            return self._go_on(connection)
        noting = len(self._next) == 3  # the change, the sweep and the commit are still to come
        if noting and error[0] == _NO_TABLE:
            self._begin_anew(_ROLLBACK, CREATE)
            return self._say_next(connection)
        self._connection = None
        self._pool.discard(connection)  # and with it what was begun
        return Answered.of(Result([])) if noting and error[0] == _DUPLICATE else self._result()

    def _go_on(self, connection: Connection) -> Done | None:
        if self._query == self._change:
            done = self._result()
            self._made = done if isinstance(done, Answered) else None
        if self._next:
            self._query = self._next.pop(0)
            return self._say_next(connection)
        made = self._made or Answered.of(Result([]))
        self._connection = None
        self._pool.release(connection)
        return made

    def _say_next(self, connection: Connection) -> Done | None:
        self._next_answer()
        return self._send(connection)
