"""One connection to a service."""

from __future__ import annotations

import contextlib

from opensips_py.clients.service.description import Login, Service, ServiceError
from opensips_py.clients.stream import Stream
from opensips_py.engine.operation import READ, WRITE
from opensips_py.server.process import this

LOGIN_READ = 4096
"""Bytes read at a time while logging in: that many answer the commands."""
LONGEST_LOGIN = 65_536


class Connection:
    """Connecting, logging in, then ready for one question at a time."""

    __slots__ = ("_login", "_read", "_service", "_unsent", "give_up_at", "idle_since", "ready", "server", "stream")

    def __init__(self, service: Service, server: int) -> None:
        self._service = service
        self.server = server
        """Number of the server in the service's list."""
        self.stream = Stream(*service.servers[server])
        self._login: Login | None = None
        self._unsent = b""
        self._read = 0
        self.ready = False
        self.idle_since = 0.0
        self.give_up_at = this.clock.now() + service.connect_seconds
        """When connecting has taken too long."""

    @classmethod
    def adopt(cls, service: Service, fd: int) -> Connection:
        """A connection that another process has logged in on."""
        connection = cls(service, 0)
        connection.stream = Stream.adopt(fd)
        connection.ready = True
        return connection

    def fileno(self) -> int:
        """What to wait for."""
        return self.stream.fileno()

    @property
    def wants(self) -> int:
        """READ or WRITE, until it is ready."""
        if not self.stream.connected:
            return self.stream.wants
        return WRITE if self._unsent else READ

    def step(self) -> bool:
        """Go on with connecting. True when ready; OSError or ServiceError when the server cannot be used."""
        if self.ready:
            return True
        if not self.stream.step():
            return False
        sock = self.stream.sock
        assert sock is not None
        if self._login is None:
            self._login = self._service.login()
            self._unsent = self._login.begin()
            if not self._unsent:
                return self._is_ready()
        if self._unsent:
            try:
                self._unsent = self._unsent[sock.send(self._unsent) :]
            except BlockingIOError:
                return False
            if self._unsent:
                return False
        try:
            data = sock.recv(LOGIN_READ)
        except BlockingIOError:
            return False
        if not data:
            raise ServiceError("the server closes the connection during the login")
        self._read += len(data)
        if self._read > LONGEST_LOGIN:
            raise ServiceError(f"the server sends more than {LONGEST_LOGIN} bytes during the login")
        return self._login.feed(data) and self._is_ready()

    def _is_ready(self) -> bool:
        self._login = None
        self.ready = True
        self.stream.keep(self._service.module)
        return True

    def quit(self) -> None:
        """Take leave of the server and close."""
        if self.ready and self.stream.sock is not None and self._service.farewell:
            with contextlib.suppress(OSError):  # closed by the server before: the same result
                self.stream.sock.send(self._service.farewell)
        self.stream.close()
