"""The cache engine ``redis`` (OpenSIPS module cachedb_redis): values on a Redis server.

``cachedb_url`` gives a server and the group name by which scripts call it: ``redis:group1://localhost:6379/`` makes
``cache_store("redis:group1", …)`` go there; a URL without a group is for ``redis`` alone. All cache functions wait for the
server, and may be used in ``async()`` and ``launch()`` (OpenSIPS has no such form of them). Return code -1: the server
refuses, cannot be reached, or has not answered within ``query_timeout``.

``cache_raw_query("redis", "HGETALL $var(key)", "$avp(out)")`` sends any command. 1: done; -2: there is no such value. Elements of
an array are values of the AVP, the first on top; an empty one is the text ``<null>``.

A Redis cluster may be named by any of its servers: questions go to the one that has the key. (Of a raw query the second word is
taken for the key.)

The server starts also when Redis does not run; connections are made when they are needed.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from opensips_py.clients.pools import PoolStatistics
from opensips_py.clients.service import pool as services
from opensips_py.clients.service.description import Login, Service, ServiceError
from opensips_py.clients.service.pool import Pool
from opensips_py.core import cachedb
from opensips_py.core.cachedb import CacheError
from opensips_py.engine.operation import Operation
from opensips_py.modules.cachedb_redis import nodes
from opensips_py.modules.cachedb_redis.commands import (
    CacheAdd,
    CacheCounterFetch,
    CacheFetch,
    CacheRawQuery,
    CacheRemove,
    CacheStore,
    CacheSub,
)
from opensips_py.modules.cachedb_redis.protocol import RedisLogin, command, words_of
from opensips_py.modules.cachedb_redis.url import RedisUrl, parse_redis_url
from opensips_py.script.declarations import ConfigError, Module

module = Module("cachedb_redis", doc="A cache on a Redis server (OpenSIPS module cachedb_redis)")

cachedb_url = module.param(
    "cachedb_url", str, list[str](), multiple=True, doc='a group and its server: "redis:group://password@host:6379/0"'
)
connect_timeout = module.param("connect_timeout", int, 5000, doc="milliseconds for connecting to a server")
query_timeout = module.param("query_timeout", int, 5000, doc="milliseconds for an answer; 0: any")
shutdown_on_error = module.param("shutdown_on_error", int, 0, doc="1: do not start when a server cannot be reached")
enable_raw_query_quoting = module.param(
    "enable_raw_query_quoting",
    int,
    0,
    doc="1: words of a raw query may be in quotes, and have blanks then: \"SET key 'two words'\"",
)
max_connections = module.param(
    "max_connections", int, 128, doc="connections of one process to the servers of a group (not in OpenSIPS)"
)

max_answer_size = module.param(
    "max_answer_size",
    int,
    4096,
    doc="KB that an answer may have, each value counting as its length and 128 bytes; more: $rc -1; 0: any (not in OpenSIPS)",
)

statistics = PoolStatistics("cachedb_redis")
statistics.declare(module)


class RedisCache:
    """The engine: a value is one key of Redis."""

    def store(self, group: str, key: str, value: str, expires: int) -> Operation:
        """SET."""
        words = [b"SET", _bytes(key), _bytes(value)]
        if expires > 0:
            words += [b"EX", b"%d" % expires]
        return CacheStore(_pool(group, key), command(*words), ["1"])

    def fetch(self, group: str, key: str, target: str) -> Operation:
        """GET."""
        return CacheFetch(_pool(group, key), command(b"GET", _bytes(key)), [target, "1"])

    def counter_fetch(self, group: str, key: str, target: str) -> Operation:
        """GET of a number."""
        return CacheCounterFetch(_pool(group, key), command(b"GET", _bytes(key)), [target, "1"])

    def remove(self, group: str, key: str) -> Operation:
        """DEL."""
        return CacheRemove(_pool(group, key), command(b"DEL", _bytes(key)), ["1"])

    def add(self, group: str, key: str, increment: int, expires: int, target: str | None) -> Operation:
        """INCRBY; as in OpenSIPS, the value then lasts ``expires`` seconds from now."""
        return CacheAdd(_pool(group, key), *_counting(b"INCRBY", key, increment, expires, target))

    def sub(self, group: str, key: str, decrement: int, expires: int, target: str | None) -> Operation:
        """DECRBY."""
        return CacheSub(_pool(group, key), *_counting(b"DECRBY", key, decrement, expires, target))

    def raw_query(self, group: str, query: str, targets: Sequence[str]) -> Operation:
        """Any command."""
        try:
            words = words_of(query, bool(enable_raw_query_quoting.value))
        except ServiceError as error:
            raise CacheError(str(error)) from None
        if len(words) < 2:
            raise CacheError(f"malformed Redis RAW query: [{query}] has no key")
        return CacheRawQuery(_pool(group, words[1]), command(*map(_bytes, words)), [*targets[:1], "1"])


def _counting(verb: bytes, key: str, number: int, expires: int, target: str | None) -> tuple[bytes, list[str]]:
    text, count = command(verb, _bytes(key), b"%d" % number), 1
    if expires > 0:
        text += command(b"EXPIRE", _bytes(key), b"%d" % expires)
        count = 2
    return text, [*([] if target is None else [target]), str(count)]


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _pool(group: str, key: str) -> Pool:
    try:
        return nodes.pool_for(f"redis:{group}", _bytes(key))
    except KeyError:
        raise CacheError(f"no cachedb_url of module cachedb_redis gives a group {group!r}") from None


_groups: dict[str, Service] = {}

# --- set-up -------------------------------------------------------------------------------------------------------------


@module.on_check
def configure() -> None:
    """Read groups; offer the engine."""
    for parameter in (connect_timeout, query_timeout, max_answer_size):
        if parameter.value < 0:
            raise ConfigError(f"cachedb_redis: {parameter.name} is {parameter.value}; it cannot be negative", parameter.name)
    if max_connections.value < 1:
        raise ConfigError(f"cachedb_redis: max_connections is {max_connections.value}; it must be at least 1", "max_connections")
    _groups.clear()
    for text in cachedb_url.value:
        try:
            url = parse_redis_url(text)
        except ValueError as error:
            raise ConfigError(f'cachedb_redis: cachedb_url: "{text}": {error}', "cachedb_url", text) from None
        if url.group in _groups:
            raise ConfigError(f"cachedb_redis: cachedb_url: there is a group {url.group!r} already", "cachedb_url", text)
        service = _groups[url.group] = _service(url)
        services.offer(service, statistics)
    cachedb.register_remote("redis", RedisCache())


def _service(url: RedisUrl) -> Service:
    def login() -> Login:
        return RedisLogin(url.password, url.database)

    return Service(
        key=f"redis:{url.group}",
        title=f"Redis group {url.group}" if url.group else "Redis",
        module="cachedb_redis",
        servers=url.servers,
        login=login,
        farewell=command(b"QUIT"),
        connect_seconds=connect_timeout.value / 1000 or 3600.0,
        answer_seconds=query_timeout.value / 1000,
        connections=max_connections.value,
        answer_bytes=max_answer_size.value * 1024,
    )


@module.on_config
def look() -> None:
    """With ``shutdown_on_error``: is every group there? Before the fork, while nothing else waits."""
    if shutdown_on_error.value:
        for service in _groups.values():
            _try(service)


def _try(service: Service) -> None:
    problem = ""
    for host, port, _ in service.servers:
        try:
            socket.create_connection((host, port), service.connect_seconds).close()
            return
        except OSError as error:
            problem = f"{host}:{port}: {error}"
    raise ConfigError(f"cachedb_redis: {service.title} cannot be reached: {problem}; shutdown_on_error is set")


@module.on_exit
def leave() -> None:
    """Close idle connections."""
    services.close_all("cachedb_redis")
