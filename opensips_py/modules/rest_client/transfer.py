"""The operations behind ``rest_get()``, ``rest_post()`` and ``rest_put()``: one HTTP exchange.

Return codes: 1 for any response, whatever its status; -1 the connection was refused; -2 connecting took too long; -3 the
transfer took too long; -4 too many transfers wait; -10 anything else (no such host, TLS, a response that is not HTTP, that ends
early or is too large).
The variable for the status code is set in every case, to 0 when there is none.

A kept connection may have been closed by the server when the request arrives. Without any byte of a response, GET and PUT,
which may be repeated (RFC 9110 9.2.2), are sent again on a new connection; POST only when it was not sent completely.

Another process gets the connection and the bytes read so far. It sends again what was not sent completely, and a GET over TLS
(whose keys cannot be handed over); a PUT or POST over TLS is lost.
"""

from __future__ import annotations

import os

import httptools
import msgspec

from opensips_py.engine.holding import Holding, TooMuch
from opensips_py.engine.operation import BUSY, LOST, READ, WRITE, Done, DoneUnless, Operation
from opensips_py.modules.rest_client.connection import HttpConnection
from opensips_py.modules.rest_client.pool import Full, Unavailable, pool, settings
from opensips_py.modules.rest_client.response import Limits, Response, TooLarge
from opensips_py.modules.rest_client.url import Origin
from opensips_py.script.context import Value
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

REFUSED, CONNECT_TIMEOUT, TRANSFER_TIMEOUT, INTERNAL = -1, -2, -3, -10


class Targets(msgspec.Struct, array_like=True, frozen=True):
    """Source texts of the output variables."""

    body: str
    content_type: str | None = None
    code: str | None = None


class _Frozen(msgspec.Struct, array_like=True):
    origin: Origin
    request: bytes
    targets: Targets
    sent: bool
    secure: bool
    received: bytes
    finish_by: float | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class Transfer(Operation):
    """One exchange; the subclasses give it the names of the script functions."""

    method = "GET"

    def __init__(self, origin: Origin, request: bytes, targets: Targets) -> None:
        self._origin = origin
        self._request = request
        self._targets = targets
        self._connection: HttpConnection | None = None
        self._unsent: memoryview | None = None
        self._sent = False
        self._entered = False
        self._queued = False
        self._retried = False
        self._response = Response(Limits(settings.body, settings.around))
        self._holding = Holding(0, "")
        self._received: list[bytes] = []
        self._connect_by: float | None = None
        self._finish_by: float | None = None

    # --- beginning ----------------------------------------------------------------------------------------------

    def start(self) -> Done | None:
        if self._connection is not None:  # thawed
            pool.enter_adopted(self._origin)
            self._entered = True
            return self.advance()
        try:
            entered = pool.enter(self, self._origin)
        except Unavailable as down:  # the log has said so
            return self._failure(down.rc)
        except Full:
            return self._failure(BUSY)
        self._set_deadlines()
        if not entered:
            self._queued = True
            self.deadline = self._finish_by
            try:
                self._holding.wait_with(len(self._request))
            except TooMuch:
                return self._failure(BUSY)
            return None
        self._entered = True
        done = self._connect()
        self.refreeze = False  # it has not been frozen yet
        return done

    def go(self) -> None:
        """The pool has room for this transfer."""
        self._holding.release()
        self._queued = False
        self._entered = True
        self._set_deadlines()
        if self.changed is not None:
            self.changed()

    def _set_deadlines(self) -> None:
        now = this.clock.now()
        connect, finish = settings.connect_seconds, settings.transfer_seconds
        self._finish_by = now + finish if finish else None
        self._connect_by = now + connect if connect else self._finish_by
        if self._finish_by is not None and (self._connect_by is None or self._finish_by < self._connect_by):
            self._connect_by = self._finish_by

    def _connect(self) -> Done | None:
        try:
            connection = self._connection = pool.connection(self._origin, fresh=self._retried)
        except Unavailable as down:
            return self._failure(down.rc)
        except (OSError, ValueError) as error:  # TLS: unusable certificates or host name
            return self._fail(INTERNAL, str(error))
        if connection.ready:
            return self._begin(connection)
        self.deadline = self._connect_by
        return self._step(connection)

    def _step(self, connection: HttpConnection) -> Done | None:
        try:
            if not connection.step():
                return None
        except OSError as error:
            refused = not connection.stream.connected and connection.stream.looked_up
            return self._unreachable(connection, REFUSED if refused else INTERNAL, str(error))
        pool.connected(connection)
        return self._begin(connection)

    def _unreachable(self, connection: HttpConnection, rc: int, reason: str) -> Done:
        news = pool.failed(connection, rc, unreachable=rc in (REFUSED, CONNECT_TIMEOUT))
        return self._fail(rc, reason) if news else self._failure(rc)

    # --- the exchange -------------------------------------------------------------------------------------------

    def _begin(self, connection: HttpConnection) -> Done | None:
        connection.uses += 1
        self.deadline = self._finish_by
        self.fd_key = connection.stream.fd_key
        self._unsent = memoryview(self._request)
        return self._send(connection)

    def _send(self, connection: HttpConnection) -> Done | None:
        rest = self._unsent
        assert rest is not None
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BlockingIOError:
                self._unsent = rest
                return None
            except OSError as error:
                return self._broken(connection, str(error))
        self._unsent = None
        self._sent = True
        self.refreeze = True
        return None

    def _broken(self, connection: HttpConnection, reason: str) -> Done | None:
        """The connection ended before any byte of the response."""
        if connection.uses > 1 and not self._retried and (self.method != "POST" or not self._sent):
            self._retried = True
            pool.note_retry(self._origin)
            self._drop()
            self._sent = False
            self._unsent = None
            return self._connect()
        return self._fail(INTERNAL, reason)

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
        if connection is None:
            return READ
        if not connection.ready:
            return connection.wants
        return READ if self._sent and connection.flushed else READ | WRITE

    def advance(self) -> Done | None:
        connection = self._connection
        if connection is None:
            return None if self._queued or not self._entered else self._connect()
        if not connection.ready:
            done = self._step(connection)
        elif self._unsent is not None:
            done = self._send(connection)
        else:
            done = None
        if done is not None or self._connection is not connection or not connection.ready:
            return done
        return self._receive(connection)

    def _receive(self, connection: HttpConnection) -> Done | None:
        try:
            data = connection.receive()
        except BlockingIOError:
            return None
        except OSError as error:
            if not self._received:
                return self._broken(connection, str(error))
            return self._fail(INTERNAL, str(error))
        if not data:
            return self._ended(connection)
        try:
            if self._take(data):
                return self._finish(connection)
        except (TooLarge, TooMuch) as much:
            return self._fail(INTERNAL, str(much))
        except httptools.HttpParserError as error:
            return self._fail(INTERNAL, f"not HTTP: {error}")
        if self.journal is not None:
            self.journal(data)
        return self._ended(connection) if connection.ended else None

    def _take(self, data: bytes) -> bool:
        """A portion of the response; True when it is complete."""
        self._holding.take(len(data))
        if self._response.feed(data):
            return True
        self._received.append(data)
        return False

    def _ended(self, connection: HttpConnection) -> Done | None:
        """The server sends no more."""
        if self._response.end():
            return self._finish(connection)
        if not self._received:
            return self._broken(connection, "connection closed without a response")
        return self._fail(INTERNAL, "connection closed in the middle of the response")

    def _finish(self, connection: HttpConnection) -> Done:
        response = self._response
        if response.keep_alive and self._sent and connection.flushed:
            self._connection = None
            pool.put_back(connection)
        self._release()
        targets = self._targets
        outputs: list[tuple[str, Value]] = [] if targets.code is None else [(targets.code, response.status)]
        outputs.append((targets.body, response.body.decode("latin-1")))
        if targets.content_type is not None:
            outputs.append((targets.content_type, response.content_type.decode("latin-1")))
        return DoneUnless.of(1, outputs, INTERNAL)

    def _fail(self, rc: int, reason: str) -> Done:
        scheme = "https" if self._origin.secure else "http"
        log(ERROR, "rest_client", self.name, f"{scheme}://{self._origin.field}: {reason}")
        return self._failure(rc)

    def _failure(self, rc: int) -> Done:
        self._release()
        code = self._targets.code
        return Done(rc, [] if code is None else [(code, self._response.status)])

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        connection = self._connection
        if connection is not None and not connection.ready:
            if self._connect_by is not None and this.clock.now() >= self._connect_by:
                return self._unreachable(connection, CONNECT_TIMEOUT, "connecting took too long")
            return self._fail(CONNECT_TIMEOUT, "connecting took too long")
        return self._fail(TRANSFER_TIMEOUT, "the transfer took too long")

    def close(self) -> None:
        self._release()

    def forget(self) -> None:
        connection = self._connection
        if connection is not None and self._sent and not connection.secure:
            self._connection = None
            pool.forget(connection)
        self._release()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self.fd_key = None
        if connection is not None:
            pool.close_connection(connection)

    def _release(self) -> None:
        self._holding.release()
        self._drop()
        if self._queued:
            self._queued = False
            pool.leave_queue(self, self._origin)
        if self._entered:
            self._entered = False
            pool.leave(self._origin)

    # --- handing over -------------------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        return _encode(
            _Frozen(
                origin=self._origin,
                request=self._request,
                targets=self._targets,
                sent=self._sent,
                secure=self._origin.secure,
                received=b"".join(self._received),
                finish_by=self._finish_by,
            )
        )

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        f = _decode(state)
        if f.sent and not f.secure and fds:
            op = cls(f.origin, f.request, f.targets)
            connection = op._connection = HttpConnection.adopt(f.origin, fds[0])
            pool.adopt(connection)
            op._sent = True
            op.deadline = op._finish_by = f.finish_by
            for data in (f.received, journal):
                if data:
                    try:
                        op._take(data)
                    except (TooLarge, TooMuch, httptools.HttpParserError) as error:
                        return _Unusable(op, str(error))
            return op
        for fd in fds:
            os.close(fd)
        return _Lost(f.origin, b"", f.targets) if f.sent and not cls.repeatable else cls(f.origin, f.request, f.targets)


class _Lost(Transfer):
    """A request that was sent on a connection which nobody has received."""

    def start(self) -> Done:
        return self._failure(LOST)


class _Unusable(Transfer):
    """A response that cannot be gone on with here."""

    def __init__(self, found: Transfer, why: str) -> None:
        super().__init__(found._origin, b"", found._targets)
        self._connection, self._response, self._why = found._connection, found._response, why
        found._connection = None

    def start(self) -> Done:
        return self._fail(INTERNAL, self._why)


class RestGet(Transfer):
    """``rest_get()``."""

    name = "rest_get"
    method = "GET"
    repeatable = True


class RestPost(Transfer):
    """``rest_post()``."""

    name = "rest_post"
    method = "POST"


class RestPut(Transfer):
    """``rest_put()``."""

    name = "rest_put"
    method = "PUT"
    repeatable = True  # RFC 9110 9.2.2
