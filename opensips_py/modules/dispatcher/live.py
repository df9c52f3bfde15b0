"""What changes of destinations while the server runs: an entry of the shared store for each set.

A state that is changed here holds in all processes at once, is told of as an event, and is written to the table. It outlives any
process; a reload of the table does not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ipc.prefixes import prefix
from ipc.store import Batch
from opensips_py.modules.dispatcher.sets import Destination, Sets, State
from opensips_py.server.process import this

PREFIX = prefix(b"mdispatcher:", "states of a set's destinations, hits, and whose turn it is (module dispatcher)", __name__)


class Kept(msgspec.Struct, array_like=True):
    """What is kept of one destination."""

    hits: int = 0
    """How often it was chosen first since the table was read."""
    failures: int = 0
    """In a row."""
    state: State | None = None
    """None: as in the table."""


class Live(msgspec.Struct, array_like=True):
    """What is kept of one set."""

    turn: int = 0
    """Place of the destination whose turn it is."""
    taken: int = 0
    """How often it has been chosen since then."""
    kept: dict[str, Kept] = {}
    """By URI."""

    def of(self, destination: Destination) -> Kept:
        """What is kept of a destination, to be changed."""
        return self.kept.setdefault(destination.uri, Kept())


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Live).decode


def key_of(partition: str, group: int) -> bytes:
    return PREFIX + f"{partition}\0{group}".encode("latin-1")


def attrs_key_of(partition: str, destination: Destination) -> bytes:
    """Where the text stands that scripts keep with a destination."""
    return PREFIX + f"{partition}\0attrs\0{destination.group}\0{destination.uri}".encode("latin-1")


def state_of(live: Live, destination: Destination) -> State:
    """The state in which a destination is."""
    kept = live.kept.get(destination.uri)
    return destination.state if kept is None or kept.state is None else kept.state


def read(partition: str, group: int) -> Live:
    data = this.store.get(key_of(partition, group))
    return Live() if data is None else _decode(data)


def read_in(batch: Batch, partition: str, group: int) -> Live:
    data = batch.get(key_of(partition, group))
    return Live() if data is None else _decode(data)


def put(batch: Batch, partition: str, group: int, live: Live) -> None:
    batch.put(key_of(partition, group), _encode(live))


Decide = Callable[[Kept, State], State]
"""``decide(kept, state)``: the state that a destination gets. It may count in ``kept``, and must not wait."""


def carry_over(batch: Batch, partition: str, before: Sets, after: Sets) -> None:
    """The table was read again: destinations that are still there stay in their states, all else begins anew."""
    for group, destinations in before.groups.items():
        old = read_in(batch, partition, group)
        states = {one.uri: (state_of(old, one), old.kept.get(one.uri, Kept()).failures) for one in destinations}
        new = Live(kept=_kept(after.groups.get(group, []), states))
        for one in destinations:
            if after.find(group, one.uri) is None:
                batch.delete(attrs_key_of(partition, one))
        if new.kept:
            put(batch, partition, group, new)
        else:
            batch.delete(key_of(partition, group))


def _kept(destinations: list[Destination], states: Mapping[str, tuple[State, int]]) -> dict[str, Kept]:
    kept = {}
    for one in destinations:
        state, failures = states.get(one.uri, (one.state, 0))
        if failures or state != one.state:
            kept[one.uri] = Kept(failures=failures, state=None if state == one.state else state)
    return kept
