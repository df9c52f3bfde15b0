"""The connections of this process to one database.

An operation asks for a connection. It gets an idle one, or one to be connected (which it drives itself), or it waits in
the queue until another gives one back. Plain calls never wait in the queue: the worker stands still meanwhile, so
nobody could give a connection back; they may exceed the limit.

When the database cannot be reached, operations fail at once until the next attempt is due; attempts are spaced by a
doubling, randomised back-off. The log gets one line when the database is lost and one when it is back.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Protocol

import pymysql

from opensips_py.core import events
from opensips_py.core.log import ERROR, NOTICE, WARNING, log
from opensips_py.core.mysql.connection import Connection
from opensips_py.core.mysql.url import DatabaseUrl, parse_database_url
from opensips_py.core.process import this

CONNECTING = 32
"""Connections being opened at the same time: a server's backlog is short."""
QUEUE = 65536
"""Operations that may wait for a connection."""
BACK_OFF = (0.1, 5.0)
"""First and longest pause between attempts to connect, in seconds."""
CONNECTION_EVENT = "E_MYSQL_CONNECTION"
_WARN_EVERY = 1.0


class Settings:
    """What the db_mysql module's parameters say (process-wide)."""

    patience: float = 6.0
    """Seconds for connecting, and for a plain query."""
    attempts: int = 2
    """How often a query is tried that never reached the database."""
    slow_query: float = 0.0
    """Seconds from which a query is logged as slow; 0: never."""


settings = Settings()


class Unavailable(Exception):
    """The database cannot be reached at present, or too many operations wait for it."""


class Waiter(Protocol):
    """An operation, as the pool sees it."""

    mode: str

    def granted(self, connection: Connection | None) -> None:
        """Here is a connection, ready for a query; None: ask again."""

    def refused(self) -> None:
        """There is no connection to be had."""


class Pool:
    """See the head of this file."""

    def __init__(self, url: DatabaseUrl) -> None:
        self.url = url
        self.idle: list[Connection] = []
        """Ready and unused, the last used on top."""
        self.size = 0
        """All connections, whatever their state."""
        self.connecting = 0
        self.waiting: deque[Waiter] = deque()
        self.down = False
        self._failures = 0
        self._retry_at = 0.0
        self._warned = -_WARN_EVERY

    @property
    def limit(self) -> int:
        """Core parameter db_max_async_connections."""
        return int(this.program.settings.db_max_async_connections)

    def acquire(self, waiter: Waiter) -> Connection | None:
        """A connection, which may still have to be connected; None: ``waiter`` is in the queue. May raise Unavailable."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.alive():
                return connection
            self._remove(connection)
        backing_off = self._backing_off()
        if backing_off and (waiter.mode == "plain" or self.size == self.connecting):
            raise Unavailable
        if waiter.mode != "plain" and (backing_off or self.size >= self.limit or self.connecting >= CONNECTING):
            if len(self.waiting) >= QUEUE:
                log(ERROR, "db_mysql", "acquire", f"{self.url.name}: {QUEUE} queries wait for a connection, refusing more")
                raise Unavailable
            self.waiting.append(waiter)
            return None
        self.size += 1
        self.connecting += 1
        return Connection(self.url, settings.patience)

    def adopt(self, fd: int) -> Connection:
        """Take in a connection of another process."""
        connection = Connection.adopt(self.url, fd)
        connection.stream.keep("mysql")
        self.size += 1
        return connection

    def connected(self) -> None:
        """A connection has become ready for its operation's query."""
        self.connecting -= 1
        self._failures = 0
        self._retry_at = 0.0
        if self.down:
            self.down = False
            log(NOTICE, "db_mysql", "connected", f"database {self.url.name} is back")
            self._tell("connected")
        self.call_next()

    def failed(self, connection: Connection, error: Exception) -> None:
        """A connection could not be made."""
        self.connecting -= 1
        self.size -= 1
        connection.stream.close()
        first, longest = BACK_OFF
        self._retry_at = time.monotonic() + min(longest, first * 2**self._failures) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 16)
        text = error.args[1] if isinstance(error, pymysql.MySQLError) and len(error.args) > 1 else error
        if self.size > self.connecting:
            self._warn(f"no further connection to {self.url.name} beside {self.size - self.connecting}: {text}")
            return
        if not self.down:
            self.down = True
            log(ERROR, "db_mysql", "connect", f"database {self.url.name} cannot be reached: {text}")
            self._tell("disconnected")
        self._refuse_all()

    def abandoned(self, connection: Connection) -> None:
        """The operation that drove a connecting connection has ended before it was ready."""
        self.connecting -= 1
        self._remove(connection)
        self.call_next()

    def release(self, connection: Connection) -> None:
        """The query is answered; whoever waits longest gets the connection."""
        if self.waiting:
            self.waiting.popleft().granted(connection)
        else:
            self.idle.append(connection)

    def lost(self, connection: Connection, query: bytes) -> None:
        """The connection broke while a query was under way."""
        self._warn(f"connection to {self.url.name} lost during the query [{query[:200].decode('latin-1')}]")
        self.discard(connection)

    def discard(self, connection: Connection) -> None:
        """Close a connection that is in an unknown state."""
        self._remove(connection)
        self.call_next()

    def forget(self, connection: Connection) -> None:
        """Another process uses the connection now."""
        self.size -= 1
        connection.stream.forget()
        self.call_next()

    def close(self) -> None:
        """Take leave of the server on all idle connections."""
        for connection in self.idle:
            self.size -= 1
            connection.quit()
        self.idle.clear()

    def leave_queue(self, waiter: Waiter) -> None:
        """An operation does not want a connection any more."""
        try:
            self.waiting.remove(waiter)
        except ValueError:
            return

    def _remove(self, connection: Connection) -> None:
        self.size -= 1
        connection.stream.close()

    def call_next(self) -> None:
        """There is room for another connection: whoever waits longest may open it."""
        if not self.waiting:
            return
        if self._backing_off():
            if self.size == 0:
                self._refuse_all()
        elif self.size < self.limit and self.connecting < CONNECTING:
            self.waiting.popleft().granted(None)

    def _backing_off(self) -> bool:
        return self._retry_at > 0.0 and time.monotonic() < self._retry_at

    def _refuse_all(self) -> None:
        """Nobody is left who could give a connection back."""
        waiting, self.waiting = self.waiting, deque()
        for waiter in waiting:
            waiter.refused()

    def _tell(self, status: str) -> None:
        if events.wanted(CONNECTION_EVENT):
            events.raise_event(CONNECTION_EVENT, [("url", self.url.text), ("status", status)])

    def _warn(self, text: str) -> None:
        now = time.monotonic()
        if not self.down and now - self._warned >= _WARN_EVERY:
            self._warned = now
            log(WARNING, "db_mysql", "connection", text)


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
