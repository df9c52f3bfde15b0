"""What databases that are servers have in common: the parameters of their modules, and the pool of one database."""

from __future__ import annotations

from typing import TypeVar

from opensips_py.clients.connection_pool import ConnectionPool, PooledConnection
from opensips_py.clients.pools import PoolStatistics
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.server.process import this

C = TypeVar("C", bound=PooledConnection)


class ServerSettings:
    """What the parameters of a module say (process-wide)."""

    attempts: int = 2
    """How often a query is tried that never reached the database."""
    answer: int = 4096 * 1024
    """Bytes that an answer may have; 0: any."""
    slow_query: float = 0.0
    """Seconds from which a query is logged as slow; 0: never."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        """Seconds for connecting, and for a plain query."""


class ServerParameters:
    """The parameters that every such module has."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._slow = module.param(
            "exec_query_threshold", int, 0, doc="microseconds from which a query is logged as slow; 0: never"
        )
        self._attempts = module.param("max_db_queries", int, 2, doc="how often a query is tried that did not reach the database")
        self._queue = module.param(
            "max_waiting_queries",
            int,
            65536,
            doc="queries of one process that may wait for a connection; more are refused, $rc -4 (ours)",
        )
        self._idle = module.param(
            "idle_timeout",
            int,
            300,
            doc="seconds for which an unused connection is kept; 0: as long as the server keeps it (ours)",
        )
        self._answer = module.param(
            "max_result_size",
            int,
            4096,
            doc="KB that the answer to a query may have, each value counting as its length and 128 bytes; "
            "more: $rc -1; 0: any (ours)",
        )

    def apply(self, settings: ServerSettings, pool: type[DatabasePool[C]]) -> None:
        """Read them. Raises ConfigError."""
        for parameter in (self._queue, self._idle, self._answer):
            if parameter.value < 0:
                raise ConfigError(f"{self._module.name}: {parameter.name} is {parameter.value}; it cannot be negative")
        pool.queue = self._queue.value
        pool.idle_seconds = float(self._idle.value)
        settings.answer = self._answer.value * 1024
        settings.attempts = max(1, self._attempts.value)
        settings.slow_query = max(0, self._slow.value) / 1e6


class DatabasePool(ConnectionPool[C]):
    """The pool of one database. ``queue`` and ``idle_seconds`` are those of all databases of its kind."""

    def __init__(self, name: str, statistics: PoolStatistics) -> None:
        super().__init__(statistics)
        self._name = name

    @property
    def title(self) -> str:
        return f"database {self._name}"

    @property
    def destination(self) -> str:
        return self._name

    @property
    def limit(self) -> int:
        """Core parameter db_max_async_connections."""
        return int(this.program.settings.db_max_async_connections)

    def lost_during(self, connection: C, query: str) -> None:
        """The connection broke while a query was under way."""
        self._warn(f"connection to {self._name} lost during the query [{query[:200]}]")
        self.discard(connection)


def host_and_port(address: str) -> tuple[str, str]:
    """``host[:port]`` or ``[IPv6 address][:port]`` of a URL; the port is empty or a number. Raises ValueError."""
    if address.startswith("["):
        host, bracket, port = address[1:].partition("]")
        if not bracket:
            raise ValueError(f"[{address}] is not a host")
        port = port.removeprefix(":")
    else:
        host, _, port = address.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"[{port}] is not a port")
    return host, port
