"""The connections of this process to one database. See :mod:`opensips_py.clients.connection_pool`."""

from __future__ import annotations

from typing import Any

import psycopg

from opensips_py.clients.pools import PoolStatistics
from opensips_py.db.postgres.connection import PostgresConnection
from opensips_py.db.postgres.url import PostgresUrl
from opensips_py.db.server import DatabasePool, ServerSettings

statistics = PoolStatistics("db_postgres")


settings = ServerSettings(patience=5.0)
"""What the parameters of db_postgres say."""


class PostgresPool(DatabasePool[PostgresConnection]):
    """The pool of one database."""

    module = "db_postgres"
    errors = (OSError, psycopg.Error)

    def __init__(self, url: PostgresUrl) -> None:
        super().__init__(url.name, statistics)
        self.url = url
        _pools.append(self)

    def connection(self) -> PostgresConnection:
        return PostgresConnection(self.url, settings.patience)

    def adopted(self, fd: int) -> PostgresConnection:
        raise OSError("connections to PostgreSQL are not handed over")

    def why(self, connection: PostgresConnection, error: Exception) -> str:
        return " ".join(str(error).split())  # libpq writes several lines


_pools: list[PostgresPool] = []


def close_all() -> None:
    """Close the idle connections of this process."""
    for one in _pools:
        one.close()


def describe() -> list[dict[str, Any]]:
    """The pools that have been used, for management."""
    return [one.describe() for one in _pools if one.opened or one.failures or one.size]
