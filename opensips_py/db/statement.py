"""SQL statements as values: what is asked for, without a word about how a kind of database writes it.

Names are plain identifiers, or a call of a function on one (``count(*)``); values are never part of the text. A
:class:`~opensips_py.db.dialect.Dialect` makes text of a statement, and raises :class:`StatementError` for what is not a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec


class StatementError(Exception):
    """A statement cannot be put together; the text says why."""


class Time(msgspec.Struct, frozen=True, array_like=True):
    """A point in time for a column of type DATETIME: seconds since 1970."""

    seconds: int


SqlValue = str | int | float | Time | None


class Condition(NamedTuple):
    """``column operator value`` of a WHERE."""

    column: str
    operator: str
    value: SqlValue


Where = Mapping[str, SqlValue] | Sequence[Condition]
"""Which rows: columns with the values that they have, or conditions. All of them must hold."""


class _Struct(msgspec.Struct, frozen=True, array_like=True, tag=str.lower):
    """A statement. It can be kept in the shared store."""


class Select(_Struct, frozen=True):
    """No columns: all of them."""

    columns: tuple[str, ...]
    table: str
    where: tuple[Condition, ...] = ()
    order: str | None = None
    limit: int | None = None


class Insert(_Struct, frozen=True):
    """New rows, all of them or none."""

    table: str
    columns: tuple[str, ...]
    rows: tuple[tuple[SqlValue, ...], ...]
    existing: str = "error"
    """What becomes of a row that is there already: ``error``, ``replace`` it, ``update`` it, or ``keep`` it.

    ``keep`` is about a row with the same values, the others about one with the same ``key``.
    """
    key: tuple[str, ...] = ()


class Update(_Struct, frozen=True):
    """Changes of rows."""

    table: str
    values: tuple[tuple[str, SqlValue], ...]
    where: tuple[Condition, ...] = ()


class Delete(_Struct, frozen=True):
    """No condition: all rows."""

    table: str
    where: tuple[Condition, ...] = ()


class Raw(_Struct, frozen=True):
    """Text of a script or a person, with ``?`` where a value belongs."""

    text: str
    values: tuple[str | int | None, ...] = ()


Statement = Select | Insert | Update | Delete | Raw


def select(
    columns: Iterable[str], table: str, where: Where = (), *, order: str | None = None, limit: int | None = None
) -> Select:
    """SELECT; no columns: all of them."""
    return Select(tuple(columns), table, _conditions(where), order, limit)


def insert(table: str, *rows: Mapping[str, SqlValue]) -> Insert:
    """INSERT of one row or several, which have the same columns."""
    return _insert(table, rows, "error")


def replace(table: str, *rows: Mapping[str, SqlValue], key: Iterable[str] = ()) -> Insert:
    """INSERT of rows in the place of those with the same ``key`` (the columns of a unique index; PostgreSQL must know them)."""
    return _insert(table, rows, "replace", key)


def insert_update(table: str, *rows: Mapping[str, SqlValue], key: Iterable[str]) -> Insert:
    """INSERT of rows; where there is one with the same ``key`` (the columns of a unique index), UPDATE of that."""
    return _insert(table, rows, "update", key)


def insert_new(table: str, *rows: Mapping[str, SqlValue]) -> Insert:
    """INSERT of those rows that are not there yet."""
    return _insert(table, rows, "keep")


def _insert(table: str, rows: Sequence[Mapping[str, SqlValue]], existing: str, key: Iterable[str] = ()) -> Insert:
    columns = tuple(rows[0])
    return Insert(table, columns, tuple(tuple(row[name] for name in columns) for row in rows), existing, tuple(key))


def update(table: str, values: Mapping[str, SqlValue], where: Where = ()) -> Update:
    """UPDATE."""
    return Update(table, tuple(values.items()), _conditions(where))


def delete(table: str, where: Where = ()) -> Delete:
    """DELETE."""
    return Delete(table, _conditions(where))


def _conditions(where: Where) -> tuple[Condition, ...]:
    if isinstance(where, Mapping):
        return tuple(Condition(name, "=", value) for name, value in where.items())
    return tuple(where)
