"""One question to a service, and its answer.

Another process gets the connection (through the fd store) and the bytes of the answer read so far (journal). A question
that was not sent, or not completely, is sent by it on a connection of its own.
"""

from __future__ import annotations

import os
import time
from typing import ClassVar, Protocol

import msgspec

from opensips_py.core.connection_pool import Full, Unavailable
from opensips_py.core.log import ERROR, log
from opensips_py.core.operation import BUSY, LOST, READ, WRITE, Done, Operation
from opensips_py.core.service.connection import CHUNK, Connection
from opensips_py.core.service.description import ServiceError
from opensips_py.core.service.pool import Pool, pool

ATTEMPTS = 2
"""How often a question is asked that did not reach the server, or may be asked again."""
HOPS = 5
"""How often a question is sent on to another server."""


class Answer(Protocol):
    """Reads one answer."""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when the answer is complete. Raises ServiceError."""


class Elsewhere(Exception):
    """The server says that another one has the answer."""

    def __init__(self, service: Pool, question: bytes) -> None:
        super().__init__()
        self.service, self.question = service, question


class _Frozen(msgspec.Struct, array_like=True):
    service: str
    question: bytes
    targets: list[str]
    sent: bool
    received: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class ServiceOperation(Operation):
    """Subclasses read the answer, and say what it means."""

    failure: ClassVar[int] = -1
    """Return code when there is no answer."""
    repeatable: ClassVar[bool] = False
    """Asking twice does no harm: a question whose connection breaks is asked again."""

    def __init__(self, service: Pool, question: bytes, targets: list[str]) -> None:
        self._pool = service
        self._question = question
        self.targets = targets
        """What the subclass needs to know about where the result goes."""
        self._connection: Connection | None = None
        self._unsent: memoryview | None = None
        self._sent = False
        self._answer: Answer | None = None
        self._received: list[bytes] = []
        self._attempts = ATTEMPTS
        self._hops = HOPS
        self._refused = False
        self._queued = False
        self._room = False
        self._answered = False
        self._broken: ServiceError | None = None
        self._limit: float | None = None

    @property
    def service(self) -> Pool:
        """Whom it asks."""
        return self._pool

    @property
    def question(self) -> bytes:
        """What it asks."""
        return self._question

    def new_answer(self) -> Answer:
        """What reads the answer."""
        raise NotImplementedError  # abstract

    def result(self, answer: Answer) -> Done:
        """What a complete answer means. May raise ServiceError or Elsewhere."""
        raise NotImplementedError  # abstract

    # --- getting a connection -----------------------------------------------------------------------------------

    def start(self) -> Done | None:
        if self._connection is not None:  # thawed
            if self._broken is not None:
                return self._fail(self._connection, self._broken)
            return self._finish(self._connection) if self._answered else self.advance()
        self._limit = self.deadline
        seconds = self._pool.service.answer_seconds
        if seconds:
            until = time.monotonic() + seconds + self._pool.service.connect_seconds
            self._limit = until if self._limit is None else min(self._limit, until)
        done = self._begin()
        self.refreeze = False  # it has not been frozen yet
        return done

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
            return None
        if connection.ready:
            return self._send(connection)
        self.deadline = _earliest(self._limit, connection.give_up_at)
        return self._connect(connection)

    def granted(self, connection: Connection | None) -> None:
        """The pool gives a connection, or room for one."""
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

    def _connect(self, connection: Connection) -> Done | None:
        try:
            if not connection.step():
                return None
        except (OSError, ServiceError) as error:
            self._connection = None
            self._pool.failed(connection, error)
            return self._begin()  # another server, or a connection that is in use
        self._pool.connected()
        return self._send(connection)

    # --- the question -------------------------------------------------------------------------------------------

    def _send(self, connection: Connection) -> Done | None:
        seconds = self._pool.service.answer_seconds
        self.deadline = _earliest(self._limit, time.monotonic() + seconds if seconds else None)
        self.fd_key = connection.stream.fd_key
        self._answer = self.new_answer()
        self._received.clear()
        self._unsent = memoryview(self._question)
        return self._write(connection)

    def _write(self, connection: Connection) -> Done | None:
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

    def _try_again(self, connection: Connection) -> Done | None:
        """The question was not asked (completely), or may be asked again."""
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

    def _read(self) -> Done | None:
        connection, answer = self._connection, self._answer
        assert connection is not None and answer is not None
        sock = connection.stream.sock
        assert sock is not None
        while True:
            try:
                data = sock.recv(CHUNK)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                return self._lost(connection)
            try:
                if answer.feed(data):
                    return self._finish(connection)
            except ServiceError as error:
                return self._fail(connection, error)
            self._received.append(data)
            if self.journal is not None:
                self.journal(data)

    def _lost(self, connection: Connection) -> Done | None:
        """The connection has broken before the answer was complete."""
        if self.repeatable and self._attempts > 1:
            return self._try_again(connection)
        self._connection = None
        self._pool.lost(connection)
        return Done(self.failure)

    def _finish(self, connection: Connection) -> Done | None:
        self._connection = None
        self._pool.release(connection)
        assert self._answer is not None
        try:
            return self.result(self._answer)
        except ServiceError as error:
            self._complain(error)
        except Elsewhere as other:
            self._hops -= 1
            if self._hops:
                return self._go_to(other)
            self._complain(ServiceError(f"{HOPS} servers have sent the question on to others"))
        return Done(self.failure)

    def _go_to(self, other: Elsewhere) -> Done | None:
        self._pool, self._question = other.service, other.question
        self.fd_key = None
        self._sent = False
        self.refreeze = True
        return self._begin()

    def _fail(self, connection: Connection, error: ServiceError) -> Done:
        """The server says what it should not: nothing that follows can be understood."""
        self._connection = None
        self._pool.discard(connection)
        self._complain(error)
        return Done(self.failure)

    def _complain(self, error: ServiceError) -> None:
        log(ERROR, self._pool.service.module, self.name, f"{self._pool.service.title}: {error}")

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        connection = self._connection
        if connection is not None and not connection.ready:
            if time.monotonic() >= connection.give_up_at:
                self._connection = None
                self._pool.failed(connection, OSError("no answer while connecting"))
        elif connection is not None:
            self._complain(ServiceError("no answer in time"))
        self.close()
        return Done(self.failure)

    def close(self) -> None:
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

    # --- handing over -------------------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        return _encode(_Frozen(self._pool.service.key, self._question, self.targets, self._sent, b"".join(self._received)))

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        f = _decode(state)
        op = cls(pool(f.service), f.question, f.targets)
        if not f.sent or (not fds and cls.repeatable):
            for fd in fds:
                os.close(fd)
            return op
        if not fds:
            return _Lost(op)
        connection = op._connection = op._pool.adopt(fds[0])
        op.fd_key = connection.stream.fd_key
        op._sent = True
        op._answer = op.new_answer()
        for data in (f.received, journal):
            if data:
                op._received.append(data)
                try:
                    op._answered = op._answer.feed(data)
                except ServiceError as error:
                    op._broken = error
        return op


class _Lost(ServiceOperation):
    """A question that was asked on a connection which nobody has received."""

    def __init__(self, asked: ServiceOperation) -> None:
        super().__init__(asked._pool, asked._question, asked.targets)

    def start(self) -> Done:
        return Done(LOST)


def _earliest(a: float | None, b: float | None) -> float | None:
    if a is None:
        return b
    return a if b is None or a < b else b
