"""A cache for what is read from texts that come from the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

T = TypeVar("T")

ENTRIES, LONGEST = 1024, 256
"""Results that are kept for each function, and the length of the longest text that is: a quarter of a megabyte of texts."""


def remembered(read: Callable[[str], T]) -> Callable[[str], T]:
    """Keep the last results of a function of a text, unless the text is long: a sender must not choose how much is kept."""
    cached = lru_cache(ENTRIES)(read)

    @wraps(read)
    def look(text: str) -> T:
        return cached(text) if len(text) <= LONGEST else read(text)

    return look
