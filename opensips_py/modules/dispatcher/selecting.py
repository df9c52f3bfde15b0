"""ds_select_dst(), ds_select_domain(): one destination of a set for the request."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from opensips_py.modules.dispatcher import algorithms, live, loads, messages, script_attrs
from opensips_py.modules.dispatcher.algorithms import Algorithm
from opensips_py.modules.dispatcher.arguments import PartitionName, named
from opensips_py.modules.dispatcher.declared import hash_pvar, module
from opensips_py.modules.dispatcher.failover import Chosen, aim, aim_domain, keep, show_attrs
from opensips_py.modules.dispatcher.partitions import Partition
from opensips_py.modules.dispatcher.sets import Destination
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, R
from opensips_py.server.log import DBG, ERROR, log
from opensips_py.server.process import this

_FLAGS = frozenset("fudas")
"""Failover, user only, default, append; ``s`` (force the destination, of older versions) is what happens anyway."""

_HASHES: Mapping[int, Callable[[Context, bool], int | None]] = {
    0: messages.hash_of_call_id,
    1: messages.hash_of_from,
    2: messages.hash_of_to,
    3: messages.hash_of_ruri,
}
IN_TURN, CREDENTIALS, RANDOM, VARIABLES, LOAD, ROUTE = 4, 5, 6, 7, 9, 10


def _flags_fault(text: str, registry: Any) -> str | None:
    wrong = sorted(set(text.strip().lower()) - _FLAGS)
    return f"[{wrong[0]}] is not a flag: there are f, u, d, a and s" if wrong else None


Flags = Annotated[str, "str", _flags_fault]


@module.function(routes=R | F | B)
def ds_select_dst(
    ctx: Context,
    set: int,
    algorithm: int,
    flags: Flags | None = None,
    partition: PartitionName | None = None,
    max_results: int | None = None,
) -> int:
    """Choose an active destination of a set, and make it that of the request (`$du`).

    ``algorithm``: 0 hash of Call-ID, 1 of From, 2 of To, 3 of the R-URI, 4 one after the other, by weight, 5 hash of the user
    of the credentials (else as 4), 6 at random, by weight, 7 hash of `hash_pvar`, 8 the first one, 9 the least load by
    `pvar_algo_pattern`, 10 the least by `algo_route`; any other as 8. ``flags``: ``f`` keep the others for ds_next_dst(),
    ``a`` and those that are kept already, ``u`` hash only users of URIs, ``d`` the last one of the set is a last resort.
    ``max_results``: keep no more than so many, the chosen one included. 1, or -1 when no destination is active.
    """
    return _select(ctx, "ds_select_dst", (set, algorithm, flags, partition, max_results), aim)


@module.function(routes=R | F | B)
def ds_select_domain(
    ctx: Context,
    set: int,
    algorithm: int,
    flags: Flags | None = None,
    partition: PartitionName | None = None,
    max_results: int | None = None,
) -> int:
    """The same, putting host and port of the destination into the R-URI."""
    return _select(ctx, "ds_select_domain", (set, algorithm, flags, partition, max_results), aim_domain)


_Arguments = tuple[int, int, str | None, str | None, int | None]


def _select(ctx: Context, function: str, arguments: _Arguments, use: Callable[[Context, str, str], int]) -> int:
    group, number, given, name, most = arguments
    partition = named(name, function)
    if partition is None:
        return -1
    flags = frozenset((given or "").strip().lower())
    if not flags <= _FLAGS:
        log(ERROR, "dispatcher", function, _flags_fault(given or "", None) or "")
        return -1
    destinations = partition.sets.groups.get(group)
    if destinations is None:
        log(DBG, "dispatcher", function, f"partition {partition.name} has no set {group}")
        return -1
    algorithm = _algorithm(ctx, function, number, "u" in flags, partition, destinations)
    if algorithm is None:
        return 0 if ctx.suspended else -1
    chosen = _choose(partition, group, destinations, algorithm, last_resort="d" in flags, most=most or 0)
    if not chosen:
        return -1
    if "f" in flags:
        keep(ctx, partition, chosen, append="a" in flags)
    else:
        show_attrs(ctx, partition, chosen[0])
    return use(ctx, chosen[0].destination.uri, chosen[0].socket)


def _choose(
    partition: Partition, group: int, destinations: list[Destination], algorithm: Algorithm, *, last_resort: bool, most: int
) -> list[Chosen]:
    """The destinations in the order in which they are tried; counts the first one."""
    with this.store.batch() as batch:
        entry = live.read_in(batch, partition.name, group)
        order = algorithms.arranged(destinations, entry, algorithm, last_resort=last_resort, most=most)
        if order:
            entry.of(destinations[order[0]]).hits += 1
            live.put(batch, partition.name, group, entry)
    chosen = [destinations[place] for place in order]
    return [Chosen(one, text) for one, text in zip(chosen, script_attrs.of(partition, chosen), strict=True)]


def _algorithm(
    ctx: Context, function: str, number: int, user_only: bool, partition: Partition, destinations: list[Destination]
) -> Algorithm | None:
    """What puts the destinations in order; None, with a line in the log, when the request lacks what it is made of."""
    value: int | None
    if number in _HASHES:
        value = _HASHES[number](ctx, user_only)
        if value is None:
            log(ERROR, "dispatcher", function, f"the request has nothing that algorithm {number} could hash")
        return None if value is None else algorithms.by_hash(value)
    if number == IN_TURN:
        return algorithms.in_turn
    if number == CREDENTIALS:
        value = messages.hash_of_credentials(ctx, user_only)
        return algorithms.in_turn if value is None else algorithms.by_hash(value)
    if number == RANDOM:
        return algorithms.by_hash(random.getrandbits(32))
    if number == VARIABLES:
        text = loads.hashed_text(ctx)
        if text is None:
            log(ERROR, "dispatcher", function, f"algorithm 7 needs parameter {hash_pvar.name}")
        return None if text is None else algorithms.by_hash(algorithms.hash_of(text))
    if number == LOAD and loads.has_pattern():
        return algorithms.by_load([loads.of_variable(ctx, one) for one in destinations])
    if number == ROUTE and loads.has_route():
        return loads.by_route(ctx, partition, destinations)
    return algorithms.first
