"""Values that become part of a line of a message (start line, header, URI) may hold no line end and no NUL."""

from __future__ import annotations

import re

from opensips_py.script.context import ValueRefused

breaks = re.compile(r"[\r\n\0]").search
"""Finds what would end a line."""


def one_line(text: str | None) -> str | None:
    """``text`` as it is; ValueRefused when it holds a line end or NUL."""
    if text is not None and breaks(text) is not None:
        raise ValueRefused(f"{shown(text)} holds a line end or NUL: it would end the line that it is put into")
    return text


def shown(text: str) -> str:
    """A text for the log: short, and without control characters."""
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
