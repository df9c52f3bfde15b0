"""One connection to a PostgreSQL server."""

from __future__ import annotations

import itertools
import select

from psycopg import OperationalError
from psycopg.pq import ConnStatus, PGconn, PollingStatus, abc

from opensips_py.clients.stream import Stream
from opensips_py.db.postgres.url import PostgresUrl
from opensips_py.dns.lookup import HostAddresses
from opensips_py.engine.operation import READ, WRITE
from opensips_py.server.process import this, unwatch

_serials = itertools.count(1 << 40)


class PostgresStream(Stream):
    """libpq's socket, from looking up the name to being logged in. It is never handed over: libpq could not go on with it."""

    __slots__ = ("_patience", "_poll", "_url", "pgconn")

    def __init__(self, url: PostgresUrl, patience: float) -> None:
        super().__init__(url.host, url.port, url.unix_socket)
        self._url = url
        self._patience = patience
        self._poll: int = PollingStatus.WRITING
        self.pgconn: abc.PGconn | None = None

    @property
    def wants(self) -> int:
        return READ if self._job is not None or self._poll == PollingStatus.READING else WRITE

    def step(self) -> bool:
        if self.pgconn is None and not self._found_addresses():
            return False
        pgconn = self.pgconn
        assert pgconn is not None
        self._poll = pgconn.connect_poll()
        if self._poll == PollingStatus.FAILED:
            raise OperationalError(pgconn.get_error_message().strip())
        if self._poll == PollingStatus.OK:
            pgconn.nonblocking = 1
            self.connected = True
        self._watch_again(pgconn)
        return self.connected

    def _found_addresses(self) -> bool:
        """Whether the host's addresses are known; then connecting begins."""
        addresses: list[str] = []
        if self._url.unix_socket is None:
            job = self._job if isinstance(self._job, HostAddresses) else HostAddresses(self._url.host)
            if not job.done:
                if self._job is None:
                    self._job, self.serial = job, next(_serials)
                return False
            self._job = None
            addresses = [address for _, address in job.found or ()]
            job.close()
            if not addresses:
                raise OSError(f"{self._url.host} has no address")
        self.looked_up = True
        pgconn = self.pgconn = PGconn.connect_start(self._url.connection_info(addresses, self._patience))
        if pgconn.status == ConnStatus.BAD:
            raise OperationalError(pgconn.get_error_message().strip())
        self._watch_again(pgconn)
        return True

    def _watch_again(self, pgconn: abc.PGconn) -> None:
        """libpq opens another socket for each address, and for an attempt with other rules for encryption."""
        fd = pgconn.socket
        if fd != self.fd:
            if self.fd >= 0:
                unwatch(self.fd)
            self.fd, self.serial = fd, next(_serials)

    def alive(self) -> bool:
        pgconn = self.pgconn
        if pgconn is None or pgconn.status != ConnStatus.OK:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return not poll.poll(0)

    def keep(self, kind: str) -> None:
        pass

    def forget(self) -> None:
        if self._job is not None:
            self._job.close()
            self._job = None
        pgconn, self.pgconn = self.pgconn, None
        if pgconn is not None:
            if self.fd >= 0:
                unwatch(self.fd)
            pgconn.finish()
        self.fd, self.connected = -1, False


class PostgresConnection:
    """Connecting, logging in, then ready for one query at a time."""

    __slots__ = ("give_up_at", "idle_since", "ready", "stream", "uses")

    def __init__(self, url: PostgresUrl, patience: float) -> None:
        self.stream: Stream = PostgresStream(url, patience)
        self.ready = False
        self.uses = 0
        self.idle_since = 0.0
        self.give_up_at = this.clock.now() + patience

    @property
    def pgconn(self) -> abc.PGconn:
        """libpq's connection, once it is ready."""
        assert isinstance(self.stream, PostgresStream) and self.stream.pgconn is not None
        return self.stream.pgconn

    def fileno(self) -> int:
        """What to wait for."""
        return self.stream.fileno()

    @property
    def wants(self) -> int:
        """READ or WRITE."""
        return self.stream.wants

    def step(self) -> bool:
        """Go on with connecting. True when ready; OSError or psycopg.Error when the server cannot be used."""
        self.ready = self.stream.step()
        return self.ready

    def quit(self) -> None:
        """Take leave of the server and close."""
        self.stream.close()
