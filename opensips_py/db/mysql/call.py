"""One statement on its way to a MySQL server.

It ends with its result, or with -1 for an error, for a connection lost during the query and for an answer larger than
``max_result_size``, -4 when too many queries wait for a connection. A query that never reached
the database is tried again on another connection; so is one that only reads (SELECT and SHOW, but not ``SELECT … INTO`` and
the like) when a connection that was kept ends without any answer.

Another process gets the connection (through the fd store) and the bytes of the answer read so far (journal). A query
that was not sent, or not completely, is sent by it on a connection of its own.
"""

from __future__ import annotations

import os
import re

import msgspec

from opensips_py.clients.pooled_operation import PooledOperation
from opensips_py.db.database import Answered, Call, How, Rejected, Result
from opensips_py.db.mysql.connection import Connection
from opensips_py.db.mysql.packets import packets
from opensips_py.db.mysql.pool import Pool, settings
from opensips_py.db.mysql.result import TOO_LARGE, UNUSABLE, ResultReader
from opensips_py.db.mysql.types import rows_of
from opensips_py.engine.holding import READ_SIZE, Holding, TooMuch, Uncounted
from opensips_py.engine.operation import LOST, Done
from opensips_py.evi import events
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this


class _Frozen(msgspec.Struct, array_like=True):
    sent: bool
    received: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class MysqlCall(PooledOperation[Connection], Call):
    """One query."""

    _pool: Pool

    def __init__(self, pool: Pool, query: bytes, how: How) -> None:
        holding = Uncounted() if how.whole else Holding(settings.answer, "max_result_size of db_mysql")
        super().__init__(settings.attempts, holding, len(query))
        self._pool = pool
        self._query = query
        self._how = how
        self._reader = ResultReader(self._holding)
        self._answered = False
        self._began = 0.0

    def start(self) -> Done | None:
        if self._connection is not None:  # thawed
            return self._finish(self._connection) if self._answered else self.advance()
        self._limit = self.deadline
        if self.mode == "plain" and self._limit is None:
            self._limit = this.clock.now() + settings.patience
        done = self._begin()
        self.refreeze = False  # it has not been frozen yet
        return done

    # --- the query ----------------------------------------------------------------------------------------------

    def _send(self, connection: Connection) -> Done | None:
        self.deadline = self._limit
        connection.uses += 1
        self.fd_key = connection.stream.fd_key
        if settings.slow_query:
            self._began = this.clock.now()
        self._unsent = memoryview(packets(self._query))
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
            if self._attempts > 1 and self._may_ask_again(connection):
                return self._try_again(connection)
            self._connection = None
            self._pool.lost_during(connection, self._query[:200].decode("latin-1"))
            return Done(-1)
        if self._take(data):
            return self._finish(connection)
        if self.journal is not None:
            self.journal(data)
        return None

    def _may_ask_again(self, connection: Connection) -> bool:
        """Whether the question may be asked once more when the connection has ended before the answer."""
        return connection.uses > 1 and not self._received and _only_reads(self._query)

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

    def _finish(self, connection: Connection) -> Done | None:
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
        took = this.clock.now() - self._began
        if took >= settings.slow_query:
            query = self._query[:200].decode("latin-1")
            log(WARNING, "db_mysql", "query", f"slow query: {took * 1e6:.0f} us for [{query}]")
            events.raise_threshold("mysql", int(took * 1e6), query)

    def _result(self) -> Done:
        reader = self._reader
        if reader.error is not None:
            number, text = reader.error
            query = self._query[:200].decode("latin-1")
            if number == _SYNTAX_ERROR and _several(self._query):
                text = "several statements in one query are not supported, none of them was run"
            log(ERROR, "db_mysql", "query", f"{self._pool.url.name}: error {number}: {text} in [{query}]")
            return Rejected(-1)
        return Answered.of(Result(rows_of(reader, self._how.typed), len(reader.columns)))

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        connection = self._connection
        if connection is not None and not connection.ready and this.clock.now() >= connection.give_up_at:
            self._connection = None
            self._pool.failed(connection, OSError("no answer while connecting"))
        self.close()
        return Done(-1)

    # --- handing over -------------------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        return _encode(_Frozen(self._sent, b"".join(self._received)))

    @classmethod
    def taken_over(cls, pool: Pool, query: bytes, how: How, state: bytes, fds: list[int], journal: bytes) -> MysqlCall:
        """The call of another process, with the connection on which it was sent."""
        f = _decode(state)
        call = cls(pool, query, how)
        if not f.sent:
            for fd in fds:
                os.close(fd)
            return call
        if not fds:
            return call if _only_reads(query) else _Lost(pool, query, how)
        call._connection = pool.adopt(fds[0])
        call._sent = True
        for data in (f.received, journal):
            if data and not call._answered:
                call._answered = call._take(data)
        return call


class _Lost(MysqlCall):
    """A query that was sent on a connection which nobody has received."""

    def start(self) -> Done:
        return Done(LOST)


_SYNTAX_ERROR = 1064
"""ER_PARSE_ERROR; what a server says to a second statement: several are not asked for, they would help who injects SQL."""
_QUOTED = re.compile(rb"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|`[^`]*+`""", re.DOTALL)
_SECOND = re.compile(rb";\s*[^\s;]")


def _several(query: bytes) -> bool:
    """Whether something follows a semicolon that stands outside quotes."""
    return _SECOND.search(_QUOTED.sub(b"x", query)) is not None


_READS = re.compile(rb"\s*(?:select|show)\b", re.IGNORECASE)
_WRITES = re.compile(rb"\b(?:into|update|share|lock|get_lock|nextval|last_insert_id|call)\b", re.IGNORECASE)


def _only_reads(query: bytes) -> bool:
    """Whether a query may be sent again when a kept connection ended without any answer: it changes nothing."""
    return _READS.match(query) is not None and _WRITES.search(query) is None
