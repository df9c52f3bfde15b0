"""The connections of this process to one service.

An operation asks for a connection. It gets an idle one, or one to be connected (which it drives itself), or it waits in
the queue until another gives one back. Plain calls never wait in the queue: the worker stands still meanwhile, so
nobody could give a connection back; they may exceed the limit.

When a server cannot be reached the next one of the service is tried. When none can, operations fail at once until the
next attempt is due; attempts are spaced by a doubling, randomised back-off. The log gets one line when the service is lost and
one when it is back.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from typing import Protocol

from opensips_py.core.log import ERROR, NOTICE, WARNING, log
from opensips_py.core.service.connection import Connection
from opensips_py.core.service.description import Service

CONNECTING = 32
"""Connections being opened at the same time: a server's backlog is short."""
QUEUE = 65536
"""Operations that may wait for a connection."""
BACK_OFF = (0.1, 5.0)
"""First and longest pause between attempts to connect, in seconds."""
_WARN_EVERY = 1.0


class Unavailable(Exception):
    """The service cannot be reached at present."""


class Busy(Exception):
    """Too many operations wait already."""


class Waiter(Protocol):
    """An operation, as the pool sees it."""

    mode: str

    def granted(self, connection: Connection | None) -> None:
        """Here is a connection, ready for a question; None: ask again."""

    def refused(self) -> None:
        """There is no connection to be had."""


class Pool:
    """See the head of this file."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.idle: list[Connection] = []
        """Ready and unused, the last used on top."""
        self.size = 0
        """All connections, whatever their state."""
        self.connecting = 0
        self.waiting: OrderedDict[int, Waiter] = OrderedDict()
        self.down = False
        self._server = 0
        self._missed = 0
        """Servers that could not be reached since one could."""
        self._failures = 0
        self._retry_at = 0.0
        self._warned = -_WARN_EVERY

    def acquire(self, waiter: Waiter) -> Connection | None:
        """A connection, which may still have to be connected; None: ``waiter`` is in the queue. May raise Unavailable or Busy."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.alive():
                return connection
            self._remove(connection)
        backing_off = self._backing_off()
        if backing_off and (waiter.mode == "plain" or self.size == self.connecting):
            raise Unavailable
        full = self.size >= self.service.connections or self.connecting >= CONNECTING
        if waiter.mode != "plain" and (backing_off or full):
            if len(self.waiting) >= QUEUE:
                self._warn(f"{QUEUE} operations wait for the {self.service.title}, refusing more")
                raise Busy
            self.waiting[id(waiter)] = waiter
            return None
        self.size += 1
        self.connecting += 1
        return Connection(self.service, self._server)

    def adopt(self, fd: int) -> Connection:
        """Take in a connection of another process."""
        connection = Connection.adopt(self.service, fd)
        connection.stream.keep(self.service.module)
        self.size += 1
        return connection

    def connected(self) -> None:
        """A connection has become ready for its operation's question."""
        self.connecting -= 1
        self._missed = 0
        self._failures = 0
        self._retry_at = 0.0
        if self.down:
            self.down = False
            log(NOTICE, self.service.module, "connected", f"{self.service.title} is back")
        self._call_next()

    def failed(self, connection: Connection, error: Exception) -> None:
        """A connection could not be made."""
        self.connecting -= 1
        self.size -= 1
        connection.stream.close()
        address = self.service.address(connection.server)
        if connection.server == self._server:
            self._missed += 1
            self._server = (self._server + 1) % len(self.service.servers)
        if self._missed < len(self.service.servers):
            if not self.down:
                self._warn(
                    f"{self.service.title}: {address} cannot be reached: {error}; trying {self.service.address(self._server)}"
                )
            return
        self._missed = 0
        first, longest = BACK_OFF
        self._retry_at = time.monotonic() + min(longest, first * 2**self._failures) * random.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 16)
        if self.size > self.connecting:
            self._warn(f"{self.service.title}: no further connection beside {self.size - self.connecting}: {error}")
            return
        if not self.down:
            self.down = True
            log(ERROR, self.service.module, "connect", f"{self.service.title} ({address}) cannot be reached: {error}")
        self._refuse_all()

    def abandoned(self, connection: Connection) -> None:
        """The operation that drove a connecting connection has ended before it was ready."""
        self.connecting -= 1
        self.discard(connection)

    def release(self, connection: Connection) -> None:
        """The question is answered; whoever waits longest gets the connection."""
        if self.waiting:
            self._first_waiter().granted(connection)
        else:
            self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """The connection broke while an answer was awaited."""
        self._warn(f"{self.service.title}: connection lost before the answer had come")
        self.discard(connection)

    def discard(self, connection: Connection) -> None:
        """Close a connection that is in an unknown state."""
        self._remove(connection)
        self._call_next()

    def forget(self, connection: Connection) -> None:
        """Another process uses the connection now."""
        self.size -= 1
        connection.stream.forget()
        self._call_next()

    def close(self) -> None:
        """Take leave of the server on all idle connections."""
        for connection in self.idle:
            self.size -= 1
            connection.quit()
        self.idle.clear()

    def leave_queue(self, waiter: Waiter) -> None:
        """An operation does not want a connection any more."""
        self.waiting.pop(id(waiter), None)

    def give_up_room(self) -> None:
        """An operation that was told to ask again does not."""
        self._call_next()

    def _first_waiter(self) -> Waiter:
        return self.waiting.popitem(last=False)[1]

    def _remove(self, connection: Connection) -> None:
        self.size -= 1
        connection.stream.close()

    def _call_next(self) -> None:
        """There is room for another connection: whoever waits longest may open it."""
        if not self.waiting:
            return
        if self._backing_off():
            if self.size == 0:
                self._refuse_all()
        elif self.size < self.service.connections and self.connecting < CONNECTING:
            self._first_waiter().granted(None)

    def _backing_off(self) -> bool:
        return self._retry_at > 0.0 and time.monotonic() < self._retry_at

    def _refuse_all(self) -> None:
        """Nobody is left who could give a connection back."""
        waiting, self.waiting = self.waiting, OrderedDict()
        for waiter in waiting.values():
            waiter.refused()

    def _warn(self, text: str) -> None:
        now = time.monotonic()
        if not self.down and now - self._warned >= _WARN_EVERY:
            self._warned = now
            log(WARNING, self.service.module, "connection", text)


services: dict[str, Service] = {}
"""All services by key; modules fill it before the fork."""
_pools: dict[str, Pool] = {}


def offer(service: Service) -> None:
    """Make a service known. Called before the fork."""
    services[service.key] = service
    _pools.pop(service.key, None)


def pool(key: str) -> Pool:
    """This process' connections to a service; KeyError when there is no such service."""
    found = _pools.get(key)
    if found is None:
        found = _pools[key] = Pool(services[key])
    return found


def close_all(module: str) -> None:
    """Close the idle connections of a module's services in this process."""
    for one in _pools.values():
        if one.service.module == module:
            one.close()
