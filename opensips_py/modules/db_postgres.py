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
from opensips_py.script.declarations import ConfigError, Module

module = Module("db_postgres", doc="PostgreSQL (OpenSIPS module db_postgres)")

exec_query_threshold = module.param(
    "exec_query_threshold", int, 0, doc="microseconds from which a query is logged as slow; 0: never"
)
max_db_queries = module.param("max_db_queries", int, 2, doc="how often a query is tried that did not reach the database")
timeout = module.param("timeout", int, 5, doc="seconds after which connecting, or a query without async(), is given up")
max_waiting_queries = module.param(
    "max_waiting_queries",
    int,
    65536,
    doc="queries of one process that may wait for a connection; more are refused, $rc -4 (ours)",
)
idle_timeout = module.param(
    "idle_timeout", int, 300, doc="seconds for which an unused connection is kept; 0: as long as the server keeps it (ours)"
)
max_result_size = module.param(
    "max_result_size",
    int,
    4096,
    doc="KB that the answer to a query may have, each value counting as its length and 128 bytes; more: $rc -1; 0: any (ours)",
)

pool.statistics.declare(module)
db.register("postgres", PostgresDatabase)


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    if timeout.value < 1:
        raise ConfigError(f"db_postgres: timeout is {timeout.value}; it must be at least 1 second")
    for parameter in (max_waiting_queries, idle_timeout, max_result_size):
        if parameter.value < 0:
            raise ConfigError(f"db_postgres: {parameter.name} is {parameter.value}; it cannot be negative")
    pool.PostgresPool.queue = max_waiting_queries.value
    pool.PostgresPool.idle_seconds = float(idle_timeout.value)
    pool.settings.patience = float(timeout.value)
    pool.settings.answer = max_result_size.value * 1024
    pool.settings.attempts = max(1, max_db_queries.value)
    pool.settings.slow_query = max(0, exec_query_threshold.value) / 1e6
    pools.describers["postgres"] = pool.describe


@module.on_exit
def leave() -> None:
    """Close idle connections."""
    pool.close_all()
