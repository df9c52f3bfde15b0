"""Partitions: where rules come from, and how all processes get the same ones.

The rules are read before the processes are forked, so that each has them from the start. ``dp_reload`` puts new ones into the
shared store: ``l`` + partition holds the number of the latest load and its rows. A process compares the number before it
translates, and compiles the rows when it is another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ipc.prefixes import prefix
from opensips_py import db
from opensips_py.modules.dialplan import declared
from opensips_py.modules.dialplan.rules import Row, RuleSet
from opensips_py.script.declarations import ConfigError
from opensips_py.script.variables import Registry
from opensips_py.server.process import this

PREFIX = prefix(b"l", "reloaded rules", __name__)
DEFAULT = "default"
PATIENCE = 10
"""Seconds that connecting and reading may take."""


class LoadError(Exception):
    """The rules could not be read; the text says why."""


@dataclass(slots=True)
class Partition:
    """One table of rules."""

    name: str
    db_url: str
    table: str
    columns: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    """As read before the fork."""
    number: bytes = b""
    """Of the load that ``rules`` were made from; empty: the one before the fork."""
    rules: RuleSet | None = None


partitions: dict[str, Partition] = {}

_NUMBER = 8
"""Bytes of a load's number before its rows."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode


def configure() -> None:
    """Read the parameters, and the rules of every partition. Raises ConfigError."""
    partitions.clear()
    for parameter in (declared.table_name, *declared.columns.values()):
        _check_name(parameter.name, parameter.value)
    default_url = declared.db_url.value or getattr(this.program.settings, "db_default_url", None) or ""
    columns = {name: parameter.value for name, parameter in declared.columns.items()}
    given = [_partition(text, default_url, columns) for text in declared.partition.value]
    if default_url and (declared.db_url.value or not given) and not any(p.name == DEFAULT for p in given):
        given.insert(0, Partition(DEFAULT, default_url, declared.table_name.value, columns))
    if not given:
        raise ConfigError("dialplan: no database: set db_url, a partition, or the core parameter db_default_url")
    for partition in given:
        if partition.name in partitions:
            raise ConfigError(f"dialplan: there are two partitions {partition.name}")
        try:
            partition.rows = read(partition)
        except LoadError as error:
            raise ConfigError(f"dialplan: {error}") from None
        partitions[partition.name] = partition


def _check_name(parameter: str, name: str) -> None:
    if not name.replace("_", "a").replace(".", "a").isalnum():
        raise ConfigError(f"dialplan: {parameter}: {name!r} is not the name of a table or column")


def _partition(text: str, default_url: str, columns: dict[str, str]) -> Partition:
    """Read ``name: key=value; key=value``."""
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if not colon or not name or "=" in name:
        raise ConfigError(f'dialplan: partition: "{text}" is not of the form "name: db_url=URL; table_name=TABLE"')
    made = Partition(name, default_url, declared.table_name.value, dict(columns))
    for pair in filter(None, (pair.strip() for pair in rest.split(";"))):
        key, _, value = (part.strip() for part in pair.partition("="))
        if key == "db_url":
            made.db_url = value
            continue
        _check_name(f"partition {name}: {key}", value)
        if key == "table_name":
            made.table = value
        elif key.removesuffix("_col") in columns and key.endswith("_col"):
            made.columns[key.removesuffix("_col")] = value
        else:
            raise ConfigError(f"dialplan: partition {name}: unknown setting {key!r}")
    if not made.db_url:
        raise ConfigError(f"dialplan: partition {name} has no db_url")
    return made


def read(partition: Partition) -> list[Row]:
    """Read the rules from the database, waiting for it. Raises LoadError."""
    try:
        database = db.open(partition.db_url)
    except ValueError as error:
        raise LoadError(f"partition {partition.name}: db_url: {error}") from None
    try:
        return rows_of(partition, database.read(selection(partition), PATIENCE))
    except db.DatabaseError as error:
        raise LoadError(f"partition {partition.name}: cannot read table {partition.table} of {database.name}: {error}") from None
    except db.StatementError as error:
        raise LoadError(f"partition {partition.name}: table {partition.table}: {error}") from None


def selection(partition: Partition) -> db.Statement:
    """What is asked of the database."""
    return db.select([partition.columns[name] for name in declared.COLUMNS], partition.table)


def rows_of(partition: Partition, result: db.Result) -> list[Row]:
    """The rules in the answer. Raises LoadError."""
    try:
        return [_row(values) for values in result.rows]
    except ValueError as error:
        raise LoadError(f"partition {partition.name}: table {partition.table}: {error}") from None


_NUMBERS = frozenset(("dpid", "pr", "match_op", "match_flags", "disabled"))


def _row(values: db.Row) -> Row:
    fields: list[str | int] = []
    for name, value in zip(declared.COLUMNS, values, strict=True):
        if name in _NUMBERS:
            fields.append(int(value or 0))
        else:
            fields.append("" if value is None else str(value))
    return msgspec.convert(fields, Row)


def _key(partition: Partition) -> bytes:
    return PREFIX + partition.name.encode("latin-1")


def publish(partition: Partition, rows: list[Row]) -> None:
    """Give new rules to all processes."""
    key = _key(partition)
    with this.store.batch() as batch:
        before = batch.get(key + b"\0number") or b""
        number = (int.from_bytes(before, "big") + 1).to_bytes(_NUMBER, "big")
        batch.put(key + b"\0number", number)
        batch.put(key + b"\0rows", number + _encode(rows))


def rules(partition: Partition) -> RuleSet:
    """The rules that hold now."""
    number = this.store.get(_key(partition) + b"\0number") or b""
    if partition.rules is not None and number == partition.number:
        return partition.rules
    registry: Registry = this.program.registry
    rows = partition.rows
    if number:
        data = this.store.get(_key(partition) + b"\0rows") or number + _encode(rows)
        number, rows = data[:_NUMBER], _decode(data[_NUMBER:])
    partition.rules = RuleSet(rows, registry, partition.name)
    partition.number = number
    return partition.rules
