"""The operation behind ``avp_db_query()``: one SQL query.

Return codes: 1 rows, -2 none (also for INSERT and the like), -1 for an error, for a connection lost during the query and
for an answer larger than ``max_result_size``, -4 when too many queries wait for a connection. A query that never reached
the database is tried again on another connection; so is one that only reads (SELECT and SHOW, but not ``SELECT … INTO`` and
the like) when a connection that was kept ends without any answer.

Another process gets the connection (through the fd store) and the bytes of the answer read so far (journal). A query
that was not sent, or not completely, is sent by it on a connection of its own.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

import msgspec

from opensips_py.clients.pooled_operation import PooledOperation
from opensips_py.db.mysql.connection import Connection
from opensips_py.db.mysql.pool import Pool, pool, settings
from opensips_py.db.mysql.result import TOO_LARGE, UNUSABLE, ResultReader
from opensips_py.engine.holding import READ_SIZE, Holding, TooMuch
from opensips_py.engine.operation import LOST, Done, Operation
from opensips_py.evi import events
from opensips_py.script.context import Value
from opensips_py.server.log import ERROR, WARNING, log

NULL = "<null>"
"""What a variable gets for NULL of the database: it occupies its place in every row."""
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


class AvpDbQuery(PooledOperation[Connection]):
    """One query. ``targets`` are the source texts of the variables for the columns."""

    name = "avp_db_query"
    _pool: Pool

    def __init__(self, database: Pool, query: bytes, targets: Sequence[str] | None) -> None:
        super().__init__(settings.attempts, Holding(settings.answer, "max_result_size of db_mysql"), len(query))
        self._pool = database
        self._query = query
        self._targets = targets
        self._reader = ResultReader(self._holding)
        self._answered = False
        self._began = 0.0

    def start(self) -> Done | None:
        if self._connection is not None:  # thawed
            return self._finish(self._connection) if self._answered else self.advance()
        self._limit = self.deadline
        if self.mode == "plain" and self._limit is None:
            self._limit = time.monotonic() + settings.patience
        done = self._begin()
        self.refreeze = False  # it has not been frozen yet
        return done

    # --- the query ----------------------------------------------------------------------------------------------

    def _send(self, connection: Connection) -> Done | None:
        self.deadline = self._limit
        connection.uses += 1
        self.fd_key = connection.stream.fd_key
        if settings.slow_query:
            self._began = time.monotonic()
        self._unsent = memoryview(_packets(self._query))
        return self._write(connection)

    def _read(self) -> Done | None:
        connection = self._connection
        assert connection is not None
        sock = connection.stream.sock
        assert sock is not None
        try:
            data = sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            if connection.uses > 1 and self._attempts > 1 and not self._received and _only_reads(self._query):
                return self._try_again(connection)
            self._connection = None
            self._pool.lost_during(connection, self._query)
            return Done(-1)
        if self._take(data):
            return self._finish(connection)
        if self.journal is not None:
            self.journal(data)
        return None

    def _take(self, data: bytes) -> bool:
        """A piece of the answer. True when it is complete, or not to be read any further."""
        try:
            if self._reader.feed(data):
                return True
        except TooMuch as much:
            self._reader.error = TOO_LARGE, str(much)
            return True
        self._received.append(data)
        return False

    def _finish(self, connection: Connection) -> Done:
        self._connection = None
        if settings.slow_query:
            self._note_slowness()
        error = self._reader.error
        if error is not None and error[0] in UNUSABLE:
            self._pool.discard(connection)
        else:
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
                outputs.append((target, NULL if value is None else value))
        return Done(1, outputs)

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        connection = self._connection
        if connection is not None and not connection.ready and time.monotonic() >= connection.give_up_at:
            self._connection = None
            self._pool.failed(connection, OSError("no answer while connecting"))
        self.close()
        return Done(-1)

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
            if data and not op._answered:
                op._answered = op._take(data)
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
