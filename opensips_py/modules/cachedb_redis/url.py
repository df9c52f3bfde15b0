"""URLs of Redis servers (OpenSIPS): ``redis[:group]://[user:password@]host[:port][,host[:port]…]/[database]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

PORT = 6379

_URL = re.compile(r"redis(?::(?P<group>[^:/]*))?://(?:(?P<login>.*)@)?(?P<hosts>[^/@]*)(?:/(?P<database>[^/]*))?\Z")


@dataclass(frozen=True)
class RedisUrl:
    """Where a group's values are."""

    group: str
    password: str
    servers: tuple[tuple[str, int, str | None], ...]
    """Host, port and None."""
    database: int


def parse_redis_url(text: str) -> RedisUrl:
    """Read a URL. ValueError says what is wrong with it.

    Redis knows passwords; the user is only there for the form. Of several servers the first that can be reached is used.
    """
    found = _URL.match(text)
    if found is None:
        raise ValueError('it is not of the form "redis:group://password@host:port/database"')
    login = found["login"] or ""
    _, colon, password = login.partition(":")
    hosts = [host.strip() for host in found["hosts"].split(",")]
    if not all(hosts):
        raise ValueError("a host is missing")
    database = found["database"] or "0"
    if not database.isdecimal():
        raise ValueError(f"the database is a number, not {database}")
    servers = tuple(_server(host) for host in hosts)
    return RedisUrl(found["group"] or "", password if colon else login, servers, int(database))


def _server(text: str) -> tuple[str, int, str | None]:
    host, port = text, str(PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"[{text}] is not a host")
        port = rest[1:] or port
    elif ":" in text:
        host, _, port = text.partition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text} is not of the form host:port")
    return host, int(port), None
