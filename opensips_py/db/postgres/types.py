"""Values of a result in their types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from opensips_py.db.database import Cell


def _integer(text: str) -> Cell:
    return int(text)


def _small(text: str) -> Cell:
    number = int(text)
    return number if -0x80000000 <= number <= 0x7FFFFFFF else text


def _time(text: str) -> Cell:
    try:
        return int(datetime.fromisoformat(text[:19]).timestamp())
    except (ValueError, OverflowError):
        return text


def _truth(text: str) -> Cell:
    return 1 if text == "t" else 0


def _bytes(text: str) -> Cell:
    return bytes.fromhex(text[2:]).decode("latin-1") if text.startswith("\\x") else text


_COMMON: dict[int, Callable[[str], Cell]] = {16: _truth, 17: _bytes, 1114: _time, 1184: _time}
_INTEGERS = (20, 21, 23, 26)
_FRACTIONS = (700, 701)

TYPED: dict[int, Callable[[str], Cell]] = {**_COMMON, **dict.fromkeys(_INTEGERS, _integer), **dict.fromkeys(_FRACTIONS, float)}
"""By the number of the type; others are text. NUMERIC is, too: it is exact."""
UNTYPED: dict[int, Callable[[str], Cell]] = {**_COMMON, **dict.fromkeys(_INTEGERS, _small)}
"""The same for scripts."""
