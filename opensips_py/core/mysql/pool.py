"""The connections of this process to one database.

An operation asks for a connection. It gets an idle one, or one to be connected (which it drives itself), or it waits in
the queue until another gives one back. Plain calls never wait in the queue: the worker stands still meanwhile, so
nobody could give a connection back; they may exceed the limit.

When the database cannot be reached, operations fail at once. The pool itself looks for the database again, with one
connection at a time, after pauses that double and are randomised. The log gets one line when the database is lost and one
when it is back. A server that vanishes without a word is noticed by the kernel (``Stream`` has keep-alive).
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import pymysql

from opensips_py.core import events
from opensips_py.core.log import ERROR, NOTICE, WARNING, log
from opensips_py.core.mysql.connection import Connection
from opensips_py.core.mysql.url import DatabaseUrl, parse_database_url
from opensips_py.core.pools import BackOff, Fullness, PoolStatistics, Queue, describers
from opensips_py.core.process import this

CONNECTING = 32
"""Connections being opened at the same time: a server's backlog is short."""
BACK_OFF = (0.1, 5.0)
"""First and longest pause between attempts to connect, in seconds."""
CONNECTION_EVENT = "E_MYSQL_CONNECTION"
_WARN_EVERY = 1.0

statistics = PoolStatistics("db_mysql")


class Settings:
    """What the db_mysql module's parameters say (process-wide)."""

    patience: float = 6.0
    """Seconds for connecting, and for a plain query."""
    attempts: int = 2
    """How often a query is tried that never reached the database."""
    slow_query: float = 0.0
    """Seconds from which a query is logged as slow; 0: never."""
    queue: int = 65536
    """Operations that may wait for a connection."""
    idle_seconds: float = 300.0
    """How long an unused connection is kept; 0: for ever."""


settings = Settings()


class Unavailable(Exception):
    """The database cannot be reached at present."""


class Full(Exception):
    """Too many operations wait for a connection already."""


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
        self.waiting: Queue[Waiter] = Queue()
        self.down = False
        self.opened = self.failures = self.retried = self.refusals = 0
        """Since the start of this process."""
        self._back_off = BackOff(*BACK_OFF)
        self._fullness = Fullness(self._tell_fullness)
        self._warned = -_WARN_EVERY
        self._probing = False
        self._closing: Any = None

    @property
    def limit(self) -> int:
        """Core parameter db_max_async_connections."""
        return int(this.program.settings.db_max_async_connections)

    def acquire(self, waiter: Waiter) -> Connection | None:
        """A connection, which may still have to be connected; None: ``waiter`` is in the queue. May raise Unavailable."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            statistics.connections_idle.add(-1)
            if connection.alive():
                return connection
            self._remove(connection)
        usable = self.size > self.connecting
        waits = waiter.mode != "plain"
        if self._back_off.holds and not (waits and usable):
            raise Unavailable
        if waits and (self.size >= self.limit or not self._may_connect()):
            if self._back_off.failing and not usable:
                raise Unavailable  # somebody looks already whether the database is back
            if len(self.waiting) >= settings.queue:
                self.refusals += 1
                statistics.queue_full.add()
                self._fullness.refused()
                raise Full
            self.waiting.append(waiter)
            statistics.connections_waiting.add()
            return None
        return self._begin()

    def _may_connect(self) -> bool:
        """Whether one more attempt to connect is in order: only one at a time to a database that does not answer."""
        return not self._back_off.holds and self.connecting < (1 if self._back_off.failing else CONNECTING)

    def _begin(self) -> Connection:
        self._resize(1)
        self.connecting += 1
        return Connection(self.url, settings.patience)

    def _resize(self, n: int) -> None:
        self.size += n
        statistics.connections_open.add(n)

    def adopt(self, fd: int) -> Connection:
        """Take in a connection of another process."""
        connection = Connection.adopt(self.url, fd)
        connection.stream.keep("mysql")
        self._resize(1)
        return connection

    def connected(self) -> None:
        """A connection has become ready."""
        self.connecting -= 1
        self.opened += 1
        statistics.connections_opened.add()
        self._back_off.succeeded()
        if self.down:
            self.down = False
            log(NOTICE, "db_mysql", "connected", f"database {self.url.name} is back")
            self._tell("connected")
        self.call_next()

    def failed(self, connection: Connection, error: Exception) -> None:
        """A connection could not be made."""
        self.connecting -= 1
        self._remove(connection)
        self.failures += 1
        statistics.connections_failed.add()
        self._back_off.failed()
        text = error.args[1] if isinstance(error, pymysql.MySQLError) and len(error.args) > 1 else error
        self._look_again()
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
            self._next().granted(connection)
            return
        self.idle.append(connection)
        statistics.connections_idle.add()
        if settings.idle_seconds:
            connection.idle_since = time.monotonic()
            if self._closing is None and hasattr(this, "reactor"):
                self._closing = this.reactor.call_at(connection.idle_since + settings.idle_seconds, self.close_idle)

    def close_idle(self) -> None:
        """Close what nobody has used for long."""
        self._closing = None
        idle = self.idle
        before = time.monotonic() - settings.idle_seconds
        old = 0
        while old < len(idle) and idle[old].idle_since <= before:
            old += 1
        for connection in idle[:old]:
            self._resize(-1)
            connection.quit()
        del idle[:old]
        statistics.connections_idle.add(-old)
        statistics.connections_closed_idle.add(old)
        if idle:
            self._closing = this.reactor.call_at(idle[0].idle_since + settings.idle_seconds, self.close_idle)

    def note_retry(self) -> None:
        """An operation is sent again."""
        self.retried += 1
        statistics.retried.add()

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
        self._resize(-1)
        connection.stream.forget()
        self.call_next()

    def close(self) -> None:
        """Take leave of the server on all idle connections."""
        for connection in self.idle:
            self._resize(-1)
            connection.quit()
        statistics.connections_idle.add(-len(self.idle))
        self.idle.clear()

    def leave_queue(self, waiter: Waiter) -> None:
        """An operation does not want a connection any more."""
        if self.waiting.remove(waiter):
            self._left(1)

    def _next(self) -> Waiter:
        waiter = self.waiting.pop()
        self._left(1)
        return waiter

    def _left(self, n: int) -> None:
        statistics.connections_waiting.add(-n)
        self._fullness.now(len(self.waiting), settings.queue)

    def _tell_fullness(self, full: bool, refused: int) -> None:
        if full:
            text = f"{self.url.name}: {settings.queue} queries wait for a connection, refusing more ($rc -4)"
            log(ERROR, "db_mysql", "acquire", text)
        else:
            log(NOTICE, "db_mysql", "acquire", f"{self.url.name}: queries may wait again; {refused} were refused")

    def _remove(self, connection: Connection) -> None:
        self._resize(-1)
        connection.stream.close()

    def call_next(self) -> None:
        """There is room for another connection: whoever waits longest may open it."""
        if not self.waiting:
            return
        if self._back_off.failing and self.size == 0:
            self._refuse_all()
        elif self.size < self.limit and self._may_connect():
            self._next().granted(None)

    def _refuse_all(self) -> None:
        """Nobody is left who could give a connection back."""
        waiting = self.waiting.clear()
        self._left(len(waiting))
        for waiter in waiting:
            waiter.refused()

    def _tell(self, status: str) -> None:
        if events.wanted(CONNECTION_EVENT):
            events.raise_event(CONNECTION_EVENT, [("url", self.url.text), ("status", status)])

    # --- looking for a database that is down ----------------------------------------------------------------------

    def _look_again(self) -> None:
        """Try to connect when the pause is over, so that no operation has to find out."""
        if not self._probing and hasattr(this, "reactor"):
            self._probing = True
            this.reactor.call_at(self._back_off.retry_at, self._probe)

    def _probe(self) -> None:
        self._probing = False
        if not self._back_off.failing:
            return
        if self._may_connect():
            _Probe(self, self._begin())
        else:
            self._probing = True
            this.reactor.call_at(max(self._back_off.retry_at, time.monotonic() + BACK_OFF[0]), self._probe)

    def describe(self) -> dict[str, Any]:
        """For ``async_pools``."""
        return {
            "Destination": self.url.name,
            "State": "down" if self.down else "up",
            "Open": self.size,
            "Connecting": self.connecting,
            "Idle": len(self.idle),
            "Limit": self.limit,
            "Waiting": len(self.waiting),
            "Opened": self.opened,
            "Failed": self.failures,
            "Retried": self.retried,
            "Refused": self.refusals,
        }

    def _warn(self, text: str) -> None:
        now = time.monotonic()
        if not self.down and now - self._warned >= _WARN_EVERY:
            self._warned = now
            log(WARNING, "db_mysql", "connection", text)


class _Probe:
    """An attempt to connect that no operation waits for."""

    def __init__(self, owner: Pool, connection: Connection) -> None:
        self._pool, self._connection = owner, connection
        self._fd, self._wants, self._serial = -1, 0, 0
        self._timer = this.reactor.call_at(connection.give_up_at, self._late)
        self._go_on(0)

    def _go_on(self, events: int) -> None:
        connection = self._connection
        try:
            ready = connection.step()
        except (OSError, pymysql.MySQLError) as error:
            self._end()
            self._pool.failed(connection, error)
            return
        if ready:
            self._end()
            self._pool.connected()
            self._pool.release(connection)
            return
        fd, wants, serial = connection.fileno(), connection.wants, connection.stream.serial
        if serial != self._serial:
            self._unwatch()
            this.reactor.add(fd, wants, self._go_on)
            self._fd, self._wants, self._serial = fd, wants, serial
        elif wants != self._wants:
            this.reactor.modify(fd, wants)
            self._wants = wants

    def _late(self) -> None:
        self._end()
        self._pool.failed(self._connection, OSError("no answer while connecting"))

    def _end(self) -> None:
        this.reactor.cancel(self._timer)
        self._unwatch()

    def _unwatch(self) -> None:
        if self._fd >= 0:
            this.reactor.remove(self._fd)
            self._fd = -1


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


describers.append(lambda: [one.describe() for one in _pools.values() if one.opened or one.failures or one.size])
