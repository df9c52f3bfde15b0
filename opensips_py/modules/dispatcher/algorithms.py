"""Which destination of a set is chosen, and in which order the others follow. Pure: nothing here does I/O.

A hash is that of OpenSIPS, so that calls go where they went before. It falls into one of as many parts as the weights of the
active destinations add up to, and each of these has as many of them as it weighs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from opensips_py.modules.dispatcher.live import Live, state_of
from opensips_py.modules.dispatcher.sets import Destination, State

Places = list[int]
"""Places of destinations in their set."""
Algorithm = Callable[[Sequence[Destination], Live, Places], Places]
"""``algorithm(destinations, live, candidates)``: the candidates in the order in which they are tried; there is at least one."""

_32_BITS = 0xFFFFFFFF


def hash_of(*texts: str) -> int:
    """The hash of OpenSIPS over texts, each of which begins anew with groups of four bytes."""
    total = 0
    for text in texts:
        data = text.encode("latin-1", "replace")
        whole = len(data) & ~3
        words = [int.from_bytes(data[at : at + 4], "big") for at in range(0, whole, 4)]
        words.append(int.from_bytes(data[whole:], "big"))
        total += sum(word ^ word >> 3 for word in words)
    total &= _32_BITS
    return (total + (total >> 11) + (total >> 13) + (total >> 23)) & _32_BITS or 1


def by_hash(value: int) -> Algorithm:
    """The destination into whose part ``value`` falls; those after it follow, then those before it."""

    def arrange(destinations: Sequence[Destination], live: Live, candidates: Places) -> Places:
        ends = list(itertools.accumulate(destinations[place].weight for place in candidates))
        if not ends[-1]:
            return _beginning_at(value % len(candidates), candidates)
        part = value % ends[-1]
        return _beginning_at(next(i for i, end in enumerate(ends) if part < end), candidates)

    return arrange


def first(destinations: Sequence[Destination], live: Live, candidates: Places) -> Places:
    """The first one."""
    return candidates


def by_load(loads: Sequence[int]) -> Algorithm:
    """The one with the least load; ``loads`` are those of all destinations of the set."""

    def arrange(destinations: Sequence[Destination], live: Live, candidates: Places) -> Places:
        return sorted(candidates, key=lambda place: loads[place])

    return arrange


def in_turn(destinations: Sequence[Destination], live: Live, candidates: Places) -> Places:
    """One after the other, each as many times in a row as it weighs. Notes in ``live`` whose turn it is."""
    weights = {place: destinations[place].weight for place in candidates}
    if not any(weights.values()):
        weights = dict.fromkeys(candidates, 1)
    turns = [place for place in candidates if weights[place]]
    now = next((place for place in turns if place >= live.turn), turns[0])
    if now != live.turn:
        live.taken = 0
    elif live.taken >= weights[now]:
        now = next((place for place in turns if place > now), turns[0])
        live.taken = 0
    live.turn = now
    live.taken += 1
    return _beginning_at(candidates.index(now), candidates)


def _beginning_at(i: int, places: Places) -> Places:
    return places[i:] + places[:i]


def arranged(
    destinations: Sequence[Destination], live: Live, algorithm: Algorithm, *, last_resort: bool = False, most: int = 0
) -> Places:
    """The active destinations in the order in which they are to be tried.

    ``last_resort``: the last one of the set comes last, and is not chosen while there is another one. ``most``: no more
    than so many, if that is not 0.
    """
    candidates = [place for place, one in enumerate(destinations) if state_of(live, one) == State.ACTIVE]
    resort: Places = []
    if last_resort and candidates and candidates[-1] == len(destinations) - 1:
        resort = [candidates.pop()]
    order = algorithm(destinations, live, candidates) if candidates else []
    if most > 0:
        order = order[: max(1, most - len(resort))]
        resort = resort[: most - len(order)]
    return order + resort
