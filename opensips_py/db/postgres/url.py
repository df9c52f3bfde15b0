"""Database URLs (OpenSIPS): ``postgres://user[:password]@host[:port]/database[?name=value&…]``."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg.pq
from psycopg.conninfo import make_conninfo

from opensips_py.db.server import host_and_port

_PASSED = ("sslmode", "sslrootcert", "sslcert", "sslkey", "application_name")
"""Parameters of libpq that a URL may have."""
_REQUIRE_AUTH = 160000
"""Version of libpq that can be told how not to authenticate."""
_FORM = "postgres://user:password@host[:port]/database"


@dataclass(frozen=True)
class PostgresUrl:
    """Where a database is, and who asks."""

    text: str
    user: str
    password: str
    host: str
    port: int
    database: str
    unix_socket: str | None
    """Directory of the server's Unix socket."""
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """For people: without password."""
        return f"postgres://{self.user}@{self.unix_socket or f'{self.host}:{self.port}'}/{self.database}"

    def connection_info(self, addresses: list[str], seconds: float) -> bytes:
        """What libpq wants to know. ``addresses``: those of the host, which libpq would wait for."""
        hosts = {"host": self.unix_socket or self.host}
        if addresses:
            hosts = {"host": ",".join([self.host] * len(addresses)), "hostaddr": ",".join(addresses)}
        text = make_conninfo(
            **hosts,
            port=self.port,
            user=_text(self.user),
            password=_text(self.password),
            dbname=_text(self.database),
            client_encoding="UTF8",
            connect_timeout=max(2, round(seconds)),
            options="-c standard_conforming_strings=on -c DateStyle=ISO",
            keepalives_idle=20,
            **self._never_in_clear(),
            **dict(self.parameters),
        )
        return text.encode()

    def _never_in_clear(self) -> dict[str, str]:
        """Over a network that is not known to be encrypted a server gets answers to challenges, and never the password itself."""
        trusted = self.unix_socket is not None or dict(self.parameters).get("sslmode") in ("verify-ca", "verify-full")
        if trusted or psycopg.pq.version() < _REQUIRE_AUTH:
            return {}
        return {"require_auth": "!password"}


def _text(latin: str) -> str:
    return latin.encode("latin-1").decode("utf-8", "replace")


def parse_postgres_url(text: str) -> PostgresUrl:
    """Read a URL. ValueError says what is wrong with it. The password may contain ``:`` and ``@``, nothing is percent-decoded."""
    scheme, _, rest = text.partition(":")
    if scheme != "postgres" or not rest.startswith("//"):
        raise ValueError(f"a database URL has the form {_FORM}")
    place, _, query = rest[2:].rpartition("?") if "?" in rest.rpartition("@")[2] else (rest[2:], "", "")
    credentials, at, location = place.rpartition("@")
    user, _, password = credentials.partition(":")
    address, _, database = location.partition("/")
    if not at or not user:
        raise ValueError(f"the database URL names no user ({_FORM})")
    if not database:
        raise ValueError(f"the database URL names no database ({_FORM})")
    host, port = host_and_port(address)
    unix_socket, parameters = None, []
    for name, _, value in (pair.partition("=") for pair in (query.split("&") if query else [])):
        if name == "unix_socket":
            unix_socket = value
        elif name in _PASSED:
            parameters.append((name, value))
        else:
            raise ValueError(f"URL parameter [{name}] is not known; there are unix_socket, {', '.join(_PASSED)}")
    return PostgresUrl(text, user, password, host or "localhost", int(port or 5432), database, unix_socket, tuple(parameters))
