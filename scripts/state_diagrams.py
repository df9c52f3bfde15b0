"""The transaction layer's state machines as a page: diagrams (Mermaid) and tables, drawn from ``opensips_py.tm.states``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opensips_py.tm import states
from opensips_py.tm.states import Event, Machine, Transition

MACHINES: tuple[Machine[Any], ...] = (
    states.UAS_INVITE_MACHINE,
    states.UAS_NON_INVITE_MACHINE,
    states.UAC_INVITE_MACHINE,
    states.UAC_NON_INVITE_MACHINE,
)

_EVENTS = {
    Event.PROVISIONAL: "1xx",
    Event.SUCCESS: "2xx",
    Event.FAILURE: "300-699",
    Event.ACK: "ACK",
    Event.TIMEOUT: "timer",
    Event.TRANSPORT_ERROR: "send error",
    Event.NEXT_SERVER: "next server",
    Event.RELEASED: "released",
    Event.ENDED_HERE: "ended here",
    Event.GIVEN_UP: "given up",
}


def page(note: str) -> Iterator[str]:
    """The text of ``docs/reference/transactions.md``; ``note`` says where it comes from."""
    yield f"# Transaction state machines\n{note}"
    yield (
        "\nA server transaction is driven by the replies that are sent upstream, a client transaction (a branch) by those that"
        " are received. An event without an arrow changes no state, and is counted (`tm:ignored_events`); most of them are"
        " repeated or late messages. After the final reply nothing goes upstream for one."
        " Every arrow names the RFC section that asks for it, or says that no RFC has such an event (ours).\n"
    )
    for machine in MACHINES:
        yield f"\n## {machine.title}\n\n```mermaid\nstateDiagram-v2\n    [*] --> {_name(machine.start)}\n"
        ends = set()
        for t in machine.transitions:
            yield f"    {_name(t.state)} --> {_name(t.next)}: {_label(t)}\n"
            ends.add(t.next)
        yield from (f"    {_name(state)} --> [*]\n" for state in sorted(ends) if state.name == "TERMINATED")
        yield "```\n\n| state | event | next state | section | |\n|---|---|---|---|---|\n"
        for t in machine.transitions:
            yield f"| {_name(t.state)} | {_EVENTS[t.event]} | {_name(t.next)} | {t.rfc} | {t.note} |\n"


def _name(state: Any) -> str:
    return str(state.name).capitalize()


def _label(transition: Transition[Any]) -> str:
    timer = transition.note.split(";")[0].split(":")[0] if transition.note.startswith("timer ") else _EVENTS[transition.event]
    return f"{timer} ({transition.rfc})"
