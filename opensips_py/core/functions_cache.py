"""cache_store() and similar functions: values that all processes see, in the caches of loaded cachedb modules; MI commands.

A cache in this server answers at once. One that has to be asked gives an operation: the functions wait for it, in ``async()``
without holding up the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opensips_py.core import cachedb
from opensips_py.core.cachedb import CacheError
from opensips_py.core.core_module import module
from opensips_py.engine.background import Background
from opensips_py.engine.operation import Done, Operation
from opensips_py.mi.dispatcher import Later
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, MIError, Var, VarList
from opensips_py.server.log import ERROR, log

NOT_FOUND = -2


def _named(key: str) -> None:
    """Raises CacheError for a key that is empty, which no cache is asked about."""
    if not key:
        raise CacheError("the key is empty")


def _failed(function: str, error: CacheError) -> int:
    log(ERROR, "core", function, str(error))
    return -1


@module.operation(routes=ALL)
def cache_store(ctx: Context, cache: str, key: str, value: str, expires: int | None = None) -> Operation | int:
    """Set a value, for ``expires`` seconds if given. 1 done, -1 error."""
    try:
        _named(key)
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].store(remote[1], key, value, expires or 0)
        engine, group = cachedb.find(cache)
        engine.store(group, key, value, expires or 0)
    except CacheError as error:
        return _failed("cache_store", error)
    return 1


@module.operation(routes=ALL)
def cache_fetch(ctx: Context, cache: str, key: str, result: Var) -> Operation | int:
    """Read a value. 1 found, -2 there is none, -1 error."""
    try:
        _named(key)
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].fetch(remote[1], key, result.text)
        engine, group = cachedb.find(cache)
        value = engine.fetch(group, key)
    except CacheError as error:
        return _failed("cache_fetch", error)
    if value is None:
        return NOT_FOUND
    result.set(ctx, value)
    return 1


@module.operation(routes=ALL)
def cache_counter_fetch(ctx: Context, cache: str, key: str, result: Var) -> Operation | int:
    """Read a number. 1 found, -2 there is none, -1 error, or not a number (-3 on Redis)."""
    try:
        _named(key)
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].counter_fetch(remote[1], key, result.text)
        engine, group = cachedb.find(cache)
        value = engine.fetch(group, key)
        if value is None:
            return NOT_FOUND
        result.set(ctx, cachedb.number(value))
    except CacheError as error:
        return _failed("cache_counter_fetch", error)
    return 1


@module.operation(routes=ALL)
def cache_remove(ctx: Context, cache: str, key: str) -> Operation | int:
    """Delete a value. 1 done (also when there was none), -1 error."""
    try:
        _named(key)
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].remove(remote[1], key)
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


@module.operation(routes=ALL)
def cache_add(ctx: Context, cache: str, key: str, increment: int, expires: int, result: Var | None = None) -> Operation | int:
    """Add to a number; a new one begins at 0 and lasts ``expires`` seconds (0: for ever). 1 done, -1 error."""
    try:
        _named(key)
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].add(remote[1], key, increment, expires, None if result is None else result.text)
    except CacheError as error:
        return _failed("cache_add", error)
    return _add(ctx, "cache_add", cache, key, increment, expires, result)


@module.operation(routes=ALL)
def cache_sub(ctx: Context, cache: str, key: str, decrement: int, expires: int, result: Var | None = None) -> Operation | int:
    """Subtract from a number; a new one begins at 0 and lasts ``expires`` seconds (0: for ever). 1 done, -1 error."""
    try:
        _named(key)
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].sub(remote[1], key, decrement, expires, None if result is None else result.text)
    except CacheError as error:
        return _failed("cache_sub", error)
    return _add(ctx, "cache_sub", cache, key, -decrement, expires, result)


@module.operation(routes=ALL)
def cache_raw_query(ctx: Context, cache: str, query: str, result: VarList | None = None) -> Operation | int:
    """Ask a cache in its own language; what comes back goes to the AVPs ``result``. 1 done, -2 there is nothing, -1 error."""
    try:
        if (remote := cachedb.remote(cache)) is not None:
            return remote[0].raw_query(remote[1], query, [variable.text for variable in result or ()])
        cachedb.find(cache)
        raise CacheError(f"the cache {cache} has no language for queries")
    except CacheError as error:
        return _failed("cache_raw_query", error)


# --- management -----------------------------------------------------------------------------------------------------


def _ask(make: Callable[[], Operation], failed: str, answer: Callable[[Done], Any]) -> Later:
    """A management command to a cache that has to be asked."""
    later = Later()

    def done(end: Done) -> None:
        try:
            if end.rc not in (1, NOT_FOUND):
                raise MIError(500, failed, "the cache refuses or cannot be reached; see the log")
            later.done(answer(end))
        except MIError as error:
            later.failed(error)

    Background(make(), done)
    return later


def _found(end: Done) -> str:
    if end.rc == NOT_FOUND:
        raise MIError(400, "Value not found")
    return str(end.outputs[0][1])


@module.mi("cache_store", ("system", "attr", "value"), ("system", "attr", "value", "expire"))
def mi_cache_store(system: str, attr: str, value: str, expire: int = 0) -> str | Later:
    """Set a value in a cache, for ``expire`` seconds if given."""
    if expire < 0:
        raise MIError(400, "Bad expire argument")
    failed = "Cache store command failed"
    try:
        if (remote := cachedb.remote(system)) is not None:
            cache, group = remote
            return _ask(lambda: cache.store(group, attr, value, expire), failed, lambda end: "OK")
        engine, group = cachedb.find(system)
        engine.store(group, attr, value, expire)
    except CacheError as error:
        raise MIError(500, failed, str(error)) from None
    return "OK"


@module.mi("cache_fetch", ("system", "attr"))
def mi_cache_fetch(system: str, attr: str) -> dict[str, str] | Later:
    """A value of a cache."""
    failed = "Cache fetch command failed"
    try:
        if (remote := cachedb.remote(system)) is not None:
            cache, group = remote
            return _ask(lambda: cache.fetch(group, attr, ""), failed, lambda end: {"key": attr, "value": _found(end)})
        engine, group = cachedb.find(system)
        value = engine.fetch(group, attr)
    except CacheError as error:
        raise MIError(500, failed, str(error)) from None
    if value is None:
        raise MIError(400, "Value not found")
    return {"key": attr, "value": value}


@module.mi("cache_remove", ("system", "attr"))
def mi_cache_remove(system: str, attr: str) -> str | Later:
    """Delete a value of a cache."""
    failed = "Cache remove command failed"
    try:
        if (remote := cachedb.remote(system)) is not None:
            cache, group = remote
            return _ask(lambda: cache.remove(group, attr), failed, lambda end: "OK")
        engine, group = cachedb.find(system)
        engine.remove(group, attr)
    except CacheError as error:
        raise MIError(500, failed, str(error)) from None
    return "OK"
