"""A database, whatever kind it is, and the kinds that there are.

The scheme of a URL names the kind: ``mysql://`` is what module db_mysql brings, and only a script that loads it may use it. Each
process has one :class:`Database` for a URL, which all modules share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from opensips_py.db.dialect import Dialect
from opensips_py.db.statement import Statement, select
from opensips_py.engine.operation import Done, Operation
from opensips_py.script import environment
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this

Cell = str | int | float | None
"""A value of a row. Texts are latin-1, points in time seconds since 1970."""
Row = list[Cell]

PATIENCE = 10.0
"""Seconds that a read which holds up its process may take."""
VERSIONS = "version"
"""The table that says which version each table of OpenSIPS has."""
LEDGER = "opensips_py_done"
"""The table of changes that have been made, for those that may be asked for again."""


class DatabaseError(Exception):
    """A database does not answer, or refuses a statement; the text says why."""


class Result(NamedTuple):
    """The answer of a database to a statement that it has accepted."""

    rows: list[Row]
    columns: int = 0
    """How many there are; 0 when the statement is none that gives rows."""


class How(NamedTuple):
    """How a statement is asked."""

    typed: bool = True
    """Numbers with a fraction and those beyond 32 bits are numbers in the result, not text as the database writes it."""
    whole: bool = False
    """The answer may be as large as it is."""
    once: str = ""
    """A name for the change: under one name it is made once, by whomever and however often it is asked for within an hour."""


class Rejected(Done):
    """The end of a :class:`Call` when the database has answered that it does not accept the statement. It is logged."""


class Answered(Done):
    """The end of a :class:`Call` that has a result."""

    result: Result

    @classmethod
    def of(cls, result: Result) -> Answered:
        done = cls(1)
        done.result = result
        return done


class Call(Operation):
    """One statement on its way to a database: ends with ``Answered``, or with the code of what has failed, which is logged.

    It freezes what its kind of database needs to go on; the statement itself is kept by :class:`~opensips_py.db.query.Query`.
    """


ANOTHER = 1 << 48
"""What the ``serial`` of an operation grows by when it goes on with another call, whose descriptor may have the same number."""


class Database:
    """One database. Each kind has its subclass."""

    dialect: Dialect

    def __init__(self, url: str) -> None:
        """Raises ValueError, whose text says what is wrong with the URL."""
        self.url = url

    @property
    def name(self) -> str:
        """The URL for people, without a password."""
        raise NotImplementedError  # abstract

    def call(self, statement: Statement, how: How) -> Call:
        """Ask. Raises StatementError."""
        raise NotImplementedError  # abstract

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        """Go on with the call of another process."""
        raise NotImplementedError  # abstract

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        """Ask and wait, which holds up the process: for what is read before the processes are forked, and for tools.

        Raises DatabaseError and StatementError.
        """
        raise NotImplementedError  # abstract

    def create(self) -> None:
        """Make the database itself, if it is not there; for tools. Raises DatabaseError."""

    def close(self) -> None:
        """Close connections that are not used."""

    def version_of(self, table: str) -> int:
        """The version of a table by table ``version``; 0: none. Raises DatabaseError."""
        rows = self.read(select(["table_version"], VERSIONS, {"table_name": table})).rows
        version = rows[0][0] if rows else 0
        return version if isinstance(version, int) else 0

    def check_version(self, table: str, expected: int) -> None:
        """Refuse to start with a table of another version (OpenSIPS: "invalid version"). Raises ConfigError."""
        try:
            found = self.version_of(table)
        except DatabaseError as error:
            raise ConfigError(f"cannot read the version of table {table} in {self.name}: {error}") from None
        if found != expected:
            raise ConfigError(
                f"invalid version {found} for table {table} found, expected {expected}, in {self.name}; "
                "opensips-py-db create URL makes the tables"
            )


_kinds: dict[str, Callable[[str], Database]] = {}
_open: dict[str, Database] = {}


def register(scheme: str, kind: Callable[[str], Database]) -> None:
    """Make a kind of database known. Module ``db_SCHEME`` does that."""
    _kinds[scheme] = kind


def module_of(url: str) -> str:
    """The module that is needed for a URL. Raises ValueError."""
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme.isidentifier():
        raise ValueError(f"[{url}] is no database URL, which begins with mysql://, sqlite:// or another kind of database")
    return f"db_{scheme}"


def check(url: str) -> None:
    """Whether a database can be used, without asking it. ValueError says what is wrong."""
    module = module_of(url)
    script = environment.checked()
    if script is not None:
        if not script.loads_module(module):
            raise ValueError(f'the database needs module {module}, which is not loaded: add loadmodule "{module}.so"')
        if module[3:] not in _kinds:
            return  # it does not exist here, which has been said
    open(url)


def open(url: str) -> Database:
    """The database of this process for a URL. Nothing is asked of it yet. Raises ValueError."""
    found = _open.get(url)
    if found is None:
        module = module_of(url)
        kind = _kinds.get(module[3:])
        if kind is None:
            raise ValueError(f"databases of kind {module[3:]} are not supported; there are {', '.join(sorted(_kinds))}")
        found = _open[url] = kind(url)
    return found


def opened() -> list[Database]:
    """The databases that are in use in this process."""
    return list(_open.values())


def close_all() -> None:
    """Close the connections of this process that are not used."""
    for database in _open.values():
        database.close()


def forget_all() -> None:
    """Know no database any more."""
    close_all()
    _open.clear()


def settings() -> Any:
    """The core parameters of the script that is being checked, or runs."""
    checked = environment.checked()
    return checked.settings if checked is not None else this.program.settings
