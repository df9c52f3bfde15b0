"""How SQLite writes statements."""

from __future__ import annotations

from opensips_py.db.dialect import Dialect
from opensips_py.db.statement import Insert


class SqliteDialect(Dialect):
    """Texts may have any bytes: those that are not UTF-8, or have a NUL, are written in hexadecimal."""

    quote = "`"  # in double quotes the name of a missing column would be a text
    equal = "IS"

    def string(self, value: str) -> str:
        if not value.isascii() or "\0" in value:
            raw = value.encode("latin-1")
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError:
                return f"CAST(x'{raw.hex()}' AS TEXT)"
            if "\0" in value:
                return f"CAST(x'{raw.hex()}' AS TEXT)"
        return super().string(value)

    def replace(self, rest: str, insert: Insert) -> str:
        return f"REPLACE{rest}"
