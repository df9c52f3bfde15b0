"""Shell patterns (fnmatch(3)): ``*``, ``?``, ``[abc]``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache

LONGEST = 1000
"""Characters of a pattern: reading it takes the square of its length."""


@lru_cache(256)
def matcher(pattern: str) -> Callable[[str], object]:
    """A function that tells whether a text fits the pattern; none fits one that is too long. Case matters."""
    if len(pattern) > LONGEST:
        return _never
    return re.compile(fnmatch.translate(pattern), re.DOTALL).match


def _never(text: str) -> object:
    return None
