"""Module object, parameters and partitions of permissions."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipc.prefixes import prefix
from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db.dialect import check_name
from opensips_py.db.reloaded import Reloaded
from opensips_py.modules.permissions.addresses import Addresses, made_of
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.server.process import this

module = Module("permissions", doc="Permissions by address and by files of rules (OpenSIPS module permissions)")

default_allow_file = module.param("default_allow_file", str, "permissions.allow", doc="rules of allow_routing() without a name")
default_deny_file = module.param("default_deny_file", str, "permissions.deny", doc="the same, of what is not allowed")
check_all_branches = module.param("check_all_branches", int, 1, doc="1: allow_routing() looks at further branches too")
allow_suffix = module.param("allow_suffix", str, ".allow", doc="what files with rules end with")
deny_suffix = module.param("deny_suffix", str, ".deny", doc="the same, of what is not allowed")
database = db.DatabaseParameter.declared(module, default=False)
address_table = module.param("address_table", str, "address", doc="table of the partition default")
grp_col = module.param("grp_col", str, "grp", doc="column of the group")
ip_col = module.param("ip_col", str, "ip", doc="column of the IP address")
mask_col = module.param("mask_col", str, "mask", doc="column of the bits of the network")
port_col = module.param("port_col", str, "port", doc="column of the port; 0: any")
proto_col = module.param("proto_col", str, "proto", doc="column of the protocol, or any, or none")
pattern_col = module.param("pattern_col", str, "pattern", doc="column of a shell pattern for what the script gives")
info_col = module.param("info_col", str, "context_info", doc="column of what the script gets")
partition = module.param("partition", str, list[str](), multiple=True, doc='one more table: "name: db_url=URL; table_name=TABLE"')

DEFAULT = "default"
_TABLE_VERSION = 5
_PREFIX = prefix(b"mpermissions:", "addresses of a partition of module permissions", __name__)
_COLUMNS = (grp_col, ip_col, mask_col, port_col, proto_col, pattern_col, info_col)
_NEED_ADDRESSES = ("check_address", "check_source_address", "get_source_group")


@dataclass
class Partition:
    """One table of addresses."""

    name: str
    url: str
    table: str
    addresses: Reloaded[Addresses] = field(init=False)

    def __post_init__(self) -> None:
        self.addresses = Reloaded(_PREFIX + self.name.encode("latin-1"), made_of)

    @property
    def rows(self) -> db.Statement:
        """The question for its rows."""
        return db.select([column.value for column in _COLUMNS], self.table)


partitions: dict[str, Partition] = {}


@module.on_check
def configure() -> None:
    """Read the partitions."""
    partitions.clear()
    for parameter in (address_table, *_COLUMNS):
        try:
            check_name(parameter.value)
        except db.StatementError as error:
            raise ConfigError(f"permissions: {parameter.name}: {error}", parameter.name) from None
    if database.url:
        partitions[DEFAULT] = Partition(DEFAULT, database.url, address_table.value)
    for text in partition.value:
        made = _partition(text)
        if made.name in partitions:
            raise ConfigError(f"permissions: there are two partitions {made.name}", "partition", text)
        partitions[made.name] = made


def _partition(text: str) -> Partition:
    name, colon, rest = (part.strip() for part in text.partition(":"))
    given = {"table_name": address_table.value, "db_url": database.url}
    for pair in filter(None, (pair.strip() for pair in rest.split(";"))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if key not in given or not equals:
            raise ConfigError(
                f"permissions: partition {name}: [{pair}] is not one of db_url=URL, table_name=TABLE", "partition", text
            )
        given[key] = value
    if not colon or not name or not given["db_url"]:
        raise ConfigError(
            f'permissions: partition: "{text}" is not of the form "name: db_url=URL; table_name=TABLE"', "partition", text
        )
    try:
        check_name(given["table_name"])
        databases.check(given["db_url"])
    except (db.StatementError, ValueError) as error:
        raise ConfigError(f"permissions: partition {name}: {error}", "partition", text) from None
    return Partition(name, given["db_url"], given["table_name"])


@module.on_config
def load() -> None:
    """Read the tables."""
    configure()
    called = getattr(this.program, "called", ())
    if not partitions and any(name in called for name in _NEED_ADDRESSES):
        raise ConfigError(f"permissions: invoked partition <{DEFAULT}> not defined: set db_url")
    for each in partitions.values():
        found = db.open(each.url)
        try:
            found.check_version(each.table, _TABLE_VERSION)
            each.addresses.begin(found, each.rows)
        except ConfigError as error:
            raise ConfigError(f"permissions: partition {each.name}: {error}") from None
        except (db.DatabaseError, db.StatementError) as error:
            raise ConfigError(f"permissions: partition {each.name}: cannot read table {each.table}: {error}") from None
