"""``did you mean``: the nearest known name to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that ``word`` most likely stands for, or None."""
    names = list(known)
    lower = {name.lower(): name for name in names}
    if word.lower() in lower:
        return lower[word.lower()]
    found = difflib.get_close_matches(word, names, 1, 0.7)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The hint for a person, or None when nothing is near."""
    name = nearest(word, known)
    return None if name is None else f'did you mean "{name}"?'
