"""An outgoing stream connection, from looking up the name to being connected, without blocking."""

from __future__ import annotations

import errno
import itertools
import os
import socket

from opensips_py.dns.lookup import HostAddresses
from opensips_py.engine.operation import READ, WRITE
from opensips_py.engine.thread_job import ThreadJob
from opensips_py.server.process import this, unwatch

Address = tuple[int, tuple[str, int]]
"""Address family and socket address."""

_numbers = itertools.count(1)
_serials = itertools.count(1)
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 20), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4), (socket.TCP_USER_TIMEOUT, 40_000))
"""The kernel asks a silent peer after 20 s whether it is still there, and gives the connection up 20 s later: a host that
vanishes without a word would otherwise be waited for, and be offered to the next operation, for hours."""


class Stream:
    """A TCP connection to ``host:port``, or one to the Unix socket ``path``.

    Call :meth:`step` until it returns True; between calls wait for ``fileno()`` to be ready for ``wants``.
    """

    __slots__ = ("_addresses", "_job", "_target", "connected", "fd", "fd_key", "looked_up", "serial", "sock")

    def __init__(self, host: str, port: int, path: str | None = None) -> None:
        self._target = (host, port, path)
        self._addresses: list[Address] | None = None
        self._job: HostAddresses | ThreadJob[socket.socket] | None = None
        """What goes before connecting: finding the address, or a place in a Unix socket's queue."""
        self.sock: socket.socket | None = None
        self.fd = -1
        self.serial = 0
        """A number for each descriptor that :meth:`fileno` has shown, unique in this process."""
        self.connected = False
        self.looked_up = False
        """The host has an address: what fails afterwards is connecting."""
        self.fd_key: str | None = None
        """Name in the fd store, once :meth:`keep` was called."""

    @classmethod
    def adopt(cls, fd: int) -> Stream:
        """A connection that another process has opened."""
        stream = cls("", 0)
        stream.sock = socket.socket(fileno=fd)
        stream.sock.setblocking(False)
        stream.fd, stream.serial = fd, next(_serials)
        stream.connected = True
        return stream

    def fileno(self) -> int:
        """What to wait for."""
        return self._job.fd if self._job is not None else self.fd

    @property
    def wants(self) -> int:
        """READ or WRITE."""
        return READ if self._job is not None or self.connected else WRITE

    def step(self) -> bool:
        """Go on. True when connected; OSError when no address can be reached."""
        if self.connected:
            return True
        job = self._job
        if job is not None:
            if not job.done:
                return False
            self._job = None
            try:
                if isinstance(job, HostAddresses):
                    return self._found(job)
                self._use(job.result())
                return True
            finally:
                job.close()
        if self.sock is None:
            return self._begin()
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            try:
                self.sock.getpeername()
            except OSError:
                return False  # called without need: still connecting
            self.connected = True
            return True
        self._close_socket()
        return self._next(OSError(code, os.strerror(code)))

    def _begin(self) -> bool:
        host, _, path = self._target
        if path is not None:
            return self._connect_local(path)
        job = HostAddresses(host)
        if not job.done:
            self._job, self.serial = job, next(_serials)
            return False
        return self._found(job)

    def _found(self, job: HostAddresses) -> bool:
        host, port, _ = self._target
        self._addresses = [(family, (address, port)) for family, address in job.found or ()]
        if not self._addresses:
            raise OSError(errno.EHOSTUNREACH, f"{host} has no address")
        return self._next(OSError(errno.EHOSTUNREACH, "no address"))

    def _next(self, error: OSError) -> bool:
        """Try the next address."""
        self.looked_up = True
        while self._addresses:
            family, address = self._addresses.pop(0)
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEP_ALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            code = sock.connect_ex(address)
            if code in (0, errno.EINPROGRESS):
                self.sock, self.fd, self.serial = sock, sock.fileno(), next(_serials)
                self.connected = code == 0
                return self.connected
            sock.close()
            error = OSError(code, os.strerror(code))
        raise error

    def _connect_local(self, path: str) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        code = sock.connect_ex(path)
        if code == 0:
            self._use(sock)
            return True
        if code != errno.EAGAIN:
            sock.close()
            raise OSError(code, os.strerror(code))

        # The server's backlog is full, and a Unix socket has no "in progress": wait for a place on a thread
        def wait() -> socket.socket:
            sock.settimeout(30)
            sock.connect(path)
            sock.setblocking(False)
            return sock

        self._job, self.serial = ThreadJob(wait, socket.socket.close), next(_serials)
        return False

    def _use(self, sock: socket.socket) -> None:
        self.sock, self.fd, self.serial, self.connected = sock, sock.fileno(), next(_serials), True

    def alive(self) -> bool:
        """False when the peer of an idle connection has closed it, or has sent what nobody asked for."""
        if self.sock is None:
            return False
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    # --- the fd store -------------------------------------------------------------------------------------------

    def keep(self, kind: str) -> None:
        """Have the attendant hold a duplicate, for the process that may have to go on with what happens on it."""
        self.fd_key = f"{kind}:{this.slot}:{this.incarnation}:{next(_numbers)}"
        this.fd_keeper.keep(self.fd_key, [self.fd])

    def close(self) -> None:
        """Close it here and in the fd store. Idempotent."""
        key, self.fd_key = self.fd_key, None
        self.forget()
        if key is not None:
            this.fd_keeper.drop(key)

    def forget(self) -> None:
        """Close it here only: another process uses it now. Idempotent."""
        if self._job is not None:
            self._job.close()
            self._job = None
        self._close_socket()
        self.connected = False

    def _close_socket(self) -> None:
        if self.sock is not None:
            unwatch(self.fd)
            self.sock.close()
            self.sock, self.fd = None, -1
