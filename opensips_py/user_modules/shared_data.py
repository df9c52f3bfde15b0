"""Data of a user's module that all processes share, in the server's shared store.

Each operation is atomic, and may be used in every process and on every thread. What is kept outlives a process that
dies, not the server. A value is anything that MessagePack knows: None, bool, int, float, str, bytes, list, dict,
``msgspec.Struct``, dataclass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from ipc.prefixes import prefix
from ipc.store import StoreFull
from opensips_py.server.process import this

T = TypeVar("T")

PREFIX = prefix(b"u", "data of users' modules", __name__)
_MAX_KEY = 511
"""Longest key of the store."""
_AT_ONCE = 500
"""Entries read at a time when all are looked through."""


class Entry(msgspec.Struct, array_like=True):
    """One value as it lies in the store."""

    key: bytes
    """Also here, since one that is too long for the store goes there by its hash."""
    expires: float
    """``this.clock.now()``, one clock for all processes; 0: never."""
    value: msgspec.Raw

    @property
    def valid(self) -> bool:
        return not self.expires or this.clock.now() < self.expires


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Shared(Generic[T]):
    """A table of values by key. Made by ``Module.shared``; usable once the server's processes run."""

    def __init__(self, module: str, name: str, kind: Any) -> None:
        self.name = name
        self._prefix = PREFIX + f"{module}\0{name}\0".encode()
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)

    def get(self, key: str, default: T | None = None) -> T | None:
        """The value of ``key``; ``default`` when there is none, or when it has expired."""
        data = this.store.get(self._name(key))
        entry = None if data is None else _decode(data)
        return default if entry is None or not entry.valid else self._decoder.decode(entry.value)

    def set(self, key: str, value: T, seconds: float | None = None) -> None:
        """Give ``key`` a value, for ``seconds`` or for ever. Raises StoreFull."""
        name = self._name(key)
        if this.store.is_filling and this.store.get(name) is None:
            raise StoreFull("the shared store is filling up: it takes no new values")
        this.store.put(name, self._row(key, value, seconds))

    def set_new(self, key: str, value: T, seconds: float | None = None) -> bool:
        """Give ``key`` a value unless it has one: of any number of processes exactly one gets True."""
        name, row = self._name(key), self._row(key, value, seconds)
        with this.store.batch() as batch:
            data = batch.get(name)
            if data is not None and _decode(data).valid:
                return False
            batch.put(name, row)
        return True

    def take(self, key: str) -> T | None:
        """Delete ``key`` and give its value: of any number of processes exactly one gets it, the others None."""
        data = this.store.take(self._name(key))
        entry = None if data is None else _decode(data)
        return None if entry is None or not entry.valid else self._decoder.decode(entry.value)

    def delete(self, key: str) -> bool:
        """Delete ``key``; tells whether it was there."""
        return this.store.delete(self._name(key))

    def add(self: Shared[int], key: str, amount: int = 1, seconds: float | None = None) -> int:
        """Add to a number (one that is not there is 0) and give the sum. One that is there keeps its end."""
        name = self._name(key)
        with this.store.batch() as batch:
            data = batch.get(name)
            entry = None if data is None else _decode(data)
            if entry is None or not entry.valid:
                entry = Entry(_bytes(key), _end(seconds), msgspec.Raw(_encode(0)))
            total = self._decoder.decode(entry.value) + amount
            entry.value = msgspec.Raw(_encode(total))
            batch.put(name, _encode(entry))
        return total

    def items(self) -> Iterator[tuple[str, T]]:
        """Every key with its value, in no order that matters; changes made meanwhile may or may not be seen."""
        for _, entry in _entries(self._prefix):
            if entry.valid:
                yield entry.key.decode("utf-8", "surrogateescape"), self._decoder.decode(entry.value)

    def _name(self, key: str) -> bytes:
        name = _bytes(key)
        if len(self._prefix) + len(name) > _MAX_KEY:
            name = b"\0" + hashlib.sha256(name).digest()
        return self._prefix + name

    def _row(self, key: str, value: T, seconds: float | None) -> bytes:
        return _encode(Entry(_bytes(key), _end(seconds), msgspec.Raw(_encode(value))))


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _end(seconds: float | None) -> float:
    return 0.0 if seconds is None else this.clock.now() + seconds


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
    """Delete values that have expired, of all modules; gives their number."""
    removed = 0
    for name, entry in _entries(PREFIX):
        if entry.valid:
            continue
        with this.store.batch() as batch:
            data = batch.get(name)  # it may have been set again meanwhile
            if data is not None and not _decode(data).valid:
                removed += batch.delete(name)
    return removed
