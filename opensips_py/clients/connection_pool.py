"""The connections of a process to one server, or to one service on several: what the pools of all kinds do.

An operation asks for a connection. It gets an idle one, or one to be connected (which it drives itself), or it waits in
the queue until another gives one back. Plain calls never wait in the queue: the worker stands still meanwhile, so
nobody could give a connection back; they may exceed the limit.

When the server cannot be reached, operations fail at once. The pool itself looks for it again, with one connection at a time,
after pauses that double and are randomised. The log gets one line when the server is lost and one when it is back. One that
vanishes without a word is noticed by the kernel (``Stream`` has keep-alive).
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from opensips_py.clients.pools import BackOff, Fullness, PoolStatistics, Queue
from opensips_py.clients.stream import Stream
from opensips_py.server.log import ERROR, NOTICE, WARNING, log
from opensips_py.server.process import this

CONNECTING = 32
"""Connections being opened at the same time: a server's backlog is short."""
BACK_OFF = (0.1, 5.0)
"""First and longest pause between attempts to connect, in seconds."""
_WARN_EVERY = 1.0


class Unavailable(Exception):
    """The server cannot be reached at present."""


class Full(Exception):
    """Too many operations wait for a connection already."""


class PooledConnection(Protocol):
    """A connection, as the pool sees it."""

    stream: Stream
    idle_since: float
    give_up_at: float
    """``this.clock.now()`` at which connecting has taken too long."""

    def fileno(self) -> int:
        """What to wait for while it is being connected."""

    @property
    def wants(self) -> int:
        """READ or WRITE."""

    def step(self) -> bool:
        """Go on with connecting; True when ready. Raises one of the pool's ``errors``."""

    def quit(self) -> None:
        """Take leave of the server and close."""


C = TypeVar("C", bound=PooledConnection)
C_contra = TypeVar("C_contra", bound=PooledConnection, contravariant=True)


class Waiter(Protocol[C_contra]):
    """An operation, as the pool sees it."""

    mode: str

    def granted(self, connection: C_contra | None) -> None:
        """Here is a connection, ready for a question; None: ask again."""

    def refused(self) -> None:
        """There is no connection to be had."""


class ConnectionPool(Generic[C]):
    """See the head of this file. Subclasses say what is connected to, and how."""

    module: str
    """Name of the module, for the log."""
    errors: tuple[type[Exception], ...] = (OSError,)
    """What a step of connecting may raise."""
    idle_seconds: float = 300.0
    """How long an unused connection is kept; 0: for ever."""
    queue: int = 65536
    """Operations that may wait for a connection."""

    def __init__(self, statistics: PoolStatistics) -> None:
        self.idle: list[C] = []
        """Ready and unused, the last used on top."""
        self.size = 0
        """All connections, whatever their state."""
        self.connecting = 0
        self.waiting: Queue[Waiter[C]] = Queue()
        self.down = False
        self.opened = self.failures = self.retried = self.refusals = 0
        """Since the start of this process."""
        self._statistics = statistics
        self._back_off = BackOff(*BACK_OFF)
        self._fullness = Fullness(self._tell_fullness)
        self._warned = -_WARN_EVERY
        self._probing = False
        self._closing: Any = None

    @property
    def title(self) -> str:
        """What is connected to, for people."""
        raise NotImplementedError  # abstract

    @property
    def destination(self) -> str:
        """The same for ``async_pools``."""
        return self.title

    @property
    def limit(self) -> int:
        """Most connections."""
        raise NotImplementedError  # abstract

    def connection(self) -> C:
        """A new connection, to be connected."""
        raise NotImplementedError  # abstract

    def adopted(self, fd: int) -> C:
        """A connection that another process has opened."""
        raise NotImplementedError  # abstract

    def why(self, connection: C, error: Exception) -> str:
        """What is wrong, for people."""
        return str(error)

    def tries_another(self, connection: C, error: Exception) -> bool:
        """Whether the next connection goes elsewhere, where it has not been tried yet."""
        return False

    def reached(self) -> None:
        """A connection has become ready."""

    def went(self, up: bool) -> None:
        """The server was lost, or is back."""

    # --- getting a connection -------------------------------------------------------------------------------------

    def acquire(self, waiter: Waiter[C]) -> C | None:
        """A connection, which may still have to be connected; None: ``waiter`` is in the queue. May raise Unavailable or Full."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            self._statistics.connections_idle.add(-1)
            if connection.stream.alive():
                return connection
            self._remove(connection)
        usable = self.size > self.connecting
        waits = waiter.mode != "plain"
        if self._back_off.holds and not (waits and usable):
            raise Unavailable
        if waits and (self.size >= self.limit or not self._may_connect()):
            if self._back_off.failing and not usable:
                raise Unavailable  # somebody looks already whether the server is back
            self._wait(waiter)
            return None
        return self._begin()

    def _wait(self, waiter: Waiter[C]) -> None:
        if len(self.waiting) >= self.queue:
            self.refusals += 1
            self._statistics.queue_full.add()
            self._fullness.refused()
            raise Full
        self.waiting.append(waiter)
        self._statistics.connections_waiting.add()

    def _may_connect(self) -> bool:
        """Whether one more attempt to connect is in order: only one at a time to a server that does not answer."""
        return not self._back_off.holds and self.connecting < (1 if self._back_off.failing else CONNECTING)

    def _begin(self) -> C:
        self._resize(1)
        self.connecting += 1
        return self.connection()

    def _resize(self, n: int) -> None:
        self.size += n
        self._statistics.connections_open.add(n)

    def adopt(self, fd: int) -> C:
        """Take in a connection of another process."""
        connection = self.adopted(fd)
        self._resize(1)
        return connection

    def connected(self) -> None:
        """A connection has become ready."""
        self.connecting -= 1
        self.opened += 1
        self._statistics.connections_opened.add()
        self.reached()
        self._back_off.succeeded()
        if self.down:
            self.down = False
            log(NOTICE, self.module, "connected", f"{self.title} is back")
            self.went(up=True)
        self._call_next()

    def failed(self, connection: C, error: Exception) -> None:
        """A connection could not be made."""
        self.connecting -= 1
        self._remove(connection)
        self.failures += 1
        self._statistics.connections_failed.add()
        if self.tries_another(connection, error):
            return
        self._back_off.failed()
        self._look_again()
        why = self.why(connection, error)
        if self.size > self.connecting:
            self._warn(f"cannot add to the {self.size - self.connecting} connections to {self.title}: {why}")
            return
        if not self.down:
            self.down = True
            log(ERROR, self.module, "connect", f"{self.title} cannot be reached: {why}")
            self.went(up=False)
        self._refuse_all()

    def abandoned(self, connection: C) -> None:
        """The operation that drove a connecting connection has ended before it was ready."""
        self.connecting -= 1
        self.discard(connection)

    # --- giving it back -------------------------------------------------------------------------------------------

    def release(self, connection: C) -> None:
        """The question is answered; whoever waits longest gets the connection."""
        if connection.stream.fd_key is None:  # adopted: up to now the fd store has had it under its operation's name
            connection.stream.keep(self.module)
        if self.waiting:
            self._next().granted(connection)
            return
        self.idle.append(connection)
        self._statistics.connections_idle.add()
        if self.idle_seconds:
            connection.idle_since = this.clock.now()
            if self._closing is None:
                self._closing = this.reactor.call_at(connection.idle_since + self.idle_seconds, self.close_idle)

    def close_idle(self) -> None:
        """Close what nobody has used for long."""
        self._closing = None
        idle = self.idle
        before = this.clock.now() - self.idle_seconds
        old = [connection for connection in idle if connection.idle_since <= before]
        del idle[: len(old)]  # the last used are on top
        for connection in old:
            self._resize(-1)
            connection.quit()
        self._statistics.connections_idle.add(-len(old))
        self._statistics.connections_closed_idle.add(len(old))
        if idle:
            self._closing = this.reactor.call_at(idle[0].idle_since + self.idle_seconds, self.close_idle)

    def note_retry(self) -> None:
        """An operation asks again."""
        self.retried += 1
        self._statistics.retried.add()

    def lost(self, connection: C) -> None:
        """The connection broke while an answer was awaited."""
        self._warn(f"connection to {self.title} lost before the answer had come")
        self.discard(connection)

    def discard(self, connection: C) -> None:
        """Close a connection that is in an unknown state."""
        self._remove(connection)
        self._call_next()

    def forget(self, connection: C) -> None:
        """Another process uses the connection now."""
        self._resize(-1)
        connection.stream.forget()
        self._call_next()

    def close(self) -> None:
        """Take leave of the server on all idle connections."""
        for connection in self.idle:
            self._resize(-1)
            connection.quit()
        self._statistics.connections_idle.add(-len(self.idle))
        self.idle.clear()

    def _remove(self, connection: C) -> None:
        self._resize(-1)
        connection.stream.close()

    # --- the queue ------------------------------------------------------------------------------------------------

    def leave_queue(self, waiter: Waiter[C]) -> None:
        """An operation does not want a connection any more."""
        if self.waiting.remove(waiter):
            self._left(1)

    def give_up_room(self) -> None:
        """An operation that was told to ask again does not."""
        self._call_next()

    def _next(self) -> Waiter[C]:
        waiter = self.waiting.pop()
        self._left(1)
        return waiter

    def _left(self, n: int) -> None:
        self._statistics.connections_waiting.add(-n)
        self._fullness.now(len(self.waiting), self.queue)

    def _tell_fullness(self, full: bool, refused: int) -> None:
        if full:
            text = f"{self.title}: {self.queue} operations wait for a connection, refusing more ($rc -4)"
            log(ERROR, self.module, "acquire", text)
        else:
            log(NOTICE, self.module, "acquire", f"{self.title}: operations may wait again; {refused} were refused")

    def _call_next(self) -> None:
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

    # --- looking for a server that is down -----------------------------------------------------------------------

    def _look_again(self) -> None:
        """Try to connect when the pause is over, so that no operation has to find out."""
        if not self._probing:
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
            this.reactor.call_at(max(self._back_off.retry_at, this.clock.now() + BACK_OFF[0]), self._probe)

    def probe_failed(self, connection: C, error: Exception) -> None:
        """An attempt of the pool's own has failed."""
        self.failed(connection, error)
        if not self._probing and self._back_off.failing and self._may_connect():  # there is another server to be tried
            _Probe(self, self._begin())

    def describe(self) -> dict[str, Any]:
        """For ``async_pools``."""
        return {
            "Destination": self.destination,
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
        now = this.clock.now()
        if not self.down and now - self._warned >= _WARN_EVERY:
            self._warned = now
            log(WARNING, self.module, "connection", text)


class _Probe(Generic[C]):
    """An attempt to connect that no operation waits for."""

    def __init__(self, owner: ConnectionPool[C], connection: C) -> None:
        self._pool, self._connection = owner, connection
        self._fd, self._wants, self._serial = -1, 0, 0
        self._timer = this.reactor.call_at(connection.give_up_at, self._late)
        self._go_on(0)

    def _go_on(self, events: int) -> None:
        connection = self._connection
        try:
            ready = connection.step()
        except self._pool.errors as error:
            self._end()
            self._pool.probe_failed(connection, error)
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
        self._pool.probe_failed(self._connection, OSError("no answer while connecting"))

    def _end(self) -> None:
        this.reactor.cancel(self._timer)
        self._unwatch()

    def _unwatch(self) -> None:
        if self._fd >= 0:
            this.reactor.remove(self._fd, self._go_on)
            self._fd = -1
