"""What scripts write as JSON: columns, values and conditions."""

from __future__ import annotations

from typing import Any

import msgspec

from opensips_py.db.statement import Condition, SqlValue, StatementError


def columns_of(text: str) -> list[str]:
    """``["a","b"]``."""
    found = _array(text, "columns")
    if not all(isinstance(item, str) for item in found):
        raise StatementError(f'columns are names: ["a","b"], not {text}')
    return [_bytes(item) for item in found]


def values_of(text: str) -> dict[str, SqlValue]:
    """``[{"a":"text"},{"b":1},{"c":null}]``."""
    values = {name: _value(value) for item in _array(text, "columns") for name, value in _items(item)}
    if not values:
        raise StatementError("there are no columns to write")
    return values


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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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
