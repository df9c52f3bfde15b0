"""The connections of this process to one database. See :mod:`opensips_py.clients.connection_pool`."""

from __future__ import annotations

from typing import Any

import pymysql

from opensips_py.clients.pools import PoolStatistics
from opensips_py.db.mysql.connection import Connection
from opensips_py.db.mysql.url import DatabaseUrl, parse_database_url
from opensips_py.db.server import DatabasePool, ServerSettings
from opensips_py.evi import events

CONNECTION_EVENT = "E_MYSQL_CONNECTION"

statistics = PoolStatistics("db_mysql")


class Settings(ServerSettings):
    """What the parameters of db_mysql say."""

    public_key: bytes | None = None
    """The servers' public key (PEM), where a URL names none."""


settings = Settings(patience=6.0)


class Pool(DatabasePool[Connection]):
    """The pool of one database."""

    module = "db_mysql"
    errors = (OSError, pymysql.MySQLError)

    def __init__(self, url: DatabaseUrl) -> None:
        super().__init__(url.name, statistics)
        self.url = url

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
