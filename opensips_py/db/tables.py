"""The tables of OpenSIPS 3.1, with their versions, and how they are made, checked and removed.

``data/tables.json`` has them, a column as ``name TYPE(size) DEFAULT value NOT NULL``; each kind of database has its own names for
the types (``Dialect.types``). Everything here waits for the database: it is for tools.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache
from importlib import resources

import msgspec

from opensips_py.db.database import LEDGER, VERSIONS, Database, DatabaseError
from opensips_py.db.dialect import Dialect
from opensips_py.db.statement import Raw, delete, insert, select

_COLUMN = re.compile(
    r"(?P<name>\w+) (?P<type>[A-Z]+)(?:\((?P<size>[\d,]+)\))?"
    r"(?P<key> PRIMARY KEY)?(?P<serial> AUTOINCREMENT)?(?: DEFAULT (?P<default>'[^']*'|\S+))?(?P<filled> NOT NULL)?"
)


class Table(msgspec.Struct, frozen=True):
    """One table."""

    version: int
    columns: list[str]
    unique: list[list[str]] = []
    """Columns that no two rows have in common."""
    indexes: list[list[str]] = []
    """Columns by which rows are looked for."""

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return [definition.split(" ", 1)[0] for definition in self.columns]


@cache
def tables() -> dict[str, Table]:
    """All of them, by name."""
    data = resources.files("opensips_py.db").joinpath("data/tables.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, Table])


def definitions(name: str, table: Table, dialect: Dialect) -> list[str]:
    """The statements that make a table."""
    columns = [_column(definition, dialect) for definition in table.columns]
    columns += [f"UNIQUE ({_names(unique, dialect)})" for unique in table.unique]
    made = [f"CREATE TABLE {dialect.identifier(name)} ({', '.join(columns)})"]
    for number, index in enumerate(table.indexes, 1):
        called = dialect.identifier(f"{name}_{number}_idx")
        made.append(f"CREATE INDEX {called} ON {dialect.identifier(name)} ({_names(index, dialect)})")
    return made


def _names(columns: Iterable[str], dialect: Dialect) -> str:
    return ", ".join(map(dialect.identifier, columns))


def _column(definition: str, dialect: Dialect) -> str:
    part = _COLUMN.fullmatch(definition)
    assert part is not None, definition
    name = dialect.identifier(part["name"])
    if part["serial"]:
        return f"{name} {dialect.serial}"
    kind = dialect.types[part["type"]].format(size=part["size"])
    key = " PRIMARY KEY" if part["key"] else ""
    default = part["default"]
    if default is not None and default != "NULL" and not default.startswith("'") and part["type"] == "CHAR":
        default = f"'{default}'"
    chosen = "" if default is None else f" DEFAULT {default}"
    return f"{name} {kind}{chosen}{' NOT NULL' if part['filled'] else ''}{key}"


# --- with a database ----------------------------------------------------------------------------------------------------


def versions(database: Database) -> dict[str, int] | None:
    """The versions of the tables that there are, by table ``version``; None: there is no such table. Raises DatabaseError."""
    database.read(Raw("SELECT 1"))  # it answers
    if not exists(database, VERSIONS):
        return None
    rows = database.read(select(["table_name", "table_version"], VERSIONS)).rows
    return {str(name): version for name, version in rows if isinstance(version, int)}


def exists(database: Database, table: str) -> bool:
    """Whether there is a table, in a database that answers."""
    try:
        database.read(select([], table, limit=0))
    except DatabaseError:
        return False
    return True


def create(database: Database, wanted: Collection[str]) -> list[str]:
    """Make those tables that are not there; their names. Raises DatabaseError."""
    dialect = database.dialect
    known = versions(database)
    if known is None:
        columns = [
            f"table_name {dialect.types['CHAR'].format(size=32)} NOT NULL PRIMARY KEY",
            f"table_version {dialect.types['INTEGER']} DEFAULT 0 NOT NULL",
        ]
        database.read(Raw(f"CREATE TABLE {dialect.identifier(VERSIONS)} ({', '.join(columns)})"))
        known = {}
    there = {name for name in wanted if exists(database, name)}
    for name in there & known.keys():
        if known[name] != tables()[name].version:
            raise DatabaseError(
                f"table {name} has version {known[name]}, not {tables()[name].version}: it is of another version of OpenSIPS"
            )
    made = []
    for name in wanted:
        table = tables()[name]
        if name not in there:
            for statement in definitions(name, table, dialect):
                database.read(Raw(statement))
            made.append(name)
        if name not in known:
            database.read(insert(VERSIONS, {"table_name": name, "table_version": table.version}))
    return made


def drop(database: Database, unwanted: Iterable[str]) -> list[str]:
    """Remove tables with everything in them, those that are there; their names. Raises DatabaseError."""
    gone = []
    known = versions(database)
    for name in unwanted:
        if exists(database, name):
            database.read(Raw(f"DROP TABLE {database.dialect.identifier(name)}"))
            gone.append(name)
        if known is not None and name in known:
            database.read(delete(VERSIONS, {"table_name": name}))
    if not versions(database):
        for table in (VERSIONS, LEDGER):
            database.read(Raw(f"DROP TABLE IF EXISTS {database.dialect.identifier(table)}"))
    return gone


def faults(database: Database, wanted: Iterable[str]) -> list[str]:
    """What is wrong with tables, a line for each. Raises DatabaseError."""
    known = versions(database)
    if known is None:
        return [f"there is no table {VERSIONS}"]
    found = []
    for name in wanted:
        table = tables()[name]
        if not exists(database, name):
            found.append(f"there is no table {name}")
            continue
        if known.get(name) != table.version:
            found.append(f"table {name} has version {known.get(name, 0)}, not {table.version}")
        found += [f"table {name} has no column {column}" for column in _missing(database, name, table.names)]
    return found


def _missing(database: Database, table: str, columns: list[str]) -> list[str]:
    """Columns that a table does not have."""
    try:
        database.read(select(columns, table, limit=0))
    except DatabaseError:
        return columns if len(columns) == 1 else [one for name in columns for one in _missing(database, table, [name])]
    return []
