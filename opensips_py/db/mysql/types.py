"""Values of a result in their types."""

from __future__ import annotations

from typing import cast

from opensips_py.db.database import Cell, Row
from opensips_py.db.mysql.result import ResultReader

_INTEGERS = frozenset((3, 8))  # LONG (unsigned, beyond what a script's numbers hold) and BIGINT
_FRACTIONS = frozenset((4, 5))  # FLOAT DOUBLE; DECIMAL stays text: it is exact


def rows_of(reader: ResultReader, typed: bool) -> list[Row]:
    """The rows that have been read; ``typed`` as for ``Database.call``."""
    rows = cast("list[Row]", reader.rows)
    if typed:
        for column, kind in enumerate(reader.columns):
            if kind in _INTEGERS or kind in _FRACTIONS:
                for row in rows:
                    row[column] = _number(row[column], int if kind in _INTEGERS else float)
    return rows


def _number(value: Cell, kind: type[int] | type[float]) -> Cell:
    return kind(value) if isinstance(value, str) else value
