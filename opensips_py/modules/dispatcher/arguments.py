"""Arguments that several functions have: partitions, states."""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py.modules.dispatcher.partitions import DEFAULT, Partition, partitions
from opensips_py.modules.dispatcher.sets import State
from opensips_py.server.log import ERROR, log

_STATES = {
    **dict.fromkeys("aA1", State.ACTIVE),
    **dict.fromkeys("iI0", State.INACTIVE),
    **dict.fromkeys("pP2", State.PROBING),
}


def _partition_fault(name: str, registry: Any) -> str | None:
    return None if name in partitions else f"unknown partition <{name}>"


def _state_fault(word: str, registry: Any) -> str | None:
    return None if state_of_word(word or "i") is not None else f"[{word}] is not a state: write a, i or p"


def _filter_fault(text: str, registry: Any) -> str | None:
    return None if states_of(text) else f"[{text}] is no row of states: write a, i, p, or several of them"


PartitionName = Annotated[str, "str", _partition_fault]
StateName = Annotated[str, "str", _state_fault]
StateFilter = Annotated[str, "str", _filter_fault]


def named(name: str | None, function: str) -> Partition | None:
    """The partition of a name, or the default one; None, with a line in the log, when there is none."""
    found = partitions.get(name or DEFAULT)
    if found is None:
        log(ERROR, "dispatcher", function, f"there is no partition {name or DEFAULT}")
    return found


def state_of_word(word: str) -> State | None:
    """``a``, ``A`` or ``1``: active, and so on."""
    return _STATES.get(word.strip())


def states_of(text: str) -> frozenset[State]:
    """The states that a text like ``ip`` names; none when something in it is no state."""
    found = [_STATES.get(letter) for letter in text.strip()]
    return frozenset(state for state in found if state is not None) if None not in found else frozenset()
