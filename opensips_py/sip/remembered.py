"""Results of functions of one text, kept: peers keep sending the same.

The texts come from the network. So what is kept has a bound in bytes, not in entries, and long texts are not kept at all.
A known text costs one look into a dict, less than ``functools.lru_cache``; when the bound is reached everything is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST = 256
"""Longer texts are not kept."""
LIMIT = 2 << 20
"""Bytes that one function may keep, as estimated."""
_ENTRY, _PER_CHARACTER = 512, 16
"""What an entry takes: the entry itself, and for each character of the text (a list of parameters takes most)."""


class Remembered(dict[str, T], Generic[T]):
    """The results of one function by its argument."""

    __slots__ = ("compute", "limit", "size")

    def __init__(self, compute: Callable[[str], T], limit: int) -> None:
        self.compute, self.limit = compute, limit
        self.size = 0
        """Bytes that the entries take, as estimated."""

    def __missing__(self, text: str) -> T:
        result = self.compute(text)
        if len(text) <= LONGEST:
            self.size += _ENTRY + _PER_CHARACTER * len(text)
            if self.size > self.limit:
                self.clear()
                self.size = 0
            self[text] = result
        return result


def remembered(compute: Callable[[str], T]) -> Callable[[str], T]:
    """Keep the results of a function, which must not be changed by anybody. What it raises is not kept."""
    return Remembered(compute, LIMIT).__getitem__
