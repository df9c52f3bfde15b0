"""cache_store() and its kin: values that all processes see, in the caches of loaded cachedb modules; and their MI commands."""

from __future__ import annotations

from opensips_py.core import cachedb
from opensips_py.core.cachedb import CacheError
from opensips_py.core.core_module import module
from opensips_py.core.log import ERROR, log
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, MIError, Var

NOT_FOUND = -2


def _failed(function: str, error: CacheError) -> int:
    log(ERROR, "core", function, str(error))
    return -1


@module.function(routes=ALL)
def cache_store(ctx: Context, cache: str, key: str, value: str, expires: int | None = None) -> int:
    """Set a value, for ``expires`` seconds if given. 1 done, -1 error."""
    try:
        engine, group = cachedb.find(cache)
        engine.store(group, key, value, expires or 0)
    except CacheError as error:
        return _failed("cache_store", error)
    return 1


@module.function(routes=ALL)
def cache_fetch(ctx: Context, cache: str, key: str, result: Var) -> int:
    """Read a value. 1 found, -2 there is none, -1 error."""
    try:
        engine, group = cachedb.find(cache)
        value = engine.fetch(group, key)
    except CacheError as error:
        return _failed("cache_fetch", error)
    if value is None:
        return NOT_FOUND
    result.set(ctx, value)
    return 1


@module.function(routes=ALL)
def cache_counter_fetch(ctx: Context, cache: str, key: str, result: Var) -> int:
    """Read a number. 1 found, -2 there is none, -1 error, or not a number."""
    try:
        engine, group = cachedb.find(cache)
        value = engine.fetch(group, key)
        if value is None:
            return NOT_FOUND
        result.set(ctx, cachedb.number(value))
    except CacheError as error:
        return _failed("cache_counter_fetch", error)
    return 1


@module.function(routes=ALL)
def cache_remove(ctx: Context, cache: str, key: str) -> int:
    """Delete a value. 1 done (also when there was none), -1 error."""
    try:
        engine, group = cachedb.find(cache)
        engine.remove(group, key)
    except CacheError as error:
        return _failed("cache_remove", error)
    return 1


def _add(ctx: Context, function: str, cache: str, key: str, increment: int, expires: int, result: Var | None) -> int:
    try:
        engine, group = cachedb.find(cache)
        value = engine.add(group, key, increment, expires)
    except CacheError as error:
        return _failed(function, error)
    if result is not None:
        result.set(ctx, value)
    return 1


@module.function(routes=ALL)
def cache_add(ctx: Context, cache: str, key: str, increment: int, expires: int, result: Var | None = None) -> int:
    """Add to a number; a new one begins at 0 and lasts ``expires`` seconds (0: for ever). 1 done, -1 error."""
    return _add(ctx, "cache_add", cache, key, increment, expires, result)


@module.function(routes=ALL)
def cache_sub(ctx: Context, cache: str, key: str, decrement: int, expires: int, result: Var | None = None) -> int:
    """Subtract from a number; a new one begins at 0 and lasts ``expires`` seconds (0: for ever). 1 done, -1 error."""
    return _add(ctx, "cache_sub", cache, key, -decrement, expires, result)


# --- management -----------------------------------------------------------------------------------------------------


@module.mi("cache_store", ("system", "attr", "value"), ("system", "attr", "value", "expire"))
def mi_cache_store(system: str, attr: str, value: str, expire: int = 0) -> str:
    """Set a value in a cache, for ``expire`` seconds if given."""
    if expire < 0:
        raise MIError(400, "Bad expire argument")
    try:
        engine, group = cachedb.find(system)
        engine.store(group, attr, value, expire)
    except CacheError as error:
        raise MIError(500, "Cache store command failed", str(error)) from None
    return "OK"


@module.mi("cache_fetch", ("system", "attr"))
def mi_cache_fetch(system: str, attr: str) -> dict[str, str]:
    """A value of a cache."""
    try:
        engine, group = cachedb.find(system)
        value = engine.fetch(group, attr)
    except CacheError as error:
        raise MIError(500, "Cache fetch command failed", str(error)) from None
    if value is None:
        raise MIError(400, "Value not found")
    return {"key": attr, "value": value}


@module.mi("cache_remove", ("system", "attr"))
def mi_cache_remove(system: str, attr: str) -> str:
    """Delete a value of a cache."""
    try:
        engine, group = cachedb.find(system)
        engine.remove(group, attr)
    except CacheError as error:
        raise MIError(500, "Cache remove command failed", str(error)) from None
    return "OK"
