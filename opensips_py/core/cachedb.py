"""Cache engines: what follows cache_store() and similar functions. A module (cachedb_local …) registers one under its name.

A script names a cache as ``engine`` or ``engine:group``; what a group is, the engine decides. Some engines answer at once;
others are servers that have to be asked (:class:`RemoteCache`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from opensips_py.engine.operation import Operation

NULL = "<null>"
"""What an AVP gets for an empty place among the results of ``cache_raw_query()``."""


class CacheError(Exception):
    """A cache could not do what was asked; the text says why."""


class CacheEngine(Protocol):
    """One kind of cache. ``group`` is empty for the default one. Every method raises :class:`CacheError`."""

    def store(self, group: str, key: str, value: str, expires: int) -> None:
        """Set a value for ``expires`` seconds; 0: for ever."""

    def fetch(self, group: str, key: str) -> str | None:
        """The value; None when there is none."""

    def remove(self, group: str, key: str) -> None:
        """Delete a value, if there is one."""

    def add(self, group: str, key: str, increment: int, expires: int) -> int:
        """Add to a number, atomically, and give the new one. One that is not there begins at 0, to last ``expires`` seconds."""


class RemoteCache(Protocol):
    """A kind of cache that has to be asked. Its operations have the return codes of the script functions of their names.

    ``target`` is the source text of the variable that gets the result. Every method raises :class:`CacheError`.
    """

    def store(self, group: str, key: str, value: str, expires: int) -> Operation:
        """``cache_store()``."""

    def fetch(self, group: str, key: str, target: str) -> Operation:
        """``cache_fetch()``."""

    def counter_fetch(self, group: str, key: str, target: str) -> Operation:
        """``cache_counter_fetch()``."""

    def remove(self, group: str, key: str) -> Operation:
        """``cache_remove()``."""

    def add(self, group: str, key: str, increment: int, expires: int, target: str | None) -> Operation:
        """``cache_add()``."""

    def sub(self, group: str, key: str, decrement: int, expires: int, target: str | None) -> Operation:
        """``cache_sub()``."""

    def raw_query(self, group: str, query: str, targets: Sequence[str]) -> Operation:
        """``cache_raw_query()``."""


_engines: dict[str, CacheEngine] = {}
_remote: dict[str, RemoteCache] = {}


def register(name: str, engine: CacheEngine) -> None:
    """Make an engine known under the name that scripts use."""
    _engines[name] = engine


def register_remote(name: str, engine: RemoteCache) -> None:
    """The same for one that has to be asked."""
    _remote[name] = engine


def find(text: str) -> tuple[CacheEngine, str]:
    """Engine and group that ``engine[:group]`` names; CacheError when there is none."""
    name, _, group = text.partition(":")
    engine = _engines.get(name)
    if engine is None:
        known = ", ".join(sorted({*_engines, *_remote})) or "none; load a cachedb module"
        raise CacheError(f"no cache engine {name!r} (known: {known})")
    return engine, group


def remote(text: str) -> tuple[RemoteCache, str] | None:
    """Engine and group when the engine has to be asked."""
    name, _, group = text.partition(":")
    engine = _remote.get(name)
    return None if engine is None else (engine, group)


def number(value: str) -> int:
    """A cached value as a number; CacheError when it is not one."""
    try:
        return int(value)
    except ValueError:
        raise CacheError(f"{value!r} is not a number") from None
