"""The connections of this process to one database. See :mod:`opensips_py.clients.connection_pool`."""

from __future__ import annotations

from typing import Any

import pymysql

from opensips_py.clients.connection_pool import ConnectionPool
from opensips_py.clients.pools import PoolStatistics
from opensips_py.db.mysql.connection import Connection
from opensips_py.db.mysql.url import DatabaseUrl, parse_database_url
from opensips_py.evi import events
from opensips_py.server.process import this

CONNECTION_EVENT = "E_MYSQL_CONNECTION"

statistics = PoolStatistics("db_mysql")


class Settings:
    """What the db_mysql module's parameters say (process-wide)."""

    patience: float = 6.0
    """Seconds for connecting, and for a plain query."""
    attempts: int = 2
    """How often a query is tried that never reached the database."""
    public_key: bytes | None = None
    """The servers' public key (PEM), where a URL names none."""
    answer: int = 4096 * 1024
    """Bytes that an answer may have; 0: any."""
    slow_query: float = 0.0
    """Seconds from which a query is logged as slow; 0: never."""


settings = Settings()


class Pool(ConnectionPool[Connection]):
    """The pool of one database. ``queue`` and ``idle_seconds`` are those of all databases."""

    module = "db_mysql"
    errors = (OSError, pymysql.MySQLError)

    def __init__(self, url: DatabaseUrl) -> None:
        super().__init__(statistics)
        self.url = url

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

    def connection(self) -> Connection:
        return Connection(self.url, settings.patience, self.url.public_key or settings.public_key)

    def adopted(self, fd: int) -> Connection:
        return Connection.adopt(self.url, fd)

    def why(self, connection: Connection, error: Exception) -> str:
        return str(error.args[1]) if isinstance(error, pymysql.MySQLError) and len(error.args) > 1 else str(error)

    def went(self, up: bool) -> None:
        if events.wanted(CONNECTION_EVENT):
            status = "connected" if up else "disconnected"
            events.raise_event(CONNECTION_EVENT, [("url", self.url.text), ("status", status)])

    def lost_during(self, connection: Connection, query: bytes) -> None:
        """The connection broke while a query was under way."""
        self._warn(f"connection to {self.url.name} lost during the query [{query[:200].decode('latin-1')}]")
        self.discard(connection)


_pools: dict[str, Pool] = {}


def pool(url: str) -> Pool:
    """This process' pool for a database URL. ValueError when the URL is not one."""
    found = _pools.get(url)
    if found is None:
        found = _pools[url] = Pool(parse_database_url(url))
    return found


def close_all() -> None:
    """Close the idle connections of this process."""
    for one in _pools.values():
        one.close()


def describe() -> list[dict[str, Any]]:
    """The pools that have been used, for management."""
    return [one.describe() for one in _pools.values() if one.opened or one.failures or one.size]
