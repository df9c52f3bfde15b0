"""A table in a text file.

The first line names the columns, ``id(int,auto) name(string) note(string,null)``, each further line is a row of fields with
colons between them. A backslash stands before a colon or backslash that is part of a field; ``\\n``, ``\\r``, ``\\t`` and
``\\0`` are what they are everywhere. An empty field of a column that may be NULL is NULL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opensips_py.db.database import Cell, DatabaseError, Row

_COLUMN = re.compile(r"(?P<name>[A-Za-z0-9_]+)\((?P<type>[a-z]+)(?P<rest>(?:\s*,\s*[a-z]+)*)\)")
_FIELD = re.compile(r"((?:[^\\:]|\\.)*)(?::|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_TYPES = {"int": int, "double": float, "string": str, "str": str}


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    type: type
    nullable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read."""

    columns: list[Column]
    rows: list[Row]

    def index(self, name: str) -> int:
        """Where a column is. Raises DatabaseError when there is none."""
        for number, column in enumerate(self.columns):
            if column.name == name:
                return number
        raise DatabaseError(f"there is no column {name}")


def parse(text: str, path: str) -> Table:
    """Read a file's text. DatabaseError says file, line and what is wrong."""
    head, *lines = text.replace("\r\n", "\n").split("\n")
    columns = _columns(head, path)
    rows = []
    for number, line in enumerate(lines, 2):
        if line.strip() and not line.startswith("#"):
            try:
                rows.append(_row(line, columns))
            except ValueError as error:
                raise DatabaseError(f"{path}:{number}: {error}") from None
    return Table(columns, rows)


def _columns(head: str, path: str) -> list[Column]:
    columns, rest = [], head.strip()
    while rest:
        found = _COLUMN.match(rest)
        if found is None or found["type"] not in _TYPES:
            raise DatabaseError(f"{path}:1: [{rest[:50]}] is not a column, which is name(int), name(double) or name(string)")
        attributes = {word.strip() for word in found["rest"].split(",")}
        columns.append(Column(found["name"], _TYPES[found["type"]], "null" in attributes))
        rest = rest[found.end() :].lstrip()
    if not columns:
        raise DatabaseError(f"{path}:1: the first line names no columns")
    return columns


def _row(line: str, columns: list[Column]) -> Row:
    fields = _fields(line)
    if len(fields) != len(columns):
        raise ValueError(f"{len(fields)} fields for {len(columns)} columns")
    return [_cell(field, column) for field, column in zip(fields, columns, strict=True)]


def _fields(line: str) -> list[str]:
    fields, at = [], 0
    while True:
        found = _FIELD.match(line, at)
        if found is None:
            raise ValueError("a backslash at the end of the line")
        fields.append(found[1])
        if found.end() == found.end(1):  # no colon after it
            return fields
        at = found.end()


def _cell(field: str, column: Column) -> Cell:
    if not field:
        return None if column.nullable else "" if column.type is str else column.type(0)
    text = _ESCAPE.sub(lambda found: _SPECIAL.get(found[1], found[1]), field)
    if column.type is str:
        return text
    try:
        number: Cell = column.type(text)
    except ValueError:
        raise ValueError(f"column {column.name}: [{text}] is not a number") from None
    return number
