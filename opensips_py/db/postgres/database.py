"""A PostgreSQL database behind the common interface."""

from __future__ import annotations

from dataclasses import replace

import psycopg
from psycopg.pq import ConnStatus, ExecStatus, PGconn

from opensips_py.db.database import PATIENCE, Call, Database, DatabaseError, How, Result, Row
from opensips_py.db.postgres import ledger
from opensips_py.db.postgres.call import PostgresCall
from opensips_py.db.postgres.dialect import PostgresDialect
from opensips_py.db.postgres.pool import PostgresPool
from opensips_py.db.postgres.types import TYPED
from opensips_py.db.postgres.url import PostgresUrl, parse_postgres_url
from opensips_py.db.statement import Raw, Statement


class PostgresDatabase(Database):
    """``postgres://``."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.pool = PostgresPool(parse_postgres_url(url))
        self.dialect = PostgresDialect()

    @property
    def name(self) -> str:
        return self.pool.url.name

    def call(self, statement: Statement, how: How) -> PostgresCall:
        return PostgresCall(self.pool, self.dialect.text(statement), how)

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        return self.call(statement, how).go_on(state)

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        return self._read(self.pool.url, self.dialect.text(statement), seconds)

    def _read(self, url: PostgresUrl, text: str, seconds: float) -> Result:
        try:
            pgconn = PGconn.connect(url.connection_info([], seconds))
            if pgconn.status != ConnStatus.OK:
                raise DatabaseError(" ".join(pgconn.get_error_message().split()))
            pgconn.exec_(f"SET statement_timeout={round(seconds * 1000)}".encode())
            result = pgconn.exec_(text.encode("latin-1"))
            pgconn.finish()
        except psycopg.Error as error:
            raise DatabaseError(" ".join(str(error).split())) from None
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY):
            raise DatabaseError(" ".join(result.get_error_message().split()))
        convert = [TYPED.get(result.ftype(column)) for column in range(result.nfields)]
        rows: list[Row] = []
        for number in range(result.ntuples):
            row: Row = []
            for column, change in enumerate(convert):
                value = result.get_value(number, column)
                text = "" if value is None else value.decode("latin-1")
                row.append(None if value is None else text if change is None else change(text))
            rows.append(row)
        return Result(rows, result.nfields)

    def create(self) -> None:
        try:
            self.read(Raw("SELECT 1"))
        except DatabaseError as error:
            if "does not exist" not in str(error):
                raise
            name = self.dialect.identifier(self.pool.url.database)
            self._read(replace(self.pool.url, database="postgres"), f"CREATE DATABASE {name}", PATIENCE)
        self.read(Raw(ledger.CREATE))

    def close(self) -> None:
        self.pool.close()
