"""The core parameter ``async_timeout``: how long ``async()`` and ``launch()`` wait when the script does not say.

``async_timeout = 5`` holds for every function; ``async_timeout = "5, exec=30, avp_db_query=0.5"`` also says it for
single ones. Times are seconds; 0 is no limit. Functions whose time is what the script asks for (sleep, usleep) have a
limit only by name.
"""

from __future__ import annotations

import math


class Deadlines:
    """Time limits by function. ``Deadlines()`` has none."""

    __slots__ = ("by_function", "default")

    def __init__(self, default: float = 0.0, by_function: dict[str, float] | None = None) -> None:
        self.default = default
        """Seconds; 0: no limit."""
        self.by_function = by_function or {}

    def __str__(self) -> str:
        return ", ".join([f"{self.default:g}", *(f"{name}={seconds:g}" for name, seconds in self.by_function.items())])

    def of(self, function: str, general: bool = True) -> float:
        """Seconds for a function; 0: no limit. Without ``general``, only a limit for this very function holds."""
        return self.by_function.get(function, self.default if general else 0.0)


def parse_deadlines(text: str) -> Deadlines:
    """Read the parameter's text. ValueError says what is wrong."""
    deadlines = Deadlines()
    for part in text.split(","):
        name, equals, seconds = (word.strip() for word in part.rpartition("="))
        if equals and not name:
            raise ValueError(f'"{part.strip()}" names no function')
        limit = _seconds(seconds)
        if name:
            deadlines.by_function[name] = limit
        else:
            deadlines.default = limit
    return deadlines


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f'"{text}" is not a number of seconds')
    return seconds
