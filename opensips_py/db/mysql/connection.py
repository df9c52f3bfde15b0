"""One connection to a MySQL server."""

from __future__ import annotations

import contextlib

import pymysql

from opensips_py.clients.stream import Stream
from opensips_py.db.mysql.handshake import Handshake
from opensips_py.db.mysql.url import DatabaseUrl
from opensips_py.engine.holding import READ_SIZE
from opensips_py.engine.operation import WRITE
from opensips_py.server.process import this

COM_QUIT = b"\x01\x00\x00\x00\x01"


class Connection:
    """Connecting, authenticating, then ready for one query at a time."""

    __slots__ = ("_handshake", "_unsent", "give_up_at", "idle_since", "ready", "stream", "uses")

    def __init__(self, url: DatabaseUrl, patience: float, key: bytes | None = None) -> None:
        """``key`` is the server's public key (PEM), when it is known."""
        self.stream = Stream(url.host, url.port, url.unix_socket)
        self._handshake: Handshake | None = Handshake(url, key)
        self._unsent = b""
        self.ready = False
        self.uses = 0
        """Queries so far: a connection that was kept may have been closed by the server meanwhile."""
        self.idle_since = 0.0
        self.give_up_at = this.clock.now() + patience
        """When connecting has taken too long."""

    @classmethod
    def adopt(cls, url: DatabaseUrl, fd: int) -> Connection:
        """A connection that another process has authenticated."""
        connection = cls(url, 0)
        connection.stream = Stream.adopt(fd)
        connection._handshake = None
        connection.ready = True
        return connection

    def fileno(self) -> int:
        """What to wait for."""
        return self.stream.fileno()

    @property
    def wants(self) -> int:
        """READ or WRITE."""
        return WRITE if self._unsent else self.stream.wants

    def step(self) -> bool:
        """Go on with connecting. True when ready; OSError or pymysql.MySQLError when the server cannot be used."""
        if not self.stream.step():
            return False
        sock, handshake = self.stream.sock, self._handshake
        assert sock is not None and handshake is not None
        while True:
            if self._unsent:
                try:
                    self._unsent = self._unsent[sock.send(self._unsent) :]
                except BlockingIOError:
                    return False
                if self._unsent:
                    return False
            try:
                data = sock.recv(READ_SIZE)
            except BlockingIOError:
                return False
            if not data:
                raise pymysql.OperationalError(2013, "connection closed while authenticating")
            self._unsent, ready = handshake.feed(data)
            if ready:
                self._handshake = None
                self.ready = True
                self.stream.keep("mysql")
                return True

    def quit(self) -> None:
        """Take leave of the server and close."""
        if self.ready and self.stream.sock is not None:
            with contextlib.suppress(OSError):  # closed by the server before: the same result
                self.stream.sock.send(COM_QUIT)
        self.stream.close()
