"""Cache engines: what stands behind cache_store() and its kin. A module (cachedb_local …) registers one under its name.

A script names a cache as ``engine`` or ``engine:group``; what a group is, the engine decides.
"""

from __future__ import annotations

from typing import Protocol


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


_engines: dict[str, CacheEngine] = {}


def register(name: str, engine: CacheEngine) -> None:
    """Make an engine known under the name that scripts use."""
    _engines[name] = engine


def find(text: str) -> tuple[CacheEngine, str]:
    """Engine and group that ``engine[:group]`` names; CacheError when there is none."""
    name, _, group = text.partition(":")
    engine = _engines.get(name)
    if engine is None:
        known = ", ".join(sorted(_engines)) or "none; load a cachedb module"
        raise CacheError(f"no cache engine {name!r} (known: {known})")
    return engine, group


def number(value: str) -> int:
    """A cached value as a number; CacheError when it is none."""
    try:
        return int(value)
    except ValueError:
        raise CacheError(f"{value!r} is not a number") from None
