"""A MySQL or MariaDB database behind the common interface."""

from __future__ import annotations

from dataclasses import replace

import pymysql

from opensips_py.db.database import PATIENCE, Call, Database, DatabaseError, How, Result
from opensips_py.db.mysql.blocking import read
from opensips_py.db.mysql.call import MysqlCall
from opensips_py.db.mysql.dialect import MysqlDialect
from opensips_py.db.mysql.named_change import CREATE, NamedChange
from opensips_py.db.mysql.pool import pool
from opensips_py.db.mysql.types import rows_of
from opensips_py.db.mysql.url import DatabaseUrl
from opensips_py.db.statement import Raw, Statement
from opensips_py.engine.lost_operation import close_all


class MysqlDatabase(Database):
    """``mysql://``."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.pool = pool(url)
        self.dialect = MysqlDialect(self.pool.url.charset)

    @property
    def name(self) -> str:
        return self.pool.url.name

    def _bytes(self, statement: Statement) -> bytes:
        return self.dialect.text(statement).encode("latin-1")

    def call(self, statement: Statement, how: How) -> Call:
        return (NamedChange if how.once else MysqlCall)(self.pool, self._bytes(statement), how)

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        if how.once:
            close_all(fds)  # with the connection ends what is not committed of it
            return self.call(statement, how)
        return MysqlCall.taken_over(self.pool, self._bytes(statement), how, state, fds, journal)

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        return self._read(self.pool.url, statement, seconds)

    def _read(self, url: DatabaseUrl, statement: Statement, seconds: float) -> Result:
        try:
            reader = read(url, self._bytes(statement), seconds)
        except (pymysql.MySQLError, OSError) as error:
            raise DatabaseError(str(error.args[1]) if len(error.args) > 1 else str(error)) from None
        return Result(rows_of(reader, True), len(reader.columns))

    def create(self) -> None:
        name = self.dialect.identifier(self.pool.url.database)
        try:
            self.read(Raw("SELECT 1"))
        except DatabaseError:
            text = f"CREATE DATABASE IF NOT EXISTS {name}"
            self._read(replace(self.pool.url, database="information_schema"), Raw(text), PATIENCE)
        self.read(Raw(CREATE.decode()))

    def close(self) -> None:
        self.pool.close()
