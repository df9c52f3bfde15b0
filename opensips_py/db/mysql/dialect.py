"""How MySQL and MariaDB write statements."""

from __future__ import annotations

from collections.abc import Mapping

from opensips_py.db.dialect import Dialect
from opensips_py.db.places import MYSQL
from opensips_py.db.statement import Insert

_SPECIAL = {0: "\\0", 10: "\\n", 13: "\\r", 26: "\\Z", 34: '\\"', 39: "\\'", 92: "\\\\"}
_QUOTED = str.maketrans({chr(code): text for code, text in _SPECIAL.items()})


class MysqlDialect(Dialect):
    """``charset`` is the connection's."""

    quote = "`"
    equal = "<=>"
    tokens = MYSQL
    dual = " FROM DUAL"
    serial = "BIGINT AUTO_INCREMENT NOT NULL PRIMARY KEY"
    types: Mapping[str, str] = {**Dialect.types, "FLOAT": "FLOAT(10,2)", "SMALLINT": "SMALLINT UNSIGNED"}

    def __init__(self, charset: str) -> None:
        self._charset = charset

    def string(self, value: str) -> str:
        return f"'{value.translate(_QUOTED)}'"

    def bound(self, value: str | int | None) -> str:
        """A literal that ends nowhere but at its end, whatever the server's ``sql_mode`` and the connection's charset:
        quotes are doubled, and a text with a backslash is written in hexadecimal."""
        if not isinstance(value, str):
            return self.literal(value)
        if "\\" in value or "\0" in value:
            return f"_{self._charset} 0x{value.encode('latin-1').hex()}"
        return "'" + value.replace("'", "''") + "'"

    def replace(self, rest: str, insert: Insert) -> str:
        return f"REPLACE{rest}"

    def on_conflict(self, insert: Insert) -> str:
        names = [self.identifier(name) for name in insert.columns if name not in insert.key] or [self.identifier(insert.key[0])]
        return " ON DUPLICATE KEY UPDATE " + ",".join(f"{name}=VALUES({name})" for name in names)
