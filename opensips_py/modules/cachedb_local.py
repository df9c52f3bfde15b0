"""The cache engine ``local`` (OpenSIPS module cachedb_local): values in the shared store, seen by all processes.

Its values are gone when the server stops. A *collection* is a name space; ``cachedb_url`` gives one a group name:
``local:sessions:///calls`` makes ``cache_store("local:sessions", …)`` use the collection ``calls``. ``local`` alone is the
collection ``default``, or the one of a URL without a group.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

from ipc.prefixes import prefix
from ipc.store import StoreFull
from opensips_py.core import cachedb
from opensips_py.core.cachedb import CacheError
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, L, MIError, Module, O, R, S
from opensips_py.script.shell_pattern import matcher
from opensips_py.server.guard import report_error
from opensips_py.server.process import this

module = Module("cachedb_local", doc="A cache in the shared store (OpenSIPS module cachedb_local)")

_none: list[str] = []
cachedb_url = module.param(
    "cachedb_url", str, list(_none), multiple=True, doc='a group and its collection: "local:group:///collection"'
)
cache_collections = module.param(
    "cache_collections",
    str,
    "",
    doc='the collections: "one; two"; each that a cachedb_url names must be here; the size in "one=5" is not needed',
)
cache_clean_period = module.param("cache_clean_period", int, 600, doc="seconds between two removals of what has expired")
module.param("exec_threshold", int, 0, doc="microseconds from which a query is logged", no_effect="queries are not measured")
module.param("cluster_id", int, 0, doc="cluster to replicate to", no_effect="there is one server")
module.param(
    "cluster_persistency", str, "sync-from-cluster", doc="where values come from at start", no_effect="there is one server"
)
module.param("enable_restart_persistency", int, 0, doc="keep values over a restart", no_effect="nothing is kept over a restart")

PREFIX = prefix(b"k", "value of `cachedb_local`", __name__)
DEFAULT = "default"
_MAX_KEY = 511
"""Longest key of the store."""
_AT_ONCE = 500
"""Entries read at a time when all are looked through."""
_URL = re.compile(r"local:(?P<group>[^:/]*):?(?://)?[^/]*(?:/(?P<collection>[^/]*))?\Z")

_groups: dict[str, str] = {}
"""Collection by group."""


class Entry(msgspec.Struct, array_like=True):
    """A cached value."""

    key: bytes
    """Also here, since one that is too long for the store goes there by its hash."""
    value: bytes
    expires: float
    """``this.clock.now()``, one clock for all processes; 0: never."""

    def valid(self, now: float) -> bool:
        """Whether it has not expired."""
        return not self.expires or now < self.expires


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def _collection_prefix(collection: str) -> bytes:
    return PREFIX + collection.encode("latin-1") + b"\0"


def _key(collection: str, key: str) -> bytes:
    prefix, name = _collection_prefix(collection), key.encode("latin-1")
    if len(prefix) + len(name) > _MAX_KEY:
        name = b"\0" + hashlib.sha256(name).digest()
    return prefix + name


class LocalCache:
    """The engine: a value is one entry of the shared store."""

    @staticmethod
    def collection(group: str) -> str:
        """The collection that a group stands for."""
        found = _groups.get(group)
        if found is None:
            raise CacheError(f"no cachedb_url of module cachedb_local gives a group {group!r}")
        return found

    def store(self, group: str, key: str, value: str, expires: int) -> None:
        """Set a value for ``expires`` seconds; 0: for ever. A new one is refused when the shared store fills up."""
        until = this.clock.now() + expires if expires > 0 else 0.0
        entry = Entry(key.encode("latin-1"), value.encode("latin-1"), until)
        name = _key(self.collection(group), key)
        try:
            if this.store.is_filling and this.store.get(name) is None:
                raise StoreFull("the shared store is filling up: it takes no new values")
            this.store.put(name, _encode(entry))
        except StoreFull as full:
            raise CacheError(str(full)) from full

    def fetch(self, group: str, key: str) -> str | None:
        """The value; None when there is none."""
        data = this.store.get(_key(self.collection(group), key))
        if data is None:
            return None
        entry = _decode(data)
        return entry.value.decode("latin-1") if entry.valid(this.clock.now()) else None

    def remove(self, group: str, key: str) -> None:
        """Delete a value, if there is one."""
        this.store.delete(_key(self.collection(group), key))

    def add(self, group: str, key: str, increment: int, expires: int) -> int:
        """Add to a number; one that is there keeps its end."""
        name, now = _key(self.collection(group), key), this.clock.now()
        with this.store.batch() as batch:
            data = batch.get(name)
            entry = None if data is None else _decode(data)
            if entry is None or not entry.valid(now):
                entry = Entry(key.encode("latin-1"), b"0", now + expires if expires > 0 else 0.0)
            value = cachedb.number(entry.value.decode("latin-1")) + increment
            entry.value = b"%d" % value
            batch.put(name, _encode(entry))
        return value


@module.on_check
@module.on_config
def configure() -> None:
    """Read groups and collections; offer the engine."""
    _groups.clear()
    _groups[""] = DEFAULT
    collections = {DEFAULT}
    for text in filter(None, (part.strip() for part in cache_collections.value.split(";"))):
        name, _, size = (part.strip() for part in text.partition("="))
        name = name.removesuffix("/r")
        if not name or (size and not size.isdecimal()):
            raise ConfigError(f'cachedb_local: cache_collections: "{text}" is not of the form "name" or "name=size"')
        collections.add(name)
    for url in cachedb_url.value:
        parts = _URL.match(url)
        if parts is None:
            raise ConfigError(f'cachedb_local: cachedb_url: "{url}" is not of the form "local:group:///collection"')
        collection = parts["collection"] or DEFAULT
        if collection not in collections:
            raise ConfigError(f'cachedb_local: cachedb_url: "{url}": add the collection {collection} to cache_collections')
        _groups[parts["group"]] = collection
    for name in collections:
        _groups.setdefault(name, name)
    if cache_clean_period.value < 1:
        raise ConfigError(f"cachedb_local: cache_clean_period is {cache_clean_period.value}; it must be at least 1 second")
    cachedb.register("local", LocalCache())


# --- looking through ------------------------------------------------------------------------------------------------


def _entries(prefix: bytes) -> Iterator[tuple[bytes, Entry]]:
    start = b""
    while True:
        rows = this.store.scan(prefix, start, _AT_ONCE)
        for name, data in rows:
            yield name, _decode(data)
        if len(rows) < _AT_ONCE:
            return
        start = rows[-1][0] + b"\0"


def remove_expired() -> int:
    """Delete values that have expired; gives their number."""
    now = this.clock.now()
    removed = 0
    for name, entry in _entries(PREFIX):
        if entry.valid(now):
            continue
        with this.store.batch() as batch:
            data = batch.get(name)  # it may have been set again meanwhile
            if data is not None and not _decode(data).valid(now):
                removed += batch.delete(name)
    return removed


@module.on_process
def _start() -> None:
    """The timer process removes what has expired."""
    if this.kind != "timer":
        return

    def tick() -> None:
        try:
            remove_expired()
        except Exception as error:  # the next turn may succeed
            report_error(error, "cachedb_local")
        this.reactor.call_at(this.clock.now() + cache_clean_period.value, tick)

    this.reactor.call_at(this.clock.now() + cache_clean_period.value, tick)


def _remove_matching(collection: str, glob: str) -> None:
    matches = matcher(glob)
    for name, entry in _entries(_collection_prefix(collection)):
        if matches(entry.key.decode("latin-1")):
            this.store.delete(name)


@module.function(routes=R | O | F | B | L | S)
def cache_remove_chunk(ctx: Context, collection: str | None, glob: str) -> int:
    """Delete all values of a collection (default: ``default``) whose key matches a pattern with ``*``, ``?`` and ``[…]``."""
    name = collection or DEFAULT
    if name not in _groups.values():
        return -1
    _remove_matching(name, glob)
    return 1


@module.mi("cache_remove_chunk", ("glob",), ("glob", "collection"))
def mi_cache_remove_chunk(glob: str, collection: str = DEFAULT) -> str:
    """Delete all values of a collection whose key matches a pattern with ``*``, ``?`` and ``[…]``."""
    if collection not in _groups.values():
        raise MIError(404, "Cache collection not found")
    _remove_matching(collection, glob)
    return "OK"
