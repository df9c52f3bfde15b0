"""The answer to one query, waited for: what modules read before the processes are forked."""

from __future__ import annotations

import socket

import pymysql

from opensips_py.db.mysql.handshake import Handshake
from opensips_py.db.mysql.packets import packets
from opensips_py.db.mysql.pool import settings
from opensips_py.db.mysql.result import ResultReader
from opensips_py.db.mysql.url import DatabaseUrl
from opensips_py.engine.holding import READ_SIZE, Uncounted
from opensips_py.server.process import this


def read(url: DatabaseUrl, query: bytes, seconds: float) -> ResultReader:
    """The answer to a query, within ``seconds``. Raises OSError or pymysql.MySQLError."""
    until = this.clock.now() + seconds
    with _connected(url, until) as sock:
        handshake = Handshake(url, url.public_key or settings.public_key)
        ready = False
        while not ready:
            out, ready = handshake.feed(_received(sock, until))
            sock.sendall(out)
        sock.sendall(packets(query))
        reader = ResultReader(Uncounted())
        while not reader.feed(_received(sock, until)):
            pass
        if reader.error is not None:
            raise pymysql.OperationalError(*reader.error)
        return reader


def _connected(url: DatabaseUrl, until: float) -> socket.socket:
    if url.unix_socket is None:
        return socket.create_connection((url.host, url.port), max(0.01, until - this.clock.now()))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(max(0.01, until - this.clock.now()))
        sock.connect(url.unix_socket)
    except OSError:
        sock.close()
        raise
    return sock


def _received(sock: socket.socket, until: float) -> bytes:
    sock.settimeout(max(0.01, until - this.clock.now()))
    data = sock.recv(READ_SIZE)
    if not data or this.clock.now() > until:
        raise OSError("connection closed by the server" if not data else "no complete answer in time")
    return data
