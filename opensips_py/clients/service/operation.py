"""One question to a service, and its answer.

Another process gets the connection (through the fd store) and the bytes of the answer read so far (journal). A question
that was not sent, or not completely, is sent by it on a connection of its own.
"""

from __future__ import annotations

import os
from typing import Protocol

import msgspec

from opensips_py.clients.pooled_operation import PooledOperation
from opensips_py.clients.service.connection import Connection
from opensips_py.clients.service.description import ServiceError
from opensips_py.clients.service.pool import Pool, pool
from opensips_py.engine.holding import Holding, TooMuch
from opensips_py.engine.operation import LOST, Done, Operation, earliest
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

ATTEMPTS = 2
"""How often a question is asked that did not reach the server, or may be asked again."""
HOPS = 5
"""How often a question is sent on to another server."""


class Answer(Protocol):
    """Reads one answer."""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when the answer is complete. Raises ServiceError, or TooMuch of the operation's holding."""


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


class ServiceOperation(PooledOperation[Connection]):
    """Subclasses read the answer, and say what it means."""

    _pool: Pool

    def __init__(self, service: Pool, question: bytes, targets: list[str]) -> None:
        described = service.service
        holding = Holding(described.answer_bytes, f"{described.answer_parameter} of {described.module}")
        super().__init__(ATTEMPTS, holding, len(question))
        self._pool = service
        self._question = question
        self.targets = targets
        """What the subclass needs to know about where the result goes."""
        self._answer: Answer | None = None
        self._hops = HOPS
        self._answered = False
        self._broken: ServiceError | None = None

    @property
    def holding(self) -> Holding:
        """Counts what the answer takes."""
        return self._holding

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

    def start(self) -> Done | None:
        if self._connection is not None:  # thawed
            if self._broken is not None:
                return self._fail(self._connection, self._broken)
            return self._finish(self._connection) if self._answered else self.advance()
        self._limit = self.deadline
        seconds = self._pool.service.answer_seconds
        if seconds:
            until = this.clock.now() + seconds + self._pool.service.connect_seconds
            self._limit = until if self._limit is None else min(self._limit, until)
        done = self._begin()
        self.refreeze = False  # it has not been frozen yet
        return done

    # --- the question -------------------------------------------------------------------------------------------

    def _send(self, connection: Connection) -> Done | None:
        seconds = self._pool.service.answer_seconds
        self.deadline = earliest(self._limit, this.clock.now() + seconds if seconds else None)
        self.fd_key = connection.stream.fd_key
        self._holding.release()
        self._answer = self.new_answer()
        self._received.clear()
        self._unsent = memoryview(self._question)
        return self._write(connection)

    def _read(self) -> Done | None:
        connection, answer = self._connection, self._answer
        assert connection is not None and answer is not None
        sock = connection.stream.sock
        assert sock is not None
        try:
            data = sock.recv(self._pool.service.read_size)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._lost(connection)
        try:
            if self._take(answer, data):
                return self._finish(connection)
        except ServiceError as error:
            return self._fail(connection, error)
        if self.journal is not None:
            self.journal(data)
        return None

    def _take(self, answer: Answer, data: bytes) -> bool:
        """A piece of the answer; True when it is complete. Raises ServiceError."""
        try:
            self._holding.take(len(data))
            if answer.feed(data):
                return True
        except TooMuch as much:
            raise ServiceError(str(much)) from None
        self._received.append(data)
        return False

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
            if this.clock.now() >= connection.give_up_at:
                self._connection = None
                self._pool.failed(connection, OSError("no answer while connecting"))
        elif connection is not None:
            self._complain(ServiceError("no answer in time"))
        self.close()
        return Done(self.failure)

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
            if data and not op._answered and op._broken is None:
                try:
                    op._answered = op._take(op._answer, data)
                except ServiceError as error:
                    op._broken = error
        return op


class _Lost(ServiceOperation):
    """A question that was asked on a connection which nobody has received."""

    def __init__(self, asked: ServiceOperation) -> None:
        super().__init__(asked._pool, asked._question, asked.targets)

    def start(self) -> Done:
        return Done(LOST)
