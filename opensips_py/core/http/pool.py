"""The HTTP connections of this process: kept open by origin, and a queue where there are too many transfers.

Plain calls never wait in the queue: the worker stands still meanwhile, so no transfer could end and make room.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

from opensips_py.core.http.connection import HttpConnection
from opensips_py.core.http.url import Origin
from opensips_py.core.process import this

KEEP_IDLE = 30.0
"""Seconds for which an unused connection is kept."""
KEEP_MOST = 256
"""Unused connections kept per origin."""
QUEUE = 65536
"""Transfers that may wait for others to end."""


class Settings:
    """What the rest_client module's parameters say (process-wide)."""

    connect_seconds: float = 20.0
    """Time for connecting; 0: as long as the transfer may take."""
    transfer_seconds: float = 20.0
    """Time for everything; 0: any."""
    transfers: int = 100
    """Transfers at the same time, for async() and launch()."""
    body: int = 10 * 1024 * 1024
    """Longest body in bytes; 0: any."""


settings = Settings()


class Waiter(Protocol):
    """A transfer, as the pool sees it."""

    mode: str

    def go(self) -> None:
        """There is room now."""


class HttpPool:
    """See the head of this file."""

    def __init__(self) -> None:
        self.idle: dict[Origin, list[HttpConnection]] = {}
        self.active = 0
        """Transfers under way."""
        self.waiting: deque[Waiter] = deque()
        self._pruning = False

    def enter(self, waiter: Waiter) -> bool | None:
        """Whether the transfer may begin; False: it is in the queue, None: the queue is full."""
        if self.active < settings.transfers or waiter.mode == "plain":
            self.active += 1
            return True
        if len(self.waiting) >= QUEUE:
            return None
        self.waiting.append(waiter)
        return False

    def enter_adopted(self) -> None:
        """A transfer that another process began goes on here."""
        self.active += 1

    def leave(self) -> None:
        """A transfer has ended; whoever waits longest has its place."""
        self.active -= 1
        if self.waiting and self.active < settings.transfers:
            self.active += 1
            self.waiting.popleft().go()

    def leave_queue(self, waiter: Waiter) -> None:
        """A transfer does not want to begin any more."""
        self.waiting.remove(waiter)

    def connection(self, origin: Origin) -> HttpConnection:
        """A connection, kept or new."""
        kept = self.idle.get(origin)
        while kept:
            connection = kept.pop()
            if connection.alive():
                return connection
            connection.stream.close()
        return HttpConnection(origin)

    def put_back(self, connection: HttpConnection) -> None:
        """Keep a connection for the next transfer."""
        kept = self.idle.setdefault(connection.origin, [])
        if len(kept) >= KEEP_MOST:
            connection.stream.close()
            return
        connection.idle_since = time.monotonic()
        kept.append(connection)
        if not self._pruning and hasattr(this, "reactor"):
            self._pruning = True
            this.reactor.call_at(connection.idle_since + KEEP_IDLE, self.prune)

    def prune(self, now: float | None = None) -> None:
        """Close what was not used for :data:`KEEP_IDLE` seconds."""
        self._pruning = False
        if now is None:
            now = time.monotonic()
        for origin, kept in list(self.idle.items()):
            while kept and kept[0].idle_since <= now - KEEP_IDLE:
                kept.pop(0).stream.close()
            if not kept:
                del self.idle[origin]
        if self.idle and hasattr(this, "reactor"):
            self._pruning = True
            this.reactor.call_at(min(kept[0].idle_since for kept in self.idle.values()) + KEEP_IDLE, self.prune)

    def close(self) -> None:
        """Close all idle connections."""
        for kept in self.idle.values():
            for connection in kept:
                connection.stream.close()
        self.idle.clear()


pool = HttpPool()
"""This process' pool. It is empty when workers are forked."""
