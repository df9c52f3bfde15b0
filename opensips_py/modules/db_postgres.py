"""PostgreSQL (OpenSIPS module db_postgres): ``postgres://user:password@host/database``.

Each worker has a pool of connections per URL, of at most ``db_max_async_connections`` (core parameter). Connecting, logging in
and waiting for a free connection never block the worker. Further URL parameters: ``unix_socket=DIRECTORY``, and of libpq
``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey`` and ``application_name``. The database must be in UTF-8. A change in
async() or launch() leaves a token in table ``opensips_py_done`` for some minutes, so that it is made exactly once also when its
process dies; ``opensips-py-db create URL`` makes that table, and the server does where it may.
"""

from __future__ import annotations

from opensips_py import db
from opensips_py.clients import pools
from opensips_py.db.postgres import pool
from opensips_py.db.postgres.database import PostgresDatabase
from opensips_py.db.server import ServerParameters
from opensips_py.script.declarations import ConfigError, Module

module = Module("db_postgres", doc="PostgreSQL (OpenSIPS module db_postgres)")

common = ServerParameters(module)

timeout = module.param("timeout", int, 5, doc="seconds after which connecting, or a query without async(), is given up")

pool.statistics.declare(module)
db.register("postgres", PostgresDatabase)


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    if timeout.value < 1:
        raise ConfigError(f"db_postgres: timeout is {timeout.value}; it must be at least 1 second")
    common.apply(pool.settings, pool.PostgresPool)
    pool.settings.patience = float(timeout.value)
    pools.describers["postgres"] = pool.describe


@module.on_exit
def leave() -> None:
    """Close idle connections."""
    pool.close_all()
