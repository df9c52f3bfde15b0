"""The connections of this process to one database. See :mod:`opensips_py.clients.connection_pool`."""

from __future__ import annotations

from typing import Any

import psycopg

from opensips_py.clients.connection_pool import ConnectionPool
from opensips_py.clients.pools import PoolStatistics
from opensips_py.db.postgres.connection import PostgresConnection
from opensips_py.db.postgres.url import PostgresUrl
from opensips_py.server.process import this

statistics = PoolStatistics("db_postgres")


class Settings:
    """What the db_postgres module's parameters say (process-wide)."""

    patience: float = 5.0
    """Seconds for connecting, and for a plain query."""
    attempts: int = 2
    """How often a query is tried that never reached the database."""
    answer: int = 4096 * 1024
    """Bytes that an answer may have; 0: any."""
    slow_query: float = 0.0
    """Seconds from which a query is logged as slow; 0: never."""


settings = Settings()


class PostgresPool(ConnectionPool[PostgresConnection]):
    """The pool of one database. ``queue`` and ``idle_seconds`` are those of all databases."""

    module = "db_postgres"
    errors = (OSError, psycopg.Error)

    def __init__(self, url: PostgresUrl) -> None:
        super().__init__(statistics)
        self.url = url
        _pools.append(self)

    @property
    def title(self) -> str:
        return f"database {self.url.name}"

    @property
    def destination(self) -> str:
        return self.url.name

    @property
    def limit(self) -> int:
        """Core parameter db_max_async_connections."""
        return int(this.program.settings.db_max_async_connections)

    def connection(self) -> PostgresConnection:
        return PostgresConnection(self.url, settings.patience)

    def adopted(self, fd: int) -> PostgresConnection:
        raise OSError("connections to PostgreSQL are not handed over")

    def why(self, connection: PostgresConnection, error: Exception) -> str:
        return " ".join(str(error).split())  # libpq writes several lines

    def lost_during(self, connection: PostgresConnection, query: str) -> None:
        """The connection broke while a query was under way."""
        self._warn(f"connection to {self.url.name} lost during the query [{query[:200]}]")
        self.discard(connection)


_pools: list[PostgresPool] = []


def close_all() -> None:
    """Close the idle connections of this process."""
    for one in _pools:
        one.close()


def describe() -> list[dict[str, Any]]:
    """The pools that have been used, for management."""
    return [one.describe() for one in _pools if one.opened or one.failures or one.size]
