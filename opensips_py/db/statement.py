"""SQL statements put together from names and values, for MySQL.

Values are quoted here. Names are plain identifiers, or a call of a function on one (``count(*)``); anything else is refused,
so that what comes from outside cannot become SQL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

SqlValue = str | int | float | None

_IDENTIFIER = re.compile(r"[A-Za-z0-9_$\x80-\xff]+(?:\.[A-Za-z0-9_$\x80-\xff]+){0,2}")
_CALL = re.compile(r"([A-Za-z0-9_]+)\((\*|[A-Za-z0-9_.]*)\)")
_OPERATOR = re.compile(r"[<>=!]{1,3}|[A-Za-z]+(?: [A-Za-z]+)?")
_SPECIAL = {0: "\\0", 10: "\\n", 13: "\\r", 26: "\\Z", 34: '\\"', 39: "\\'", 92: "\\\\"}
_QUOTED = str.maketrans({chr(code): text for code, text in _SPECIAL.items()})


class StatementError(Exception):
    """A statement cannot be put together; the text says why."""


class Condition(NamedTuple):
    """``column operator value`` of a WHERE."""

    column: str
    operator: str
    value: SqlValue


def identifier(name: str) -> str:
    """A name of a table or column, quoted."""
    if _IDENTIFIER.fullmatch(name) is None:
        raise StatementError(f"[{name}] is not a name of a table or column")
    return ".".join(f"`{part}`" for part in name.split("."))


def column(name: str) -> str:
    """A column of a result: a name, ``*`` or a call."""
    called = _CALL.fullmatch(name)
    if called is not None:
        return f"{called[1]}({called[2] if called[2] in ('*', '') else identifier(called[2])})"
    return "*" if name == "*" else identifier(name)


def literal(value: SqlValue) -> str:
    """A value."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return f"'{value.translate(_QUOTED)}'"
    return str(value)


def where(conditions: Sequence[Condition]) -> str:
    """`` WHERE …``, or nothing."""
    if not conditions:
        return ""
    return " WHERE " + " AND ".join(_condition(one) for one in conditions)


def _condition(one: Condition) -> str:
    name, operator, value = one
    if _OPERATOR.fullmatch(operator) is None:
        raise StatementError(f"[{operator}] is not an operator")
    if value is None and operator in ("=", "!=", "<>"):
        return f"{identifier(name)} IS {'' if operator == '=' else 'NOT '}NULL"
    return f"{identifier(name)} {operator} {literal(value)}"


def select(columns: Sequence[str], table: str, conditions: Sequence[Condition], order: str | None = None) -> str:
    """SELECT; no columns: all of them."""
    chosen = ",".join(column(name) for name in columns) or "*"
    sorting = f" ORDER BY {identifier(order)}" if order else ""
    return f"SELECT {chosen} FROM {identifier(table)}{where(conditions)}{sorting}"


def insert(table: str, pairs: Sequence[tuple[str, SqlValue]], verb: str = "INSERT") -> str:
    """INSERT (or REPLACE) of one row."""
    names = ",".join(identifier(name) for name, _ in pairs)
    return f"{verb} INTO {identifier(table)} ({names}) VALUES ({','.join(literal(value) for _, value in pairs)})"


def update(table: str, pairs: Sequence[tuple[str, SqlValue]], conditions: Sequence[Condition]) -> str:
    """UPDATE."""
    changes = ",".join(f"{identifier(name)}={literal(value)}" for name, value in pairs)
    return f"UPDATE {identifier(table)} SET {changes}{where(conditions)}"


def delete(table: str, conditions: Sequence[Condition]) -> str:
    """DELETE."""
    return f"DELETE FROM {identifier(table)}{where(conditions)}"


def insert_new(table: str, rows: Sequence[Sequence[tuple[str, SqlValue]]]) -> str:
    """INSERT of those rows that are not there yet."""
    names = ",".join(identifier(name) for name, _ in rows[0])
    found = []
    for row in rows:
        values = ",".join(literal(value) for _, value in row)
        same = " AND ".join(f"{identifier(name)} <=> {literal(value)}" for name, value in row)
        found.append(f"SELECT {values} FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM {identifier(table)} WHERE {same})")
    return f"INSERT INTO {identifier(table)} ({names}) {' UNION ALL '.join(found)}"


# --- what scripts write as JSON ----------------------------------------------------------------------------------------


def columns_of(text: str) -> list[str]:
    """``["a","b"]``."""
    found = _array(text, "columns")
    if not all(isinstance(item, str) for item in found):
        raise StatementError(f'columns are names: ["a","b"], not {text}')
    return [_bytes(item) for item in found]


def pairs_of(text: str) -> list[tuple[str, SqlValue]]:
    """``[{"a":"text"},{"b":1},{"c":null}]``."""
    pairs = [(name, _value(value)) for item in _array(text, "columns") for name, value in _items(item)]
    if not pairs:
        raise StatementError("there are no columns to write")
    return pairs


def conditions_of(text: str) -> list[Condition]:
    """``[{"a":"text"},{"b":{">":1}},{"c":{"!=":null}}]``."""
    found = []
    for item in _array(text, "filter"):
        for name, value in _items(item):
            if isinstance(value, dict):
                found += [Condition(name, _bytes(operator), _value(one)) for operator, one in value.items()]
            else:
                found.append(Condition(name, "=", _value(value)))
    return found


def _array(text: str, what: str) -> list[Any]:
    try:
        found = msgspec.json.decode(text.encode("latin-1"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StatementError(f"{what}: not JSON: {error} in [{text[:200]}]") from None
    if not isinstance(found, list):
        raise StatementError(f"{what}: a JSON array is expected, not [{text[:200]}]")
    return found


def _items(item: Any) -> list[tuple[str, Any]]:
    if not isinstance(item, dict) or not item:
        raise StatementError('each element of the array is an object: {"column":"value"}')
    return [(_bytes(name), value) for name, value in item.items()]


def _value(value: Any) -> SqlValue:
    if isinstance(value, str):
        return _bytes(value)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise StatementError(f"a value is a text, a number or null, not {value}")


def _bytes(text: str) -> str:
    """As scripts carry texts."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")
