"""An operation that asks a server something over a connection of a pool: the way to the connection, and what is sent on it.

It gets a connection that is ready, one that it has to connect itself, or a place in the pool's queue. A question that did
not reach the server is asked again on another connection. What is asked, and what the answer means, say the subclasses.
"""

from __future__ import annotations

from typing import ClassVar, Generic, Protocol, TypeVar

from opensips_py.clients.connection_pool import ConnectionPool, Full, PooledConnection, Unavailable
from opensips_py.engine.holding import Holding, TooMuch
from opensips_py.engine.operation import BUSY, READ, WRITE, Done, Operation, earliest


class AskedConnection(PooledConnection, Protocol):
    """A connection, as an operation sees it."""

    ready: bool
    """A question can be sent; before that it is being connected."""


C = TypeVar("C", bound=AskedConnection)


class PooledOperation(Operation, Generic[C]):
    """See the head of this file."""

    failure: ClassVar[int] = -1
    """Return code when there is no connection, or the question cannot be sent."""

    _pool: ConnectionPool[C]

    def __init__(self, attempts: int, holding: Holding, size: int) -> None:
        """``attempts``: how often a question, of ``size`` bytes, is asked that did not reach the server.

        ``holding`` counts what the answer takes, and a question that waits for a connection.
        """
        self._holding = holding
        self._size = size
        self._connection: C | None = None
        self._unsent: memoryview | None = None
        self._sent = False
        self._received: list[bytes] = []
        self._attempts = attempts
        self._refused = False
        self._queued = False
        self._room = False
        self._limit: float | None = None
        """``this.clock.now()`` at which the operation ends, whatever it is doing."""

    def _send(self, connection: C) -> Done | None:
        """Put the question into ``_unsent`` and ``_write()`` it; set the deadline for the answer, and ``fd_key``."""
        raise NotImplementedError  # abstract

    def _read(self) -> Done | None:
        """Read from ``_connection`` what there is of the answer."""
        raise NotImplementedError  # abstract

    # --- getting a connection -----------------------------------------------------------------------------------

    def _begin(self) -> Done | None:
        self._room = False
        try:
            connection = self._connection = self._pool.acquire(self)
        except Unavailable:
            return Done(self.failure)
        except Full:
            return Done(BUSY)
        self.deadline = self._limit
        if connection is None:
            self._queued = True
            try:
                self._holding.wait_with(self._size)
            except TooMuch:
                self.close()
                return Done(BUSY)
            return None
        if connection.ready:
            return self._send(connection)
        self.deadline = earliest(self._limit, connection.give_up_at)
        return self._connect(connection)

    def granted(self, connection: C | None) -> None:
        """The pool gives a connection, or room for one."""
        self._holding.release()
        self._queued = False
        self._room = connection is None
        self._connection = connection
        self._wake()

    def refused(self) -> None:
        """The pool has no connection and will have none."""
        self._queued = False
        self._refused = True
        self._wake()

    def _wake(self) -> None:
        if self.changed is not None:
            self.changed()

    def _connect(self, connection: C) -> Done | None:
        try:
            if not connection.step():
                return None
        except self._pool.errors as error:
            self._connection = None
            self._pool.failed(connection, error)
            return self._begin()  # another server, or a connection that is in use
        self._pool.connected()
        return self._send(connection)

    # --- sending ------------------------------------------------------------------------------------------------

    def _write(self, connection: C) -> Done | None:
        sock, rest = connection.stream.sock, self._unsent
        assert sock is not None and rest is not None
        try:
            sent = sock.send(rest)
        except BlockingIOError:
            return None
        except OSError:
            return self._try_again(connection)
        if sent < len(rest):
            self._unsent = rest[sent:]
            return None
        self._unsent = None
        self._sent = True
        self.refreeze = True
        return None

    def _try_again(self, connection: C) -> Done | None:
        """The question did not reach the server (completely), or may be asked twice."""
        self._connection = None
        self.fd_key = None
        self._unsent = None
        self._sent = False
        self.refreeze = True
        self._attempts -= 1
        self._pool.discard(connection)
        if self._attempts <= 0:
            return Done(self.failure)
        self._pool.note_retry()
        return self._begin()

    # --- waiting ------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        connection = self._connection
        return -1 if connection is None else connection.stream.fileno()

    @property
    def serial(self) -> int:
        """Differs between two descriptors with one number."""
        connection = self._connection
        return 0 if connection is None else connection.stream.serial

    @property
    def wants(self) -> int:
        connection = self._connection
        if connection is None or self._sent:
            return READ
        return WRITE if connection.ready else connection.wants

    def advance(self) -> Done | None:
        connection = self._connection
        if connection is None:
            if self._queued:
                return None
            return Done(self.failure) if self._refused else self._begin()
        if not self._sent:
            if not connection.ready:
                return self._connect(connection)
            done = self._send(connection) if self._unsent is None else self._write(connection)
            if done is not None or not self._sent:
                return done
        return self._read()

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._holding.release()
        connection, self._connection = self._connection, None
        self.fd_key = None
        if connection is None:
            if self._queued:
                self._pool.leave_queue(self)
            elif self._room:
                self._pool.give_up_room()
            self._queued = self._room = False
        elif not connection.ready:
            self._pool.abandoned(connection)
        elif self._sent or self._unsent is not None:
            self._pool.discard(connection)
        else:
            self._pool.release(connection)

    def forget(self) -> None:
        connection = self._connection
        if connection is not None and self._sent:
            self._connection = None
            self._pool.forget(connection)
        self.close()
