"""Database URLs (OpenSIPS): ``mysql://user[:password]@host[:port]/database[?name=value&…]``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pymysql.charset import charset_by_name

from opensips_py.db.server import host_and_port

DEFAULT_PORT = 3306
DEFAULT_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock")
"""Where the server's Unix socket is looked for when the host is ``localhost`` without a port. Not in /tmp: anybody can put
one there, and over a Unix socket the server gets the password if it asks for it."""
_UNSAFE_CHARSETS = frozenset(("big5", "cp932", "gb18030", "gbk", "sjis"))
"""Their characters may contain the byte of a backslash: what is escaped in them can end a quoted text."""


@dataclass(frozen=True)
class DatabaseUrl:
    """Where a database is, and who asks."""

    text: str
    user: str
    password: str
    host: str
    port: int
    database: str
    unix_socket: str | None = None
    charset: str = "utf8mb4"
    public_key: bytes | None = field(default=None, repr=False)
    """The server's public key (PEM): the password may be sent encrypted with it."""

    @property
    def name(self) -> str:
        """For people: without password."""
        return f"mysql://{self.user}@{self.unix_socket or f'{self.host}:{self.port}'}/{self.database}"


def parse_database_url(text: str) -> DatabaseUrl:
    """Read a URL. ValueError says what is wrong with it.

    Parameters: ``unix_socket=PATH``, ``charset=NAME`` (of the connection; default utf8mb4, so that UTF-8 texts pass
    unchanged), ``public_key=FILE`` (the server's RSA key, for caching_sha2_password and sha256_password over TCP).
    The password may contain ``:`` and ``@``, nothing is percent-decoded.
    """
    scheme, separator, rest = text.partition(":")
    if scheme != "mysql" or not separator:
        raise ValueError(f"database [{scheme}] is not supported: the URL must begin with mysql://")
    if not rest.startswith("//"):
        raise ValueError("a database URL has the form mysql://user:password@host[:port]/database")
    place, _, query = rest[2:].rpartition("?") if "?" in rest.rpartition("@")[2] else (rest[2:], "", "")
    credentials, at, location = place.rpartition("@")
    if not at:
        raise ValueError("the database URL names no user (mysql://user:password@host/database)")
    user, _, password = credentials.partition(":")
    address, _, database = location.partition("/")
    if not database:
        raise ValueError("the database URL names no database (mysql://user:password@host/database)")
    host, port = host_and_port(address)
    unix_socket, charset, key = None, "utf8mb4", None
    for pair in query.split("&") if query else []:
        name, _, value = pair.partition("=")
        if name == "unix_socket":
            unix_socket = value
        elif name == "charset":
            charset = _charset(value)
        elif name == "public_key":
            key = read_public_key(value)
        else:
            raise ValueError(f"URL parameter [{name}] is not known; there are unix_socket, charset and public_key")
    host = host or "localhost"
    if unix_socket is None and host == "localhost" and not port:
        unix_socket = next((path for path in DEFAULT_SOCKETS if os.path.exists(path)), None)
    return DatabaseUrl(text, user, password, host, int(port or DEFAULT_PORT), database, unix_socket, charset, key)


def _charset(name: str) -> str:
    if charset_by_name(name) is None or name in _UNSAFE_CHARSETS:
        raise ValueError(f"charset [{name}] is not known, or not safe: texts in it cannot be escaped; use utf8mb4")
    return name


def read_public_key(path: str) -> bytes:
    """A server's public RSA key. ValueError says what is wrong with the file."""
    try:
        with open(path, "rb") as file:
            pem = file.read(65536)
        if isinstance(load_pem_public_key(pem), RSAPublicKey):
            return pem
    except OSError as error:
        raise ValueError(f"public key {path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise ValueError(f"public key {path}: it is not an RSA key in PEM form (MySQL: public_key.pem in the data directory)")
