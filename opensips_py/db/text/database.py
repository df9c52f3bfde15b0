"""A directory of text files behind the common interface. A file is read again when it has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from opensips_py.db.database import PATIENCE, Call, Cell, Database, DatabaseError, How, Result, Row
from opensips_py.db.dialect import check_name
from opensips_py.db.immediate import ImmediateCall
from opensips_py.db.statement import Condition, Select, Statement, StatementError, Time
from opensips_py.db.text.table import Table, parse
from opensips_py.engine.lost_operation import close_all
from opensips_py.server.log import ERROR, log

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


class TextDatabase(Database):
    """``text://``."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        path = url.removeprefix("text:")
        self.directory = "/" + path.strip("/")
        if not path.startswith("/") or (path.startswith("//") and not path.startswith("///")):
            raise ValueError(f"[{url}] names no directory: the path must be absolute, as in text:///etc/opensips/dbtext")
        self._tables: dict[str, tuple[tuple[int, int, int], Table]] = {}
        self._broken: dict[str, tuple[int, int, int]] = {}

    @property
    def name(self) -> str:
        return f"text://{self.directory}"

    def call(self, statement: Statement, how: How) -> Call:
        return ImmediateCall("db_text", self._select(statement, how.typed))

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        close_all(fds)
        return self.call(statement, how)

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        return self._select(statement, True)()

    def reload(self) -> None:
        """Read every table that is in use again. DatabaseError says what is wrong with one; it stays as it was."""
        for name in list(self._tables):
            self._load(self._path(name))

    # --- files ------------------------------------------------------------------------------------------------------

    def _path(self, table: str) -> str:
        check_name(table)
        return f"{self.directory}/{table}"

    def table(self, name: str) -> Table:
        """A table as its file has it now. One that cannot be read any more stays as it was. Raises DatabaseError."""
        path = self._path(name)
        known = self._tables.get(name)
        try:
            found = os.stat(path.encode("latin-1"))
        except OSError as error:
            if known is not None:
                return known[1]
            there = os.path.isdir(self.directory.encode("latin-1"))
            raise DatabaseError(
                f"table {path}: {error.strerror}" if there else f"database [{self.directory}] does not exist!"
            ) from None
        state = (found.st_ino, found.st_mtime_ns, found.st_size)
        if known is not None and state in (known[0], self._broken.get(name)):
            return known[1]
        try:
            table = self._load(path)
        except DatabaseError as error:
            if known is None:
                raise
            self._broken[name] = state
            log(ERROR, "db_text", "read", f"{error}; the table stays as it was")
            return known[1]
        self._tables[name] = (state, table)
        return table

    @staticmethod
    def _load(path: str) -> Table:
        try:
            with open(path.encode("latin-1"), "rb") as file:
                return parse(file.read().decode("latin-1"), path)
        except OSError as error:
            raise DatabaseError(f"table {path}: {error.strerror}") from None

    # --- questions --------------------------------------------------------------------------------------------------

    def _select(self, statement: Statement, typed: bool) -> Callable[[], Result]:
        if not isinstance(statement, Select):
            raise StatementError(f"{self.name}: text files are only read, and not by SQL: use another kind of database")
        self._path(statement.table)  # a name
        return lambda: self._result(statement, typed)

    def _result(self, select: Select, typed: bool) -> Result:
        table = self.table(select.table)
        rows = [row for row in table.rows if all(self._holds(table, row, one) for one in select.where)]
        if select.order:
            column = table.index(select.order)
            rows.sort(key=lambda row: (row[column] is not None, row[column]))
        if select.columns == ("count(*)",):
            return Result([[len(rows)]], 1)
        rows = rows[: select.limit]
        names = [name for name in select.columns if name != "*"] or [column.name for column in table.columns]
        chosen = [table.index(name) for name in names]
        return Result([[_shown(row[number], typed) for number in chosen] for row in rows], len(chosen))

    @staticmethod
    def _holds(table: Table, row: Row, condition: Condition) -> bool:
        compare = _OPERATORS.get(condition.operator)
        if compare is None:
            raise DatabaseError(f"the operator {condition.operator} is not known to text files")
        number = table.index(condition.column)
        value, wanted = row[number], condition.value
        if isinstance(wanted, Time):
            wanted = wanted.seconds
        if wanted is None or value is None:
            return compare(value, wanted) if condition.operator in ("=", "==", "!=", "<>") and wanted is None else False
        if table.columns[number].type is str:
            return compare(value, str(wanted))
        try:
            return compare(value, float(wanted))
        except ValueError:
            return condition.operator in ("!=", "<>")


def _shown(value: Cell, typed: bool) -> Cell:
    if not typed and (isinstance(value, float) or (isinstance(value, int) and not -0x80000000 <= value <= 0x7FFFFFFF)):
        return repr(value)
    return value
