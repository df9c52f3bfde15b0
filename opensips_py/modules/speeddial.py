"""Short numbers of users, in a table (OpenSIPS module speeddial).

A row says what ``sd_username@sd_domain`` means when ``username@domain`` dials it: ``new_uri``. ``sd_lookup(table)`` makes that
the R-URI. It asks the database in one operation: plain, in ``async()``, ``launch()`` and ``await()``.
"""

from __future__ import annotations

from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.engine.operation import Done
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, Module, R
from opensips_py.sip.uri import loose_uri

module = Module("speeddial", doc="Short numbers of users, from a database (OpenSIPS module speeddial)")

database = db.DatabaseParameter.declared(module)
user_column = module.param("user_column", str, "username", doc="column of who dials")
domain_column = module.param("domain_column", str, "domain", doc="column of its domain")
sd_user_column = module.param("sd_user_column", str, "sd_username", doc="column of the short number")
sd_domain_column = module.param("sd_domain_column", str, "sd_domain", doc="column of its domain")
new_uri_column = module.param("new_uri_column", str, "new_uri", doc="column of the URI that it stands for")
use_domain = module.param("use_domain", int, 0, doc="1: the domain of who dials counts; 2: that of the short number too")
domain_prefix = module.param("domain_prefix", str, "", doc="what is taken off the front of a domain before it is looked up")


@module.on_check
def configure() -> None:
    """Check the parameters."""
    if not database.url:
        raise ConfigError("speeddial: there is no database: set db_url, or core parameter db_default_url")
    for parameter in (user_column, domain_column, sd_user_column, sd_domain_column, new_uri_column):
        try:
            check_name(parameter.value)
        except db.StatementError as error:
            raise ConfigError(f"speeddial: {parameter.name}: {error}", parameter.name) from None


class SpeedDial(db.Query):
    """``sd_lookup()``."""

    name = "sd_lookup"

    def failed(self, done: Done) -> Done:
        return Done(-1)

    def answer(self, result: db.Result) -> Done:
        uri = result.rows[0][0] if result.rows else None
        return Done(1, [("$ru", str(uri))]) if uri else Done(-1)


@module.operation(routes=R)
def sd_lookup(ctx: Context, table: str, owner: str | None = None) -> SpeedDial | int:
    """Replace the R-URI by what its user means to who dials: ``owner``, a URI, or From. 1, or -1 for nothing or an error."""
    address = ctx.msg.from_
    dialler = owner if owner is not None else "" if address is None else address.uri
    who, dialled = loose_uri(dialler), loose_uri(ctx.ruri)
    if who is None or dialled is None or not who.user or not dialled.user:
        return -1
    where = {user_column.value: who.user, sd_user_column.value: dialled.user}
    if use_domain.value >= 1:
        where[domain_column.value] = (who.host or "").removeprefix(domain_prefix.value)
    if use_domain.value >= 2:
        where[sd_domain_column.value] = (dialled.host or "").removeprefix(domain_prefix.value)
    return SpeedDial(database.open(), db.select([new_uri_column.value], table, where, limit=1))
