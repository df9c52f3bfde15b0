"""How PostgreSQL writes statements."""

from __future__ import annotations

from collections.abc import Mapping

from opensips_py.db.dialect import Dialect
from opensips_py.db.statement import Insert, StatementError


class PostgresDialect(Dialect):
    """A backslash is a character like others: ``standard_conforming_strings`` is on."""

    serial = "BIGSERIAL PRIMARY KEY"
    types: Mapping[str, str] = {
        **Dialect.types,
        "CHAR": "VARCHAR({size})",
        "BLOB": "TEXT",
        "SMALLINT": "INTEGER",
        "TINYINT": "INTEGER",
        "DOUBLE": "DOUBLE PRECISION",
        "FLOAT": "DOUBLE PRECISION",
        "DATETIME": "TIMESTAMP",
    }

    def string(self, value: str) -> str:
        if "\0" in value:
            raise StatementError("PostgreSQL has no texts with NUL")
        return super().string(value)

    def _insert(self, insert: Insert) -> str:
        if insert.existing != "keep" or len(insert.rows) == 1:
            return super()._insert(insert)
        # in one SELECT of several rows a literal would be a text, also for a column of numbers
        return ";".join(
            self._insert(Insert(insert.table, insert.columns, (row,), insert.existing, insert.key)) for row in insert.rows
        )
