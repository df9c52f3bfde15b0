"""The events that there are: those of the core and of the loaded modules, and those that the script raises.

An event's number is its place in the order in which the script is read, so that it is the same in every process.
"""

from __future__ import annotations

from opensips_py.script.declarations import Event, Module

SCRIPT = "script"
"""Stands for the module of an event that the script raises."""
MAX_EVENT_NAME = 250
"""Longest name of an event."""


class EventNames:
    """Events by name."""

    def __init__(self) -> None:
        self.known: dict[str, Event] = {}

    def add(self, module: Module) -> None:
        """The events of a module."""
        for event in module.events.values():
            self.known.setdefault(event.name, event)

    def raised(self, name: str) -> None:
        """The script raises an event."""
        self.known.setdefault(name, Event(name, (), SCRIPT))

    def clear(self) -> None:
        """Forget all, before another script is read."""
        self.known.clear()


events = EventNames()
