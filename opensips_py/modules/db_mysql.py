"""MySQL and MariaDB (OpenSIPS module db_mysql).

The driver behind ``mysql://`` URLs; scripts use it through other modules (avpops, sqlops, dialplan). Each worker has a
pool of connections per URL, of at most ``db_max_async_connections`` (core parameter). Connecting, authenticating
and waiting for a free connection never block the worker. Further URL parameters: ``unix_socket=PATH``,
``charset=NAME``, ``public_key=FILE``.

The password itself is sent only over a Unix socket (mysql_clear_password, full authentication of caching_sha2_password),
or encrypted with the server's public key when that is given; a server that asks for it otherwise is refused, and the log
says why. Over TCP, accounts with mysql_native_password need nothing.
"""

from __future__ import annotations

from opensips_py import db
from opensips_py.db.mysql import pool
from opensips_py.db.mysql.database import MysqlDatabase
from opensips_py.db.mysql.url import read_public_key
from opensips_py.db.server import ServerParameters
from opensips_py.script.declarations import ConfigError, Module

module = Module("db_mysql", doc="MySQL and MariaDB (OpenSIPS module db_mysql)")

common = ServerParameters(module)

timeout_interval = module.param(
    "timeout_interval",
    int,
    2,
    doc="a third of the seconds (OpenSIPS: tried three times) after which connecting, or a query without async(), is given up",
)
max_db_retries = module.param(
    "max_db_retries",
    int,
    3,
    doc="attempts to reconnect",
    no_effect="attempts to reconnect go on until the database is back, with growing pauses",
)
server_public_key = module.param(
    "server_public_key",
    str,
    "",
    doc="file with the database's public RSA key (MySQL: public_key.pem), with which the password may be sent over TCP where "
    "the account has caching_sha2_password or sha256_password; URL parameter public_key=FILE for a single database (ours)",
)
use_tls = module.param("use_tls", int, 0, doc="TLS to the database; only 0 is supported")


module.event(
    pool.CONNECTION_EVENT,
    "url",
    "status",
    doc="when a process finds that a database cannot be reached any more (`disconnected`), or can be again (`connected`)",
)

pool.statistics.declare(module)
db.register("mysql", MysqlDatabase)


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    if use_tls.value:
        raise ConfigError("db_mysql: use_tls: TLS to the database is not supported; use a Unix socket or a private network")
    if timeout_interval.value < 1:
        raise ConfigError(f"db_mysql: timeout_interval is {timeout_interval.value}; it must be at least 1 second")
    common.apply(pool.settings, pool.Pool)
    pool.settings.patience = 3.0 * timeout_interval.value
    try:
        pool.settings.public_key = read_public_key(server_public_key.value) if server_public_key.value else None
    except ValueError as error:
        raise ConfigError(f"db_mysql: server_public_key: {error}", "server_public_key") from None


@module.on_exit
def leave() -> None:
    """Close idle connections."""
    pool.close_all()
