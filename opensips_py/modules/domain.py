"""The domains of this server, in a table (OpenSIPS module domain).

``db_mode`` 0: each call asks the database, in one operation: plain, in ``async()``, ``launch()`` and ``await()``. 1: the table
is kept in memory, letters' case does not matter, ``domain_reload`` reads it again for all processes at one moment, and
``is_myself()`` and ``loose_route()`` know the domains too.
"""

from __future__ import annotations

from typing import Any

from ipc.prefixes import prefix
from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.db.reloaded import Reloaded, reload
from opensips_py.engine.operation import BUSY, Done
from opensips_py.mi.dispatcher import Later
from opensips_py.net import own_address
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, L, MIError, Module, R, Var
from opensips_py.sip.uri import loose_uri

module = Module("domain", doc="Domains of this server, from a database (OpenSIPS module domain)")

database = db.DatabaseParameter.declared(module)
db_mode = module.param("db_mode", int, 0, doc="0: each call asks the database; 1: the table is kept in memory")
domain_table = module.param("domain_table", str, "domain", doc="table of domains")
domain_col = module.param("domain_col", str, "domain", doc="column of the domain")
attrs_col = module.param("attrs_col", str, "attrs", doc="column of its attributes")

_TABLE_VERSION = 3
_MEMORY = 1

Attributes = dict[str, tuple[str, str | None]]
"""By domain in lower case: the domain as it stands in the table, and its attributes."""


def _by_name(rows: list[db.Row]) -> Attributes:
    return {str(name).lower(): (str(name), None if attributes is None else str(attributes)) for name, attributes in rows if name}


_table = Reloaded(prefix(b"mdomain:", "the domains of module domain", __name__), _by_name)


def _rows() -> db.Statement:
    return db.select([domain_col.value, attrs_col.value], domain_table.value)


@module.on_check
def configure() -> None:
    """Check the parameters."""
    if not database.url:
        raise ConfigError("domain: there is no database: set db_url, or core parameter db_default_url")
    if db_mode.value not in (0, _MEMORY):
        raise ConfigError(f"domain: db_mode is 0 or 1, not {db_mode.value}", "db_mode")
    for parameter in (domain_table, domain_col, attrs_col):
        try:
            check_name(parameter.value)
        except db.StatementError as error:
            raise ConfigError(f"domain: {parameter.name}: {error}", parameter.name) from None


@module.on_config
def load() -> None:
    """Check the table, read it."""
    configure()
    database.check_version(domain_table.value, _TABLE_VERSION)
    forget()
    if db_mode.value == _MEMORY:
        try:
            _table.begin(database.open(), _rows())
        except (db.DatabaseError, db.StatementError) as error:
            raise ConfigError(f"domain: cannot read table {domain_table.value}: {error}", "domain_table") from None
        own_address.further.append(_is_local)


@module.on_exit
def forget() -> None:
    """The core asks no more."""
    if _is_local in own_address.further:
        own_address.further.remove(_is_local)


def _is_local(host: str) -> bool:
    return host.lower() in _table.now


class _DomainQuery(db.Query):
    """``kept`` is the text of the variable that gets the attributes; empty: none does."""

    keeps = str
    kept: str

    def answer(self, result: db.Result) -> Done:
        if not result.rows:
            return Done(-1)
        attributes = result.rows[0][0]
        return Done(1, [(self.kept, str(attributes))] if self.kept and attributes is not None else [])

    def failed(self, done: Done) -> Done:
        return Done(-1) if done.rc == BUSY else done


class IsFromLocal(_DomainQuery):
    """``is_from_local()``."""

    name = "is_from_local"


class IsUriHostLocal(_DomainQuery):
    """``is_uri_host_local()``."""

    name = "is_uri_host_local"


class IsDomainLocal(_DomainQuery):
    """``is_domain_local()``."""

    name = "is_domain_local"


@module.operation(routes=R | F | B | L)
def is_from_local(ctx: Context, attributes: Var | None = None) -> _DomainQuery | int:
    """Whether the host of From is one of the domains; its attributes go to the variable. 1, or -1 also for an error."""
    address = ctx.msg.from_
    return _asked(ctx, IsFromLocal, None if address is None else _host(address.uri), attributes)


@module.operation(routes=R | F | B | L)
def is_uri_host_local(ctx: Context, attributes: Var | None = None) -> _DomainQuery | int:
    """The same for the R-URI; in a branch route that of the branch."""
    return _asked(ctx, IsUriHostLocal, _host(ctx.ruri), attributes)


@module.operation(routes=R | F | B | L)
def is_domain_local(ctx: Context, domain: str, attributes: Var | None = None) -> _DomainQuery | int:
    """The same for any domain."""
    return _asked(ctx, IsDomainLocal, domain, attributes)


def _host(text: str) -> str | None:
    uri = loose_uri(text)
    return None if uri is None else uri.host


def _asked(ctx: Context, query: type[_DomainQuery], domain: str | None, attributes: Var | None) -> _DomainQuery | int:
    if not domain:
        return -1
    if db_mode.value != _MEMORY:
        asked = db.select([attrs_col.value], domain_table.value, {domain_col.value: domain}, limit=1)
        return query(database.open(), asked, "" if attributes is None else attributes.text)
    found = _table.now.get(domain.lower())
    if found is None:
        return -1
    if attributes is not None and found[1] is not None:
        attributes.set(ctx, found[1])
    return 1


# --- management -----------------------------------------------------------------------------------------------------


def _in_memory() -> None:
    if db_mode.value != _MEMORY:
        raise MIError(500, "command not activated")


@module.mi("domain_reload")
def mi_domain_reload() -> Later:
    """Read the table again. What cannot be read stays as it is."""
    _in_memory()
    return reload("domain", [(_table, database.open(), _rows())])


@module.mi("domain_dump")
def mi_domain_dump() -> dict[str, Any]:
    """All domains with their attributes."""
    _in_memory()
    shown = []
    for name, attributes in _table.now.values():
        shown.append({"name": name} if attributes is None else {"name": name, "attrs": attributes})
    return {"Domains": shown}
