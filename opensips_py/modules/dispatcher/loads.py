"""The algorithms that ask the script: a text to hash (7), and loads by variables (9) or by a route (10)."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.modules.dispatcher import algorithms, script_attrs
from opensips_py.modules.dispatcher.algorithms import Algorithm
from opensips_py.modules.dispatcher.declared import algo_route, hash_pvar, pvar_algo_pattern, setid_pvar
from opensips_py.modules.dispatcher.partitions import Partition
from opensips_py.modules.dispatcher.sets import Destination
from opensips_py.script import environment
from opensips_py.script.context import Context, RouteKind, Value, ValueRefused
from opensips_py.script.declarations import ConfigError
from opensips_py.script.formats import compile_format
from opensips_py.script.variable import Variable
from opensips_py.script.variable_syntax import VariableError
from opensips_py.script.variables import Registry
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

_URI = "%u"
_SAMPLE = "sip:192.0.2.1:5060"
_MOST = 4096
"""Variables that are kept compiled."""


class _Compiled:
    """What parameters say."""

    hashed: str | Callable[[Context], str] = ""
    setid: Variable | None = None
    loads: dict[str, Variable | None] = {}
    """By URI."""


def configure() -> None:
    """Compile what parameters name. Raises ConfigError."""
    script = environment.checked()
    registry: Registry = this.program.registry if script is None else script.registry
    _Compiled.loads = {}
    try:
        _Compiled.hashed = compile_format(hash_pvar.value, registry)
    except VariableError as error:
        raise ConfigError(f"dispatcher: {hash_pvar.name}: {error}", hash_pvar.name) from None
    try:
        _Compiled.setid = registry.variable(setid_pvar.value) if setid_pvar.value else None
        if _Compiled.setid is not None and not _Compiled.setid.writable:
            raise VariableError(f"{setid_pvar.value} cannot be written")
    except VariableError as error:
        raise ConfigError(f"dispatcher: {setid_pvar.name}: {error}", setid_pvar.name) from None
    if pvar_algo_pattern.value:
        try:
            registry.variable(pvar_algo_pattern.value.replace(_URI, _SAMPLE))
        except VariableError as error:
            raise ConfigError(f"dispatcher: {pvar_algo_pattern.name}: {error}", pvar_algo_pattern.name) from None
    if script is not None and algo_route.value and (RouteKind.REQUEST, algo_route.value) not in script.routes:
        raise ConfigError(f"dispatcher: {algo_route.name}: route [{algo_route.value}] is not defined", algo_route.name)


def note_set(ctx: Context, group: int) -> None:
    """Give the script the set in which an address was found."""
    if _Compiled.setid is not None:
        try:
            _Compiled.setid.set(ctx, group)
        except ValueRefused as refused:
            log(ERROR, "dispatcher", "ds_is_in_list", str(refused))


def hashed_text(ctx: Context) -> str | None:
    """The text that algorithm 7 hashes; None when no parameter says which."""
    hashed = _Compiled.hashed
    if not hashed:
        return None
    return hashed if isinstance(hashed, str) else hashed(ctx)


def has_pattern() -> bool:
    """Is there a variable for algorithm 9?"""
    return bool(pvar_algo_pattern.value)


def has_route() -> bool:
    """Is there a route for algorithm 10?"""
    return bool(algo_route.value)


def of_variable(ctx: Context, destination: Destination) -> int:
    """The load of a destination by its variable; one that has no number has none."""
    uri = destination.uri
    if uri not in _Compiled.loads:
        if len(_Compiled.loads) >= _MOST:
            _Compiled.loads.clear()
        _Compiled.loads[uri] = _variable(uri)
    variable = _Compiled.loads[uri]
    value: Value = None if variable is None else variable.get(ctx)
    if isinstance(value, int):
        return value
    return int(value) if value is not None and value.isascii() and value.isdecimal() and len(value) <= 18 else 0


def _variable(uri: str) -> Variable | None:
    text = pvar_algo_pattern.value.replace(_URI, uri)
    try:
        return this.program.registry.variable(text)
    except VariableError as error:
        log(ERROR, "dispatcher", "ds_select_dst", f"{text}: {error}")
        return None


def by_route(ctx: Context, partition: Partition, destinations: list[Destination]) -> Algorithm | None:
    """Order by what the route returns for each destination, its `$param(dst_uri)`, `$param(attrs)` and `$param(script_attrs)`."""
    route = this.program.route(RouteKind.REQUEST, algo_route.value)
    if route is None:
        log(ERROR, "dispatcher", "ds_select_dst", f"route [{algo_route.value}] is not defined any more")
        return None
    texts = [script_attrs.read(partition, one) for one in destinations]
    params, rc = ctx.params, ctx.rc
    found = []
    for one, text in zip(destinations, texts, strict=True):
        ctx.params = (("dst_uri", one.uri), ("attrs", one.attrs), ("script_attrs", text))
        found.append(route(ctx))
        if ctx.suspended:
            log(
                ERROR,
                "dispatcher",
                "ds_select_dst",
                f"route [{algo_route.value}] has left with async(), and the script ends: write await()",
            )
            return None
    ctx.params, ctx.rc = params, rc
    return algorithms.by_load(found)
