"""One statement on its way to a PostgreSQL server.

It ends with its result, or with -1 for an error, for a connection lost during a query that may not be run twice and for an answer
larger than ``max_result_size``, -4 when too many queries wait for a connection. libpq cannot go on with another
process' connection: what reads is asked again, a change is made if it has not been made (:mod:`~opensips_py.db.postgres.ledger`).
"""

from __future__ import annotations

import os

import msgspec
import psycopg
from psycopg.pq import DiagnosticField, ExecStatus, abc

from opensips_py.clients.pooled_operation import PooledOperation
from opensips_py.db.database import LEDGER, Answered, Call, How, Rejected, Result, Row
from opensips_py.db.postgres import ledger
from opensips_py.db.postgres.connection import PostgresConnection
from opensips_py.db.postgres.pool import PostgresPool, settings
from opensips_py.db.postgres.types import TYPED, UNTYPED
from opensips_py.engine.holding import VALUE, Holding, TooMuch, Uncounted
from opensips_py.engine.operation import LOST, Done
from opensips_py.evi import events
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this

_ROWS = (ExecStatus.SINGLE_TUPLE, ExecStatus.TUPLES_OK)
_PENDING = memoryview(b"x")
"""Stands in ``_unsent`` for what libpq has still to send."""


class _Frozen(msgspec.Struct, array_like=True):
    token: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class PostgresCall(PooledOperation[PostgresConnection], Call):
    """One query."""

    _pool: PostgresPool

    def __init__(self, pool: PostgresPool, query: str, how: How) -> None:
        holding = Uncounted() if how.whole else Holding(settings.answer, "max_result_size of db_postgres")
        super().__init__(settings.attempts, holding, len(query))
        self._pool = pool
        self._query = query
        self._types = TYPED if how.typed else UNTYPED
        self._once = how.once
        self._token = ledger.named(how.once)
        self._lost = self._making_table = self._parking = False
        self._began = 0.0
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._rows: list[Row] = []
        self._columns = 0
        self._error: tuple[bytes, str] | None = None

    def start(self) -> Done | None:
        if self._lost:
            return Done(LOST)
        self._limit = self.deadline
        if self.mode == "plain" and self._limit is None:
            self._limit = this.clock.now() + settings.patience
        if self.mode != "plain" and ledger.is_change(self._query):
            # sent when the operation is parked: a change is never made of which the store does not know
            self._token = self._token or os.urandom(16).hex()
            self._parking = True
        done = self._begin()
        self._parking = False
        self.refreeze = False  # it has not been frozen yet, and nothing of it changes
        return done

    # --- the query ----------------------------------------------------------------------------------------------

    def _send(self, connection: PostgresConnection) -> Done | None:
        self.deadline = self._limit
        if self._parking:
            return None
        connection.uses += 1
        if settings.slow_query:
            self._began = this.clock.now()
        self._forget_answer()
        text = self._query
        if self._making_table:
            text = ledger.CREATE
        elif self._token:
            text = ledger.noted(text, self._token, bool(self._once))
        try:
            connection.pgconn.send_query(text.encode("latin-1"))
            connection.pgconn.set_single_row_mode()
        except psycopg.Error:
            return self._try_again(connection)
        self._unsent = _PENDING
        return self._write(connection)

    def _write(self, connection: PostgresConnection) -> Done | None:
        try:
            if connection.pgconn.flush():
                return None
        except psycopg.Error:
            return self._try_again(connection)
        self._unsent = None
        self._sent = True
        return None

    def _try_again(self, connection: PostgresConnection) -> Done | None:
        done = super()._try_again(connection)
        self.refreeze = False
        return done

    def _read(self) -> Done | None:
        connection = self._connection
        assert connection is not None
        pgconn = connection.pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    return self._finish(connection)
                self._take(result)
                result.clear()
        except psycopg.Error:
            return self._broken(connection)
        except TooMuch as much:
            self._error = b"", str(much)
            self._connection = None
            self._pool.discard(connection)
            return self._result()
        return None

    def _take(self, result: abc.PGresult) -> None:
        if result.status == ExecStatus.FATAL_ERROR:
            if self._error is None:
                state = result.error_field(DiagnosticField.SQLSTATE) or b""
                message = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b""
                self._error = state, message.decode("latin-1")
            return
        if result.status not in _ROWS:
            self._columns = 0
            return
        columns = range(result.nfields)
        self._columns = len(columns)
        convert = [self._types.get(result.ftype(column)) for column in columns]
        for row in range(result.ntuples):
            values = [result.get_value(row, column) for column in columns]
            self._holding.take(VALUE * (len(values) + 1) + sum(len(value) for value in values if value is not None))
            cells: Row = []
            for value, change in zip(values, convert, strict=True):
                text = None if value is None else value.decode("latin-1")
                cells.append(text if text is None or change is None else change(text))
            self._rows.append(cells)

    def _broken(self, connection: PostgresConnection) -> Done | None:
        """The connection is lost while an answer is awaited."""
        if self._attempts > 1 and (self._token or (ledger.only_reads(self._query) and not self._rows)):
            return self._try_again(connection)
        self._connection = None
        self._pool.lost_during(connection, self._query)
        return Done(-1)

    def _finish(self, connection: PostgresConnection) -> Done | None:
        error = self._error
        if error is not None and error[0][:3] == b"57P":  # the server shuts down, or an administrator ends the session
            return self._broken(connection)
        if self._token and error is not None and error[0] == ledger.NO_TABLE and LEDGER in error[1] and not self._making_table:
            return self._make_table(connection, True)
        if self._making_table:
            if error is None or error[0] in ledger.MADE_BY_ANOTHER:
                return self._make_table(connection, False)
            log(ERROR, "db_postgres", "query", f"{self._pool.url.name}: table {LEDGER}: opensips-py-db create makes it")
        self._connection = None
        self._note_slowness()
        self._pool.release(connection)
        return self._result()

    def _make_table(self, connection: PostgresConnection, making: bool) -> Done | None:
        """Make the table for tokens, then ask once more."""
        self._making_table = making
        self._sent = False
        return self._send(connection)

    def _note_slowness(self) -> None:
        if not settings.slow_query:
            return
        took = this.clock.now() - self._began
        if took >= settings.slow_query:
            log(WARNING, "db_postgres", "query", f"slow query: {took * 1e6:.0f} us for [{self._query[:200]}]")
            events.raise_threshold("postgres", int(took * 1e6), self._query[:200])

    def _result(self) -> Done:
        if self._error is None:
            return Answered.of(Result(self._rows, self._columns))
        state, text = self._error
        if self._token and state == ledger.MADE and LEDGER in text:
            return Done(LOST) if ledger.returns_rows(self._query) else Answered.of(Result([]))
        log(ERROR, "db_postgres", "query", f"{self._pool.url.name}: {text} in [{self._query[:200]}]")
        return Rejected(-1)

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        connection = self._connection
        if connection is not None and not connection.ready and this.clock.now() >= connection.give_up_at:
            self._connection = None
            self._pool.failed(connection, OSError("no answer while connecting"))
        self.close()
        return Done(-1)

    # --- handing over -------------------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        return _encode(_Frozen(self._token))

    def go_on(self, state: bytes) -> PostgresCall:
        """It is the call of another process, which may have been made or not."""
        self._token = _decode(state).token
        self._lost = not self._token and not ledger.only_reads(self._query)
        return self
