"""The HTTP connections of this process: kept open by destination, with a fair queue where there are too many transfers.

Transfers are limited altogether and for each destination (scheme, host and port). Those that find no place wait; places are given
out to the destinations in turn, so that a slow server does not hold up transfers to others. Plain calls never wait in the queue:
the worker stands still meanwhile, so no transfer could end and make room.

A destination that cannot be connected to fails at once for a while, with the code of the last attempt; then one transfer tries
again. The pauses double, up to a second, and are randomised. The log says when a destination is lost and when it is back.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from opensips_py.clients.pools import BackOff, Fullness, PoolStatistics, Queue
from opensips_py.modules.rest_client.connection import HttpConnection
from opensips_py.modules.rest_client.url import Origin
from opensips_py.server.log import ERROR, NOTICE, log
from opensips_py.server.process import this

BACK_OFF = (0.05, 1.0)
"""First and longest pause between attempts to connect, in seconds."""
_PRUNE_PAUSE = 0.5
"""Seconds between two looks at unused connections, at least."""

statistics = PoolStatistics("rest_client")


class Settings:
    """What the rest_client module's parameters say (process-wide)."""

    connect_seconds: float = 20.0
    """Time for connecting; 0: as long as the transfer may take."""
    transfer_seconds: float = 20.0
    """Time for everything; 0: any."""
    transfers: int = 100
    """Transfers at the same time, for async() and launch()."""
    host_transfers: int = 0
    """Those to one destination; 0: as many as ``transfers``."""
    queue: int = 65536
    """Transfers that may wait for others to end."""
    idle_seconds: float = 30.0
    """For how long an unused connection is kept; 0: not at all."""
    idle_connections: int = 256
    """Unused connections kept for one destination."""
    body: int = 10 * 1024 * 1024
    """Longest body in bytes; 0: any."""
    around: int = 64 * 1024
    """Bytes of headers, and of what else is beside the body; 0: any."""


settings = Settings()


class Waiter(Protocol):
    """A transfer, as the pool sees it."""

    mode: str

    def go(self) -> None:
        """There is room now."""


class Unavailable(Exception):
    """The destination cannot be connected to at present; ``rc`` is the code of the last attempt."""

    def __init__(self, rc: int) -> None:
        super().__init__()
        self.rc = rc


class Full(Exception):
    """Too many transfers wait already."""


class Destination:
    """What this process has to do with one server."""

    __slots__ = (
        "active",
        "back_off",
        "connecting",
        "failures",
        "idle",
        "last_rc",
        "open",
        "opened",
        "origin",
        "refusals",
        "retried",
        "waiting",
    )

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle: list[HttpConnection] = []
        """Ready and unused, the last used on top."""
        self.active = 0
        """Transfers under way."""
        self.open = 0
        """Connections, idle, in use or being opened."""
        self.connecting = 0
        self.waiting: Queue[Waiter] = Queue()
        self.back_off = BackOff(*BACK_OFF)
        self.last_rc = 0
        self.opened = self.failures = self.retried = self.refusals = 0

    @property
    def url(self) -> str:
        """For people."""
        return f"{'https' if self.origin.secure else 'http'}://{self.origin.field}"

    @property
    def limit(self) -> int:
        """Transfers at the same time."""
        return settings.host_transfers or settings.transfers

    @property
    def unused(self) -> bool:
        """Nothing would be lost by forgetting it."""
        return not (self.idle or self.active or self.waiting or self.open or self.back_off.holds)

    def check(self) -> None:
        """Raises Unavailable when it is known to be down and somebody finds out already whether it is back, or it is too early
        to try."""
        failing = self.back_off.failing and self.open == self.connecting
        if failing and (self.connecting or self.back_off.holds):
            raise Unavailable(self.last_rc)


class HttpPool:
    """See the head of this file."""

    def __init__(self) -> None:
        self.destinations: dict[Origin, Destination] = {}
        self.active = 0
        """Transfers under way."""
        self.waiting = 0
        """Transfers in the queues."""
        self._turns: deque[Destination] = deque()
        """Destinations for which somebody waits, in the order in which they get the next place."""
        self._fullness = Fullness(self._tell_fullness)
        self._pruning = False

    def destination(self, origin: Origin) -> Destination:
        """What is known of a server."""
        found = self.destinations.get(origin)
        if found is None:
            found = self.destinations[origin] = Destination(origin)
            self._look_later()
        return found

    @property
    def idle(self) -> dict[Origin, list[HttpConnection]]:
        """Unused connections."""
        return {origin: one.idle for origin, one in self.destinations.items() if one.idle}

    # --- places -------------------------------------------------------------------------------------------------

    def enter(self, waiter: Waiter, origin: Origin) -> bool:
        """Whether the transfer may begin; False: it is in the queue. May raise Unavailable or Full."""
        one = self.destination(origin)
        one.check()
        if waiter.mode == "plain" or (self.active < settings.transfers and one.active < one.limit and not one.waiting):
            self.active += 1
            one.active += 1
            return True
        if self.waiting >= settings.queue:
            one.refusals += 1
            statistics.queue_full.add()
            self._fullness.refused()
            raise Full
        if not one.waiting:
            self._turns.append(one)
        one.waiting.append(waiter)
        self._count_waiting(1)
        return False

    def enter_adopted(self, origin: Origin) -> None:
        """A transfer that another process began goes on here."""
        self.active += 1
        self.destination(origin).active += 1

    def leave(self, origin: Origin) -> None:
        """A transfer has ended; its place goes to the next destination whose turn it is."""
        self.active -= 1
        self.destination(origin).active -= 1
        self._give_places()

    def leave_queue(self, waiter: Waiter, origin: Origin) -> None:
        """A transfer does not want to begin any more."""
        if self.destination(origin).waiting.remove(waiter):
            self._count_waiting(-1)

    def _give_places(self) -> None:
        turns = self._turns
        for _ in range(len(turns)):
            if self.active >= settings.transfers:
                return
            one = turns.popleft()
            if one.waiting and one.active < one.limit:
                self.active += 1
                one.active += 1
                self._count_waiting(-1)
                one.waiting.pop().go()
            if one.waiting:
                turns.append(one)

    def _count_waiting(self, n: int) -> None:
        self.waiting += n
        statistics.connections_waiting.add(n)
        self._fullness.now(self.waiting, settings.queue)

    def _tell_fullness(self, full: bool, refused: int) -> None:
        if full:
            log(ERROR, "rest_client", "enter", f"{settings.queue} transfers wait, refusing more ($rc -4)")
        else:
            log(NOTICE, "rest_client", "enter", f"transfers may wait again; {refused} were refused")

    # --- connections --------------------------------------------------------------------------------------------

    def connection(self, origin: Origin, *, fresh: bool = False) -> HttpConnection:
        """A connection, kept or (always, with ``fresh``) new. May raise Unavailable."""
        one = self.destination(origin)
        kept = one.idle
        while kept and not fresh:
            connection = kept.pop()
            statistics.connections_idle.add(-1)
            if connection.stream.alive():
                return connection
            self.close_connection(connection)
        one.check()
        connection = HttpConnection(origin)
        one.connecting += 1
        self._count_open(one, 1)
        return connection

    def adopt(self, connection: HttpConnection) -> None:
        """A connection of another process is used here now."""
        self._count_open(self.destination(connection.origin), 1)

    def _count_open(self, one: Destination, n: int) -> None:
        one.open += n
        statistics.connections_open.add(n)

    def connected(self, connection: HttpConnection) -> None:
        """A new connection has become ready."""
        one = self.destination(connection.origin)
        one.connecting -= 1
        one.opened += 1
        statistics.connections_opened.add()
        if one.back_off.failing:
            one.back_off.succeeded()
            log(NOTICE, "rest_client", "connected", f"{one.url} is back")

    def failed(self, connection: HttpConnection, rc: int, *, unreachable: bool) -> bool:
        """A connection could not be made; the caller closes it. Whether that is news.

        ``unreachable``: the host does not answer. Everything else (its name, its certificate) is tried again each time.
        """
        one = self.destination(connection.origin)
        news = not (unreachable and one.back_off.failing)
        one.failures += 1
        statistics.connections_failed.add()
        if unreachable:
            one.last_rc = rc
            one.back_off.failed()
        return news

    def close_connection(self, connection: HttpConnection) -> None:
        """Close a connection, whatever its state."""
        one = self.destination(connection.origin)
        if not connection.ready:
            one.connecting -= 1
        self._count_open(one, -1)
        connection.stream.close()

    def forget(self, connection: HttpConnection) -> None:
        """Another process uses the connection now."""
        self._count_open(self.destination(connection.origin), -1)
        connection.stream.forget()

    def put_back(self, connection: HttpConnection) -> None:
        """Keep a connection for the next transfer."""
        kept = self.destination(connection.origin).idle
        if len(kept) >= settings.idle_connections or not settings.idle_seconds:
            self.close_connection(connection)
            return
        if connection.stream.fd_key is None and not connection.secure:
            connection.stream.keep("http")  # adopted: up to now the fd store has had it under its operation's name
        connection.idle_since = this.clock.now()
        kept.append(connection)
        statistics.connections_idle.add()
        self._look_later()

    def note_retry(self, origin: Origin) -> None:
        """A request is sent again."""
        self.destination(origin).retried += 1
        statistics.retried.add()

    def prune(self, now: float | None = None) -> None:
        """Close what was not used for long, and forget destinations with which nothing is left to do."""
        self._pruning = False
        before = (this.clock.now() if now is None else now) - settings.idle_seconds
        for origin, one in list(self.destinations.items()):
            old = 0
            while old < len(one.idle) and one.idle[old].idle_since <= before:
                old += 1
            for connection in one.idle[:old]:
                self.close_connection(connection)
            del one.idle[:old]
            statistics.connections_idle.add(-old)
            statistics.connections_closed_idle.add(old)
            if one.unused:
                del self.destinations[origin]
        if self.destinations:
            self._look_later(min((one.idle[0].idle_since for one in self.destinations.values() if one.idle), default=None))

    def _look_later(self, oldest: float | None = None) -> None:
        if not self._pruning:
            self._pruning = True
            now = this.clock.now()
            this.reactor.call_at(max((oldest or now) + settings.idle_seconds, now + _PRUNE_PAUSE), self.prune)

    def close(self) -> None:
        """Close all idle connections."""
        for one in self.destinations.values():
            for connection in one.idle:
                self.close_connection(connection)
            statistics.connections_idle.add(-len(one.idle))
            one.idle.clear()

    def describe(self) -> list[dict[str, Any]]:
        """For ``async_pools``."""
        return [
            {
                "Destination": one.url,
                "State": "down" if one.back_off.failing else "up",
                "Open": one.open,
                "Connecting": one.connecting,
                "Idle": len(one.idle),
                "Limit": one.limit,
                "Waiting": len(one.waiting),
                "Opened": one.opened,
                "Failed": one.failures,
                "Retried": one.retried,
                "Refused": one.refusals,
            }
            for one in self.destinations.values()
        ]


pool = HttpPool()
"""This process' pool. It is empty when workers are forked."""
