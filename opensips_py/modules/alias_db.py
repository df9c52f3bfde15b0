"""Aliases of users in a table (OpenSIPS module alias_db).

A row says that ``alias_username@alias_domain`` is ``username@domain``. ``alias_db_lookup(table)`` rewrites the R-URI,
``alias_db_find(table, uri, $var(out))`` tells what a URI stands for. Flags: ``d`` the domain does not matter, ``r`` from users to
their aliases. Both ask the database in one operation: plain, in ``async()``, ``launch()`` and ``await()``.
"""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.engine.operation import Done
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import B, ConfigError, F, L, Module, O, R, S, Var
from opensips_py.server.log import ERROR, log
from opensips_py.sip.uri import loose_uri

module = Module("alias_db", doc="Aliases of users in a database (OpenSIPS module alias_db)")

database = db.DatabaseParameter.declared(module)
user_column = module.param("user_column", str, "username", doc="column of the user")
domain_column = module.param("domain_column", str, "domain", doc="column of its domain")
alias_user_column = module.param("alias_user_column", str, "alias_username", doc="column of the alias's user")
alias_domain_column = module.param("alias_domain_column", str, "alias_domain", doc="column of the alias's domain")
domain_prefix = module.param("domain_prefix", str, "", doc="what is taken off the front of a domain before it is looked up")
append_branches = module.param("append_branches", int, 0, doc="1: of several rows the first is the R-URI, others are branches")

_FLAGS = "dr"


@module.on_check
@module.on_config
def configure() -> None:
    """Check the parameters."""
    if not database.url:
        raise ConfigError("alias_db: there is no database: set db_url, or core parameter db_default_url")
    for parameter in (user_column, domain_column, alias_user_column, alias_domain_column):
        try:
            check_name(parameter.value)
        except db.StatementError as error:
            raise ConfigError(f"alias_db: {parameter.name}: {error}", parameter.name) from None


def _flags_fault(text: str, registry: Any) -> str | None:
    return next((f"unsupported flag '{flag}': there are d and r" for flag in text if flag not in _FLAGS), None)


FlagText = Annotated[str, "str", _flags_fault]


class _AliasQuery(db.Query):
    """The addresses that an alias stands for."""

    def failed(self, done: Done) -> Done:
        return Done(-1)

    @staticmethod
    def addresses(result: db.Result) -> list[str]:
        """As URIs; a row without a user or domain is none."""
        return [f"sip:{user}@{domain}" for user, domain in result.rows if user and domain]


class Lookup(_AliasQuery):
    """``alias_db_lookup()``: the R-URI becomes the first, further ones become branches."""

    name = "alias_db_lookup"

    def answer(self, result: db.Result) -> Done:
        found = self.addresses(result)
        if not found:
            return Done(-1)
        outputs: list[tuple[str, Value]] = [("$ru", found[0])]
        if append_branches.value:
            outputs += [("$branch", uri) for uri in found[1:]]
        return Done(1, outputs)


class Find(_AliasQuery):
    """``alias_db_find()``; ``kept`` is the text of the variable."""

    name = "alias_db_find"
    keeps = str
    kept: str

    def answer(self, result: db.Result) -> Done:
        found = self.addresses(result)
        return Done(1, [(self.kept, found[0])]) if found else Done(-1)


@module.operation(routes=R | F)
def alias_db_lookup(ctx: Context, table: str, flags: FlagText | None = None) -> Lookup | int:
    """Replace the R-URI by the address that it is an alias of. 1; -1: not an alias, or no answer of the database."""
    asked = _statement(ctx.ruri, table, flags, "alias_db_lookup")
    return -1 if asked is None else Lookup(database.open(), asked)


@module.operation(routes=R | F | O | B | L | S)
def alias_db_find(ctx: Context, table: str, uri: str, output: Var, flags: FlagText | None = None) -> Find | int:
    """Put the address that a URI is an alias of into a variable. 1; -1: not an alias, or no answer of the database."""
    asked = _statement(uri, table, flags, "alias_db_find")
    return -1 if asked is None else Find(database.open(), asked, output.text)


def _statement(text: str, table: str, flags: str | None, function: str) -> db.Statement | None:
    """None when nothing can be asked for."""
    fault = _flags_fault(flags or "", None)
    if fault is not None:
        log(ERROR, "alias_db", function, fault)
        return None
    uri = loose_uri(text)
    if uri is None or not uri.user or not uri.host:
        return None
    here, there = (alias_user_column, alias_domain_column), (user_column, domain_column)
    if "r" in (flags or ""):
        here, there = there, here
    where = {here[0].value: uri.user}
    if "d" not in (flags or ""):
        where[here[1].value] = uri.host.removeprefix(domain_prefix.value)
    return db.select([column.value for column in there], table, where)
