"""The operation behind ``avp_db_query()``: one SQL query.

Return codes: 1 rows, -2 none (also for INSERT and the like), -1 for an error and for a connection lost during the
query, -4 when too many queries wait for a connection. A query that never reached the database is tried again on another
connection; so is one that only reads (SELECT and SHOW, but not ``SELECT … INTO`` and the like) when a connection that was kept
ends without any answer.

Another process gets the connection (through the fd store) and the bytes of the answer read so far (journal). A query
that was not sent, or not completely, is sent by it on a connection of its own.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

import msgspec
import pymysql

from opensips_py.core import events
from opensips_py.core.connection_pool import Full, Unavailable
from opensips_py.core.log import ERROR, WARNING, log
from opensips_py.core.mysql.connection import Connection
from opensips_py.core.mysql.pool import Pool, pool, settings
from opensips_py.core.mysql.result import ResultReader
from opensips_py.core.operation import BUSY, LOST, READ, WRITE, Done, Operation
from opensips_py.script.context import Value

_CHUNK = 262144
_COM_QUERY = b"\x03"
_LONGEST = 0xFFFFFF


class _Frozen(msgspec.Struct, array_like=True):
    url: str
    query: bytes
    targets: list[str]
    sent: bool
    received: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class AvpDbQuery(Operation):
    """One query. ``targets`` are the source texts of the variables for the columns."""

    name = "avp_db_query"

    def __init__(self, database: Pool, query: bytes, targets: Sequence[str] | None) -> None:
        self._pool = database
        self._query = query
        self._targets = targets
        self._connection: Connection | None = None
        self._unsent: memoryview | None = None
        self._sent = False
        self._reader = ResultReader()
        self._received: list[bytes] = []
        self._attempts = settings.attempts
        self._refused = False
        self._queued = False
        self._room = False
        self._answered = False
        self._limit: float | None = None
        self._began = 0.0

    # --- getting a connection -----------------------------------------------------------------------------------

    def start(self) -> Done | None:
        if self._connection is not None:  # thawed
            return self._finish(self._connection) if self._answered else self.advance()
        self._limit = self.deadline
        if self.mode == "plain" and self._limit is None:
            self._limit = time.monotonic() + settings.patience
        done = self._begin()
        self.refreeze = False  # it has not been frozen yet
        return done

    def _begin(self) -> Done | None:
        self._room = False
        try:
            connection = self._connection = self._pool.acquire(self)
        except Unavailable:
            return Done(-1)
        except Full:
            return Done(BUSY)
        if connection is None:
            self._queued = True
            self.deadline = self._limit
            return None
        if connection.ready:
            return self._send(connection)
        limit = self._limit
        self.deadline = connection.give_up_at if limit is None else min(limit, connection.give_up_at)
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
        except (OSError, pymysql.MySQLError) as error:
            self._connection = None
            self._pool.failed(connection, error)
            return self._begin()  # where other connections are in use, it waits for one of them
        self._pool.connected()
        return self._send(connection)

    # --- the query ----------------------------------------------------------------------------------------------

    def _send(self, connection: Connection) -> Done | None:
        self.deadline = self._limit
        connection.uses += 1
        self.fd_key = connection.stream.fd_key
        if settings.slow_query:
            self._began = time.monotonic()
        self._unsent = memoryview(_packets(self._query))
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
        """The query did not reach the database (completely), or may be executed twice."""
        self._connection = None
        self.fd_key = None
        self._unsent = None
        self._sent = False
        self._attempts -= 1
        self._pool.discard(connection)
        if self._attempts <= 0:
            return Done(-1)
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
            return Done(-1) if self._refused else self._begin()
        if not self._sent:
            if not connection.ready:
                return self._connect(connection)
            if self._unsent is None:
                return self._send(connection)
            done = self._write(connection)
            if done is not None or not self._sent:
                return done
        sock = connection.stream.sock
        assert sock is not None
        while True:
            try:
                data = sock.recv(_CHUNK)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                if connection.uses > 1 and self._attempts > 1 and not self._received and _only_reads(self._query):
                    self.refreeze = True
                    return self._try_again(connection)
                self._connection = None
                self._pool.lost_during(connection, self._query)
                return Done(-1)
            if self._reader.feed(data):
                break
            self._received.append(data)
            if self.journal is not None:
                self.journal(data)
        return self._finish(connection)

    def _finish(self, connection: Connection) -> Done:
        self._connection = None
        if settings.slow_query:
            self._note_slowness()
        self._pool.release(connection)
        return self._result()

    def _note_slowness(self) -> None:
        took = time.monotonic() - self._began
        if took >= settings.slow_query:
            query = self._query[:200].decode("latin-1")
            log(WARNING, "db_mysql", "query", f"slow query: {took * 1e6:.0f} us for [{query}]")
            events.raise_threshold("mysql", int(took * 1e6), query)

    def _result(self) -> Done:
        reader = self._reader
        if reader.error is not None:
            number, text = reader.error
            query = self._query[:200].decode("latin-1")
            log(ERROR, "db_mysql", "query", f"{self._pool.url.name}: error {number}: {text} in [{query}]")
            return Done(-1)
        return self._done(reader)

    def _done(self, reader: ResultReader) -> Done:
        """What an answer without error means."""
        rows = reader.rows
        if not rows:
            return Done(-2)
        targets = self._targets
        if targets is None:
            targets = [f"$avp({n + 1})" for n in range(len(reader.columns))]
        outputs: list[tuple[str, Value]] = []
        for row in reversed(rows):  # the first row ends on top
            for target, value in zip(targets, row, strict=False):
                if value is not None:
                    outputs.append((target, value))
        return Done(1, outputs)

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        connection = self._connection
        if connection is not None and not connection.ready and time.monotonic() >= connection.give_up_at:
            self._connection = None
            self._pool.failed(connection, OSError("no answer while connecting"))
        self.close()
        return Done(-1)

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
        targets = list(self._targets) if self._targets is not None else []
        return _encode(_Frozen(self._pool.url.text, self._query, targets, self._sent, b"".join(self._received)))

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        f = _decode(state)
        op = cls(pool(f.url), f.query, f.targets or None)
        if not f.sent:
            for fd in fds:
                os.close(fd)
            return op
        if not fds:
            return _Lost(op._pool, f.query, None)
        op._connection = op._pool.adopt(fds[0])
        op._sent = True
        for data in (f.received, journal):
            if data:
                op._received.append(data)
                op._answered = op._reader.feed(data)
        return op


class _Lost(AvpDbQuery):
    """A query that was sent on a connection which nobody has received."""

    def start(self) -> Done:
        return Done(LOST)


_READS = re.compile(rb"\s*(?:select|show)\b", re.IGNORECASE)
_WRITES = re.compile(rb"\b(?:into|update|share|lock|get_lock|nextval|last_insert_id|call)\b", re.IGNORECASE)


def _only_reads(query: bytes) -> bool:
    """Whether a query may be sent again when a kept connection ended without any answer: it changes nothing."""
    return _READS.match(query) is not None and _WRITES.search(query) is None


def _packets(query: bytes) -> bytes:
    """A query as packets of the protocol."""
    payload = _COM_QUERY + query
    size = len(payload)
    if size < _LONGEST:
        return size.to_bytes(3, "little") + b"\0" + payload
    packets = bytearray()
    for number, at in enumerate(range(0, size + 1, _LONGEST)):
        part = payload[at : at + _LONGEST]
        packets += len(part).to_bytes(3, "little") + bytes((number & 255,)) + part
    return bytes(packets)
