"""Partitions: sets of tables, each with its AVPs. Without ``use_partitions`` there is one."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipc.prefixes import prefix
from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db.dialect import check_name
from opensips_py.modules.drouting import declared
from opensips_py.modules.drouting.rows import PARTITIONS_VERSION
from opensips_py.modules.drouting.tables import Tables
from opensips_py.script.declarations import ConfigError
from opensips_py.server.exchanged import Exchanged

PREFIX = prefix(b"mdrouting:", "gateways, carriers and rules of a partition of module drouting", __name__)
DEFAULT = "Default"
EVERY = "*"
_TABLES = (declared.drd_table, declared.drr_table, declared.drg_table, declared.drc_table)
_COLUMNS = ("partition_name", "db_url", "drd_table", "drr_table", "drg_table", "drc_table")


@dataclass(frozen=True)
class Avps:
    """Names of AVPs; empty: there is none."""

    ruri: str
    socket: str
    gateway: str
    gateway_attrs: str
    pri_prefix: str
    carrier: str
    carrier_attrs: str
    rule: str
    rule_prefix: str
    rule_attrs: str
    fallback: str
    """How to go on with further rules (flag F)."""


@dataclass
class Partition:
    """One set of tables."""

    name: str
    url: str
    gateways: str
    rules: str
    groups: str
    carriers: str
    avps: Avps
    exchanged: Exchanged[Tables] = field(init=False)

    def __post_init__(self) -> None:
        self.exchanged = Exchanged(PREFIX + self.name.encode("latin-1"), Tables)

    @property
    def tables(self) -> Tables:
        """What holds at this moment."""
        return self.exchanged.now

    @property
    def database(self) -> db.Database:
        """Where the tables are."""
        return db.open(self.url)


partitions: dict[str, Partition] = {}


def find(name: str | None) -> list[Partition]:
    """The partition that a script or a person names, all of them for ``*``; empty: there is none."""
    if not declared.use_partitions.value:
        return list(partitions.values()) if name is None else []
    if name == EVERY:
        return list(partitions.values())
    found = partitions.get(name or "")
    return [] if found is None else [found]


def configure() -> None:
    """Take the partitions from the parameters, or read their table. Raises ConfigError."""
    partitions.clear()
    if declared.use_partitions.value:
        for one in _listed():
            partitions[one.name] = one
        return
    given = {parameter.name: parameter.value for parameter in declared.AVP_PARAMETERS}
    tables = [parameter.value for parameter in _TABLES]
    partitions[DEFAULT] = _made(DEFAULT, declared.database.url, tables, _avps(given, ""))


def _made(name: str, url: str, tables: list[str], avps: Avps) -> Partition:
    gateways, rules, groups, carriers = tables
    return Partition(name, url, gateways, rules, groups, carriers, avps)


def _listed() -> list[Partition]:
    table = declared.db_partitions_table.value
    declared.partitions_database.check_version(table, PARTITIONS_VERSION)
    avps = [parameter.name for parameter in declared.AVP_PARAMETERS]
    try:
        rows = declared.partitions_database.open().read(db.select([*_COLUMNS, *avps], table)).rows
    except (db.DatabaseError, db.StatementError) as error:
        raise ConfigError(f"drouting: cannot read table {table}: {error}", "db_partitions_table") from None
    found: dict[str, Partition] = {}
    for row in rows:
        name, url, *rest = ("" if cell is None else str(cell).strip() for cell in row)
        if not name or name == EVERY or name in found:
            raise ConfigError(f"drouting: table {table}: [{name}] is not a name, or there are two", "db_partitions_table")
        found[name] = _partition(name, url, rest[:4], dict(zip(avps, rest[4:], strict=True)))
    if not found:
        raise ConfigError(f"drouting: there are no partitions in table {table}", "db_partitions_table")
    return list(found.values())


def _partition(name: str, url: str, tables: list[str], avps: dict[str, str]) -> Partition:
    named = [given or parameter.value for given, parameter in zip(tables, _TABLES, strict=True)]
    try:
        databases.check(url)
        for one in named:
            check_name(one)
    except (db.StatementError, ValueError) as error:
        raise ConfigError(f"drouting: partition {name}: {error}", "db_partitions_table") from None
    for parameter, text in avps.items():
        if text and declared.avp_name(text) is None:
            raise ConfigError(f"drouting: partition {name}: {parameter}: [{text}] is not an AVP: write $avp(name)")
    return _made(name, url, named, _avps(avps, name))


def _avps(given: dict[str, str], suffix: str) -> Avps:
    """``suffix``: what default names end with."""

    def name(parameter: str, default: str = "") -> str:
        text = given[parameter]
        return declared.avp_name(text) or "" if text else default and default + suffix

    return Avps(
        ruri=name("ruri_avp", "___dr_ruri__"),
        socket=name("gw_sock_avp", "___dr_sock__"),
        gateway=name("gw_id_avp", "___dr_gw_id__"),
        gateway_attrs="___dr_gw_att__" + suffix,
        pri_prefix=name("gw_priprefix_avp"),
        carrier=name("carrier_id_avp"),
        carrier_attrs="___dr_cr_att__" + suffix,
        rule=name("rule_id_avp"),
        rule_prefix=name("rule_prefix_avp"),
        rule_attrs="___dr_ru_att__" + suffix,
        fallback="___dr_fallback__" + suffix,
    )
