"""Rows of one query, waited for: what modules read before the processes are forked, or in the management process."""

from __future__ import annotations

import socket
import time

import pymysql

from opensips_py.db.mysql.handshake import Handshake
from opensips_py.db.mysql.pool import settings
from opensips_py.db.mysql.result import Cell, ResultReader
from opensips_py.db.mysql.url import DatabaseUrl
from opensips_py.engine.holding import READ_SIZE, Holding, TooMuch

LONGEST = 64 * 1024 * 1024
"""Bytes of an answer: whole tables are read so."""


def read_rows(url: DatabaseUrl, query: str, seconds: float) -> list[list[Cell]]:
    """The rows of a SELECT, within ``seconds``. Raises OSError or pymysql.MySQLError."""
    until = time.monotonic() + seconds
    with _connected(url, until) as sock:
        handshake = Handshake(url, url.public_key or settings.public_key)
        ready = False
        while not ready:
            out, ready = handshake.feed(_received(sock, until))
            sock.sendall(out)
        payload = b"\x03" + query.encode("latin-1")
        sock.sendall(len(payload).to_bytes(3, "little") + b"\0" + payload)
        reader = ResultReader(Holding(LONGEST, "fixed"))
        try:
            while not reader.feed(_received(sock, until)):
                pass
        except TooMuch as much:
            raise pymysql.OperationalError(2008, str(much)) from None
        if reader.error is not None:
            raise pymysql.OperationalError(*reader.error)
        return reader.rows


def _connected(url: DatabaseUrl, until: float) -> socket.socket:
    if url.unix_socket is None:
        return socket.create_connection((url.host, url.port), max(0.01, until - time.monotonic()))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(max(0.01, until - time.monotonic()))
        sock.connect(url.unix_socket)
    except OSError:
        sock.close()
        raise
    return sock


def _received(sock: socket.socket, until: float) -> bytes:
    sock.settimeout(max(0.01, until - time.monotonic()))
    data = sock.recv(READ_SIZE)
    if not data or time.monotonic() > until:
        raise OSError("connection closed by the server" if not data else "no complete answer in time")
    return data
