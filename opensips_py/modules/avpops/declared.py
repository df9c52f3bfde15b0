"""Module object and parameters of avpops."""

from __future__ import annotations

from opensips_py.db.databases import Databases
from opensips_py.db.preferences import Preferences
from opensips_py.script.declarations import Module

module = Module("avpops", doc="AVP operations and database queries into AVPs (OpenSIPS module avpops)")

db_url = module.param(
    "db_url",
    str,
    list[str](),
    multiple=True,
    doc='database, as "URL" or, to have several, "NUMBER URL"; default: core parameter db_default_url',
)
databases = Databases("avpops")
preferences = Preferences.declared(module, "avp_table")


@module.on_check
def configure() -> None:
    """Check databases, tables and schemes."""
    databases.configure(db_url.value)
    preferences.configure()
