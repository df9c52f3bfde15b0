"""Partitions: where rules come from. All processes have the same ones (:mod:`opensips_py.db.reloaded`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ipc.prefixes import prefix
from opensips_py import db
from opensips_py.db.reloaded import Reloaded
from opensips_py.modules.dialplan import declared
from opensips_py.modules.dialplan.rules import Row, RuleSet
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this

PREFIX = prefix(b"l", "reloaded rules", __name__)
DEFAULT = "default"
PATIENCE = 10
"""Seconds that connecting and reading may take."""


@dataclass(slots=True)
class Partition:
    """One table of rules."""

    name: str
    db_url: str
    table: str
    columns: dict[str, str]
    rules: Reloaded[RuleSet] = field(init=False)

    def __post_init__(self) -> None:
        self.rules = Reloaded(PREFIX + self.name.encode("latin-1"), self._compiled)

    def _compiled(self, rows: list[db.Row]) -> RuleSet:
        return RuleSet([_row(values) for values in rows], this.program.registry, self.name)

    @property
    def statement(self) -> db.Statement:
        """The question for its rows."""
        return db.select([self.columns[name] for name in declared.COLUMNS], self.table)


partitions: dict[str, Partition] = {}


def names() -> set[str]:
    """Of all partitions, by the parameters."""
    return {DEFAULT, *(text.partition(":")[0].strip() for text in declared.partition.value)}


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
            partition.rules.begin(db.open(partition.db_url), partition.statement, PATIENCE)
        except (db.DatabaseError, db.StatementError, ValueError) as error:
            raise ConfigError(f"dialplan: partition {partition.name}: cannot read table {partition.table}: {error}") from None
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


_NUMBERS = frozenset(("dpid", "pr", "match_op", "match_flags", "disabled"))


def _row(values: db.Row) -> Row:
    fields: list[str | int] = []
    for name, value in zip(declared.COLUMNS, values, strict=True):
        if name in _NUMBERS:
            fields.append(int(value or 0))
        else:
            fields.append("" if value is None else str(value))
    return msgspec.convert(fields, Row)
