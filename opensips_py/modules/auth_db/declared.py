"""Module object, parameters and tables of auth_db."""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.script.declarations import ConfigError, Module, ModuleParameter
from opensips_py.script.variables import VariableError, by_text

module = Module("auth_db", doc="Digest authentication against a database (OpenSIPS module auth_db)", depends=("auth",))

TABLE_VERSION = 7
"""Of table subscriber; every table is checked against it, as in OpenSIPS."""

database = db.DatabaseParameter.declared(module)
user_column = module.param("user_column", str, "username", doc="column of the user name")
domain_column = module.param("domain_column", str, "domain", doc="column of the domain")
password_column = module.param("password_column", str, "ha1", doc="column of the password, or of HA1 (see calculate_ha1)")
password_column_2 = module.param(
    "password_column_2", str, "ha1b", doc="column of HA1 for user names with @domain, with calculate_ha1 0"
)
hash_column_sha256 = module.param(
    "hash_column_sha256", str, "ha1_sha256", doc="column of HA1 for SHA-256, with calculate_ha1 0 (auth's algorithms; ours)"
)
hash_column_sha512t256 = module.param(
    "hash_column_sha512t256", str, "ha1_sha512t256", doc="column of HA1 for SHA-512-256, with calculate_ha1 0 (ours)"
)
calculate_ha1 = module.param("calculate_ha1", int, 0, doc="1: the table holds passwords; 0: HA1 in hexadecimal digits")
use_domain = module.param(
    "use_domain", int, 0, doc="1: the domain of the user name, or the realm if it has none, is part of who a user is"
)
load_credentials = module.param(
    "load_credentials",
    str,
    "rpid",
    doc='columns that AVPs get when the credentials are right: "column; $avp(name)=column"; empty: none',
)
skip_version_check = module.param("skip_version_check", int, 0, doc="1: the version of tables is not checked")
uri_user_column = module.param("uri_user_column", str, "username", doc="column of the account in a table of URIs")
uri_domain_column = module.param("uri_domain_column", str, "domain", doc="column of its realm")
uri_uriuser_column = module.param("uri_uriuser_column", str, "uri_user", doc="column of the user of a URI that belongs to it")

_columns = (user_column, domain_column, password_column, password_column_2, hash_column_sha256, hash_column_sha512t256)
_uri_columns = (uri_user_column, uri_domain_column, uri_uriuser_column)


class Loaded:
    """``load_credentials``, read once."""

    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    """The variable for each."""


_tables: set[str] = set()
"""Those that the script names."""


def _table_fault(text: str, registry: Any) -> str | None:
    try:
        check_name(text)
    except db.StatementError as error:
        return str(error)
    _tables.add(text)
    return None


TableName = Annotated[str, "str", _table_fault]


@module.on_check
def forget_tables() -> None:
    """The script that is read now may name others."""
    _tables.clear()
    configure()


@module.on_config
def start() -> None:
    """Check the tables."""
    configure()
    if not skip_version_check.value:
        for table in sorted(_tables):
            database.check_version(table, TABLE_VERSION)


def configure() -> None:
    """Read the parameters."""
    if not database.url:
        raise ConfigError("auth_db: there is no database: set db_url, or core parameter db_default_url")
    for parameter in (*_columns, *_uri_columns):
        _checked(parameter, parameter.value)
    columns, targets = [], []
    for item in filter(None, (part.strip() for part in load_credentials.value.split(";"))):
        target, equals, column = (part.strip() for part in item.rpartition("="))
        columns.append(_checked(load_credentials, column))
        targets.append(_avp(target) if equals else f"$avp({column})")
    Loaded.columns, Loaded.targets = tuple(columns), tuple(targets)


def _checked(parameter: ModuleParameter[str], column: str) -> str:
    try:
        check_name(column)
    except db.StatementError as error:
        raise ConfigError(f"auth_db: {parameter.name}: {error}", parameter.name) from None
    return column


def _avp(text: str) -> str:
    try:
        variable = by_text(text)
    except VariableError as error:
        raise ConfigError(f"auth_db: load_credentials: {error}", "load_credentials") from None
    if not text.startswith("$avp("):
        raise ConfigError(f'auth_db: load_credentials: "{text}" must be an AVP, as in "$avp(name)"', "load_credentials")
    return variable.text
