"""Numbers that users may not call (OpenSIPS module userblacklist).

A row is a prefix of numbers, and whether it is allowed (``whitelist`` 1) or not; of several that fit the longest counts.
``check_user_blacklist(user, domain)`` asks for the rows of a user, in one operation: plain, in ``async()``, ``launch()`` and
``await()``. ``check_blacklist(table)`` looks into a table for everybody, which is kept in memory; ``reload_blacklist`` reads it
again for all processes at one moment.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from ipc.prefixes import prefix
from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.db.reloaded import Reloaded, reload
from opensips_py.engine.operation import BUSY, Done
from opensips_py.mi.dispatcher import Later
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, F, Module, R
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.sip.uri import loose_uri

module = Module("userblacklist", doc="Numbers that users may not call (OpenSIPS module userblacklist)")

database = db.DatabaseParameter.declared(module)
db_table = module.param("db_table", str, "userblacklist", doc="table of the users' prefixes")
use_domain = module.param("use_domain", int, 0, doc="1: the domain is part of who a user is")

_TABLE_VERSION = 2
_LONGEST = 64
"""Digits of a number that are looked at: prefixes in the table are not longer."""
_COLUMNS = ("prefix", "whitelist")
_PREFIX = prefix(b"muserblacklist:", "prefixes of a table of module userblacklist", __name__)
_digits = re.compile(r"[^0-9]*([0-9]*)").match

Prefixes = dict[str, bool]
"""Whether a prefix is allowed."""

_tables: dict[str, Reloaded[Prefixes]] = {}
"""Those that the script names."""


def _made_of(rows: list[db.Row]) -> Prefixes:
    return {str(prefix or ""): bool(allowed) and str(allowed) != "0" for prefix, allowed in rows}


def _allowed(prefixes: Prefixes, number: str) -> bool:
    """Whether a number may be called: its digits, after what comes before them (``+``)."""
    found = _digits(number)
    digits = found[1][:_LONGEST] if found is not None else ""
    return next((prefixes[digits[:n]] for n in range(len(digits), -1, -1) if digits[:n] in prefixes), True)


def _table_fault(text: str, registry: Any) -> str | None:
    try:
        check_name(text)
    except db.StatementError as error:
        return str(error)
    if text not in _tables:
        _tables[text] = Reloaded(_PREFIX + text.encode("latin-1"), _made_of)
    return None


def _name_fault(text: str, registry: Any) -> str | None:
    try:
        check_name(text)
    except db.StatementError as error:
        return str(error)
    return None


GlobalTable = Annotated[str, "str", _table_fault]
UserTable = Annotated[str, "str", _name_fault]


@module.on_check
def configure() -> None:
    """Check the parameters. The script that is read now may name other tables."""
    _tables.clear()
    if not database.url:
        raise ConfigError("userblacklist: there is no database: set db_url, or core parameter db_default_url")
    fault = _name_fault(db_table.value, None)
    if fault is not None:
        raise ConfigError(f"userblacklist: db_table: {fault}", "db_table")


@module.on_config
def load() -> None:
    """Check the tables, read those for everybody."""
    if "check_user_blacklist" in getattr(this.program, "called", ()):
        database.check_version(db_table.value, _TABLE_VERSION)
    for name, table in _tables.items():
        database.check_version(name, _TABLE_VERSION)
        try:
            table.begin(database.open(), db.select(_COLUMNS, name))
        except (db.DatabaseError, db.StatementError) as error:
            raise ConfigError(f"userblacklist: cannot read table {name}: {error}") from None


class CheckUserBlacklist(db.Query):
    """``check_user_blacklist()``; ``kept`` is the number."""

    name = "check_user_blacklist"
    keeps = str
    kept: str

    def answer(self, result: db.Result) -> Done:
        return Done(1 if _allowed(_made_of(result.rows), self.kept) else -1)

    def failed(self, done: Done) -> Done:
        return Done(-1) if done.rc == BUSY else done


@module.operation(routes=R | F)
def check_user_blacklist(
    ctx: Context, user: str, domain: str, number: str | None = None, table: UserTable | None = None
) -> CheckUserBlacklist | int:
    """Whether a user may call a number, that of the R-URI by default. 1, or -1 when not, or when the database does not answer."""
    dialled = number if number is not None else _dialled(ctx)
    where = {"username": user}
    if use_domain.value:
        where["domain"] = domain
    return CheckUserBlacklist(database.open(), db.select(_COLUMNS, table or db_table.value, where), dialled)


@module.function(routes=R | F)
def check_blacklist(ctx: Context, table: GlobalTable) -> int:
    """Whether anybody may call the number of the R-URI, by a table for all. 1, or -1."""
    found = _tables.get(table)
    if found is None:
        log(ERROR, "userblacklist", "check_blacklist", f"table {table!r} is not loaded: name it in the script")
        return -1
    return 1 if _allowed(found.now, _dialled(ctx)) else -1


def _dialled(ctx: Context) -> str:
    uri = loose_uri(ctx.ruri)
    return "" if uri is None else uri.user or ""


@module.mi("reload_blacklist")
def mi_reload_blacklist() -> Later | str:
    """Read the tables for everybody again. What cannot be read stays as it is."""
    if not _tables:
        return "OK"
    return reload("userblacklist", [(table, database.open(), db.select(_COLUMNS, name)) for name, table in _tables.items()])
