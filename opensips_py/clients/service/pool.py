"""The connections of this process to one service: of several servers, the next is tried when one cannot be reached."""

from __future__ import annotations

import dataclasses
from typing import Any

from opensips_py.clients.connection_pool import ConnectionPool
from opensips_py.clients.pools import PoolStatistics
from opensips_py.clients.service.connection import Connection
from opensips_py.clients.service.description import Service, ServiceError


class Pool(ConnectionPool[Connection]):
    """The pool of one service."""

    errors = (OSError, ServiceError)

    def __init__(self, service: Service, statistics: PoolStatistics) -> None:
        super().__init__(statistics)
        self.service = service
        self.module = service.module
        self.queue = service.queue
        self.idle_seconds = service.idle_seconds
        self._server = 0
        self._missed = 0
        """Servers that could not be reached since one could."""

    @property
    def title(self) -> str:
        return self.service.title

    @property
    def destination(self) -> str:
        return f"{self.service.key} {self.service.address(self._server)}"

    @property
    def limit(self) -> int:
        return self.service.connections

    def connection(self) -> Connection:
        return Connection(self.service, self._server)

    def adopted(self, fd: int) -> Connection:
        return Connection.adopt(self.service, fd)

    def why(self, connection: Connection, error: Exception) -> str:
        return f"{self.service.address(connection.server)}: {error}"

    def tries_another(self, connection: Connection, error: Exception) -> bool:
        if connection.server == self._server:
            self._missed += 1
            self._server = (self._server + 1) % len(self.service.servers)
        if self._missed >= len(self.service.servers):
            self._missed = 0
            return False
        tried, following = self.service.address(connection.server), self.service.address(self._server)
        self._warn(f"{self.title}: {tried} cannot be reached: {error}; trying {following}")
        return True

    def reached(self) -> None:
        self._missed = 0


services: dict[str, tuple[Service, PoolStatistics]] = {}
"""All services by key, with the figures of their modules; modules fill it before the fork."""
_pools: dict[str, Pool] = {}


def offer(service: Service, statistics: PoolStatistics) -> None:
    """Make a service known. Called before the fork."""
    services[service.key] = service, statistics
    _pools.pop(service.key, None)


def pool(key: str) -> Pool:
    """This process' connections to a service; KeyError when there is no such service."""
    found = _pools.get(key)
    if found is None:
        found = _pools[key] = Pool(*_described(key))
    return found


def _described(key: str) -> tuple[Service, PoolStatistics]:
    """A service that a module has offered, or one of them ``@`` another server."""
    if key in services or "@" not in key:
        return services[key]
    base, _, address = key.rpartition("@")
    service, statistics = services[base]
    host, _, port = address.rpartition(":")
    title = f"{service.title} at {address}"
    return dataclasses.replace(service, key=key, title=title, servers=((host, int(port), None),)), statistics


def pool_at(key: str, host: str, port: int) -> Pool:
    """This process' connections to a service at another server than those that it was offered with."""
    return pool(f"{key}@{host}:{port}")


def close_all(module: str) -> None:
    """Close the idle connections of a module's services in this process."""
    for one in _pools.values():
        if one.service.module == module:
            one.close()


def describe() -> list[dict[str, Any]]:
    """The pools that have been used, for management."""
    return [one.describe() for one in _pools.values() if one.opened or one.failures or one.size]
