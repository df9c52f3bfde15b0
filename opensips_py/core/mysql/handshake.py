"""Authenticating with PyMySQL's own code, without blocking.

PyMySQL authenticates in one blocking call. Here that call runs on the bytes received so far, with a socket that is none;
when it wants more, it is given up and run again once more has come. It does the same each time, so what it sent in earlier
runs is skipped. (The one thing that differs between runs, a password encrypted with RSA, has always the same length
and is the last that is sent before the server's answer.) A connection needs three or four runs of some 100 us, once.
"""

from __future__ import annotations

import io
from typing import Any

import pymysql

from opensips_py.core.mysql.url import DatabaseUrl


class _MoreWanted(Exception):
    """What has been received does not suffice."""


class _Received(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise _MoreWanted
        data = self._data[self._at : end]
        self._at = end
        return data


class _Wire:
    """What PyMySQL takes for its socket."""

    def __init__(self, received: bytes) -> None:
        self._received = received
        self.sent = bytearray()

    def settimeout(self, timeout: float | None) -> None:
        """Nothing here waits."""

    def makefile(self, mode: str) -> io.RawIOBase:
        return _Received(self._received)

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        """The real socket stays open."""


class Handshake:
    """The exchange after connecting: greeting, authentication, ``SET NAMES``."""

    __slots__ = ("_options", "_received", "_secure", "_sent")

    def __init__(self, url: DatabaseUrl) -> None:
        self._options: dict[str, Any] = {
            "host": url.host,
            "port": url.port,
            "user": url.user.encode("latin-1"),
            "password": url.password.encode("latin-1"),
            "database": url.database.encode("latin-1"),
            "charset": url.charset,
            "autocommit": None,
            "ssl_disabled": True,
            "defer_connect": True,
        }
        self._secure = url.unix_socket is not None
        self._received = bytearray()
        self._sent = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take received bytes; returns what to send, and whether the connection is ready for queries.

        Raises pymysql.MySQLError when the server refuses.
        """
        self._received += data
        wire = _Wire(bytes(self._received))
        connection: Any = pymysql.Connection(**self._options)
        connection._secure = self._secure  # a Unix socket: the password may be sent in clear
        try:
            connection.connect(sock=wire)
        except _MoreWanted:
            ready = False
        else:
            ready = True
        finally:
            connection._sock = connection._rfile = None
        fresh = bytes(wire.sent[self._sent :])
        self._sent = len(wire.sent)
        return fresh, ready
