"""Partitions: tables of destinations, each with AVPs of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ipc.store import Batch
from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db.dialect import check_name
from opensips_py.db.reloaded import Reloaded
from opensips_py.modules.dispatcher import declared, live
from opensips_py.modules.dispatcher.live import PREFIX
from opensips_py.modules.dispatcher.sets import Sets, made_of
from opensips_py.script.declarations import ConfigError, ModuleParameter
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this

DEFAULT = "default"
_VERSIONS = (8, 7)
"""Of the table; 3.1 takes the one before it, too."""
_LONGEST = 64
"""Of a partition's name, which is part of keys."""

_AVP = re.compile(r"\$avp\(\s*([^()$\s]+)\s*\)").fullmatch
_NAME = re.compile(r"[^\s:;=\0]+").fullmatch
_AVPS: dict[str, ModuleParameter[str]] = {
    parameter.name: parameter
    for parameter in (
        declared.dst_avp,
        declared.grp_avp,
        declared.cnt_avp,
        declared.sock_avp,
        declared.attrs_avp,
        declared.script_attrs_avp,
    )
}
_OWN_AVPS = ("dst_avp", "grp_avp", "cnt_avp", "sock_avp")
"""Each partition has its own, by its name, unless it says otherwise."""


class Table(Reloaded[Sets]):
    """The destinations of a partition, and their states."""

    def __init__(self, partition: str) -> None:
        super().__init__(PREFIX + f"{partition}\0".encode("latin-1"), _made)
        self._partition = partition

    def begin(self, database: db.Database, statement: db.Statement, seconds: float = databases.PATIENCE) -> Sets:
        found = super().begin(database, statement, seconds)
        _complain(found, self._partition)
        return found

    def check(self, rows: list[db.Row]) -> None:
        """Tells what is wrong with rows; those that are right are used."""
        _complain(_made(rows), self._partition)

    def put(self, batch: Batch, rows: list[db.Row]) -> None:
        live.carry_over(batch, self._partition, _made(self.rows_before(batch)), _made(rows))
        super().put(batch, rows)


def _made(rows: list[db.Row]) -> Sets:
    return made_of(rows, this.program.sockets, bool(declared.persistent_state.value))


def _complain(found: Sets, partition: str) -> None:
    for fault in found.faults:
        log(WARNING, "dispatcher", "load", f"partition {partition}: {fault}")
    if not found.groups:
        log(WARNING, "dispatcher", "load", f"no dispatching data in the db -- empty destination set (partition {partition})")


@dataclass
class Partition:
    """One table of destinations."""

    name: str
    url: str
    table: str
    avps: dict[str, str]
    """Names of AVPs by parameter; empty: none."""
    order: str | None = "id"
    """Column by which rows are read; None: the table, maybe a view, has none."""
    destinations: Table = field(init=False)

    def __post_init__(self) -> None:
        self.destinations = Table(self.name)

    @property
    def sets(self) -> Sets:
        """The destinations of this moment."""
        return self.destinations.now

    @property
    def rows(self) -> db.Statement:
        """The question for its rows."""
        return db.select([column.value for column in declared.COLUMNS], self.table, order=self.order)


partitions: dict[str, Partition] = {}
"""By name; one may be there under the name ``default``, too."""


def each() -> Iterable[Partition]:
    """All partitions, the last one first, as OpenSIPS lists them."""
    return reversed(list({id(one): one for one in partitions.values()}.values()))


def configure() -> None:
    """Read the parameters. Raises ConfigError."""
    partitions.clear()
    for parameter in (declared.table_name, *declared.COLUMNS):
        _check_name(parameter.value, parameter.name, parameter.name)
    if declared.db_url.value:
        _check_url(declared.db_url.value, "db_url", "db_url")
        avps = {name: _avp(parameter.value, name, name) for name, parameter in _AVPS.items()}
        partitions[DEFAULT] = Partition(DEFAULT, declared.db_url.value, declared.table_name.value, avps)
    aliases = []
    for text in declared.partition.value:
        name, colon, rest = (part.strip() for part in text.partition(":"))
        if not colon or not rest or _NAME(name) is None or len(name) > _LONGEST:
            raise ConfigError(
                f'dispatcher: partition: "{text}" is not of the form "name: db_url = URL; table_name = TABLE"', "partition", text
            )
        if name == DEFAULT and "=" not in rest:
            aliases.append((text, rest.rstrip("; ")))
            continue
        if name in partitions:
            raise ConfigError(f"dispatcher: there are two partitions {name}", "partition", text)
        partitions[name] = _partition(name, rest, text)
    for text, name in aliases:
        if name not in partitions or DEFAULT in partitions:
            why = f"there is no partition {name}" if name not in partitions else "there is one of the name default"
            raise ConfigError(f"dispatcher: partition: {why}", "partition", text)
        partitions[DEFAULT] = partitions[name]
    if not partitions:
        raise ConfigError("dispatcher: there is no database: set db_url, or a partition with a db_url", "db_url")


def _partition(name: str, rest: str, text: str) -> Partition:
    """Read ``key = value; key = value``."""
    url, table = declared.db_url.value, declared.table_name.value
    avps = {
        key: f"ds_{key.removesuffix('_avp')}_failover_{name}" if key in _OWN_AVPS else _avp(parameter.value, key, key)
        for key, parameter in _AVPS.items()
    }
    for pair in filter(None, (pair.strip() for pair in rest.split(";"))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        key = "script_attrs_avp" if key == "script_attrs" else key
        if not equals:
            raise ConfigError(f"dispatcher: partition {name}: [{pair}] is not of the form key = value", "partition", text)
        if key == "db_url":
            url = value
        elif key == "table_name":
            table = value
            _check_name(value, f"partition {name}", "partition", text)
        elif key in _AVPS:
            avps[key] = _avp(value, f"partition {name}: {key}", "partition", text)
        elif key == "ds_define_blacklist":
            raise ConfigError(
                f"dispatcher: partition {name}: not supported yet: {key}: {declared.NO_BLACKLISTS}", "partition", text
            )
        else:
            known = ", ".join(("db_url", "table_name", *_AVPS))
            raise ConfigError(f"dispatcher: partition {name}: [{key}] is not one of {known}", "partition", text)
    if not url:
        raise ConfigError(f"dispatcher: partition {name} has no db_url", "partition", text)
    _check_url(url, f"partition {name}", "partition", text)
    return Partition(name, url, table, avps)


def _avp(text: str, what: str, parameter: str, value: str | None = None) -> str:
    """The name in ``$avp(name)``; empty for an empty text."""
    if not text:
        return ""
    m = _AVP(text.strip())
    if m is None:
        raise ConfigError(f'dispatcher: {what} is "{text}"; it must be an AVP, as in "$avp(name)"', parameter, value)
    return str(m[1])


def _check_name(name: str, what: str, parameter: str, value: str | None = None) -> None:
    try:
        check_name(name)
    except db.StatementError as error:
        raise ConfigError(f"dispatcher: {what}: {error}", parameter, value) from None


def _check_url(url: str, what: str, parameter: str, value: str | None = None) -> None:
    try:
        databases.check(url)
    except ValueError as error:
        raise ConfigError(f"dispatcher: {what}: {error}", parameter, value) from None


def _read(partition: Partition, database: db.Database) -> None:
    try:
        partition.destinations.begin(database, partition.rows)
    except db.DatabaseError:
        partition.order = None
        partition.destinations.begin(database, partition.rows)


def load() -> None:
    """Read the tables, before the fork. Raises ConfigError."""
    for one in each():
        try:
            database = db.open(one.url)
            if database.version_of(one.table) not in _VERSIONS:
                database.check_version(one.table, _VERSIONS[0])
            _read(one, database)
        except ConfigError as error:
            raise ConfigError(f"dispatcher: partition {one.name}: {error}") from None
        except (db.DatabaseError, db.StatementError) as error:
            raise ConfigError(f"dispatcher: partition {one.name}: cannot read table {one.table}: {error}") from None
