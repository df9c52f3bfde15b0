"""How a kind of database writes statements: names, values, and what is different from the standard.

Values are quoted here and nowhere else, so that what comes from outside cannot become SQL.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from opensips_py.db.places import STANDARD, pieces_of
from opensips_py.db.statement import Condition, Delete, Insert, Raw, Select, SqlValue, Statement, StatementError, Time, Update

_IDENTIFIER = re.compile(r"[A-Za-z0-9_$\x80-\xff]+(?:\.[A-Za-z0-9_$\x80-\xff]+){0,2}")
_CALL = re.compile(r"([A-Za-z0-9_]+)\((\*|[A-Za-z0-9_.]*)\)")
_OPERATOR = re.compile(r"[<>=!]{1,3}|[A-Za-z]+(?: [A-Za-z]+)?")


def check_name(name: str) -> None:
    """Raises StatementError for what is not the name of a table or column."""
    if _IDENTIFIER.fullmatch(name) is None:
        raise StatementError(f"[{name}] is not a name of a table or column")


class Dialect:
    """Standard SQL; subclasses override what differs. Every method raises StatementError."""

    quote = '"'
    """Stands around names."""
    equal = "IS NOT DISTINCT FROM"
    """The comparison that holds for two NULLs."""
    tokens = STANDARD
    """What strings, names and comments are, in which there is no place for a value."""
    dual = ""
    """``FROM`` of a SELECT without a table."""
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL"
    """A column that numbers the rows."""
    types: Mapping[str, str] = {
        "CHAR": "CHAR({size})",
        "TEXT": "TEXT",
        "BLOB": "BLOB",
        "INTEGER": "INTEGER",
        "BIGINT": "BIGINT",
        "SMALLINT": "SMALLINT",
        "TINYINT": "SMALLINT",
        "DOUBLE": "DOUBLE",
        "FLOAT": "FLOAT",
        "DATETIME": "DATETIME",
    }
    """Types of columns, by the names that ``data/tables.json`` has for them."""

    # --- names and values -------------------------------------------------------------------------------------------

    def identifier(self, name: str) -> str:
        """A name of a table or column."""
        check_name(name)
        return ".".join(f"{self.quote}{part}{self.quote}" for part in name.split("."))

    def column(self, name: str) -> str:
        """A column of a result: a name, ``*`` or a call."""
        called = _CALL.fullmatch(name)
        if called is not None:
            return f"{called[1]}({called[2] if called[2] in ('*', '') else self.identifier(called[2])})"
        return "*" if name == "*" else self.identifier(name)

    def literal(self, value: SqlValue) -> str:
        """A value."""
        if isinstance(value, str):
            return self.string(value)
        if value is None:
            return "NULL"
        if isinstance(value, Time):
            return f"'{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(value.seconds))}'"
        return str(int(value)) if isinstance(value, int) else repr(value)

    def string(self, value: str) -> str:
        """A text, which ends nowhere but at its end."""
        return "'" + value.replace("'", "''") + "'"

    # --- statements -------------------------------------------------------------------------------------------------

    def text(self, statement: Statement) -> str:
        """The statement as text."""
        match statement:
            case Select():
                return self._select(statement)
            case Insert():
                return self._insert(statement)
            case Update():
                changes = ",".join(f"{self.identifier(name)}={self.literal(value)}" for name, value in statement.values)
                return f"UPDATE {self.identifier(statement.table)} SET {changes}{self._where(statement.where)}"
            case Delete():
                return f"DELETE FROM {self.identifier(statement.table)}{self._where(statement.where)}"
            case Raw():
                return self._raw(statement)

    def _select(self, select: Select) -> str:
        chosen = ",".join(self.column(name) for name in select.columns) or "*"
        sorting = f" ORDER BY {self.identifier(select.order)}" if select.order else ""
        most = "" if select.limit is None else f" LIMIT {select.limit}"
        return f"SELECT {chosen} FROM {self.identifier(select.table)}{self._where(select.where)}{sorting}{most}"

    def _where(self, conditions: Sequence[Condition]) -> str:
        return " WHERE " + " AND ".join(self._condition(*one) for one in conditions) if conditions else ""

    def _condition(self, name: str, operator: str, value: SqlValue) -> str:
        if _OPERATOR.fullmatch(operator) is None:
            raise StatementError(f"[{operator}] is not an operator")
        if value is None and operator in ("=", "!=", "<>"):
            return f"{self.identifier(name)} IS {'' if operator == '=' else 'NOT '}NULL"
        return f"{self.identifier(name)} {operator} {self.literal(value)}"

    def _insert(self, insert: Insert) -> str:
        columns = [self.identifier(name) for name in insert.columns]
        head = f" INTO {self.identifier(insert.table)} ({','.join(columns)}) "
        if insert.existing == "keep":
            return f"INSERT{head}{' UNION ALL '.join(self._unless_there(insert, columns, row) for row in insert.rows)}"
        rows = "VALUES " + ",".join(f"({','.join(map(self.literal, row))})" for row in insert.rows)
        if insert.existing == "replace":
            return self.replace(head + rows, insert)
        if insert.existing == "update":
            return f"INSERT{head}{rows}{self.on_conflict(insert)}"
        return f"INSERT{head}{rows}"

    def _unless_there(self, insert: Insert, columns: Sequence[str], row: Sequence[SqlValue]) -> str:
        values = [self.literal(value) for value in row]
        same = " AND ".join(f"{name} {self.equal} {value}" for name, value in zip(columns, values, strict=True))
        there = f"SELECT 1 FROM {self.identifier(insert.table)} WHERE {same}"
        return f"SELECT {','.join(values)}{self.dual} WHERE NOT EXISTS ({there})"

    def replace(self, rest: str, insert: Insert) -> str:
        """INSERT in the place of rows with the same key."""
        if not insert.key:
            raise StatementError("rows can only be replaced here where their key is known")
        return f"INSERT{rest}{self.on_conflict(insert)}"

    def on_conflict(self, insert: Insert) -> str:
        """The end of an INSERT that updates rows with the same key."""
        key = ",".join(self.identifier(name) for name in insert.key)
        others = [self.identifier(name) for name in insert.columns if name not in insert.key]
        changes = ",".join(f"{name}=excluded.{name}" for name in others)
        return f" ON CONFLICT ({key}) DO UPDATE SET {changes}" if others else f" ON CONFLICT ({key}) DO NOTHING"

    def _raw(self, raw: Raw) -> str:
        pieces = pieces_of(raw.text, self.tokens)
        if len(pieces) - 1 != len(raw.values):
            places = len(pieces) - 1
            raise StatementError(f"the query has {places} places (?) for {len(raw.values)} values: [{raw.text[:200]}]")
        if not raw.values:
            return raw.text
        out = [pieces[0]]
        for value, piece in zip(raw.values, pieces[1:], strict=True):
            out += (self.bound(value), piece)
        return "".join(out)

    def bound(self, value: str | int | None) -> str:
        """A value for a ``?``, whatever the settings of the database are."""
        return self.literal(value)
