"""What ``$err.…`` tell in error_route."""

from __future__ import annotations

from opensips_py.script.context import Context

ERROR = "error"
"""Slot of a context with what ``$err.…`` give; error_route runs when it is there at the end of the script."""

PARSER, SCRIPT = 1, 4
"""``$err.class``: a message that cannot be read; a fault of the script or a module (OpenSIPS has only the first)."""
CRITICAL_ERROR, NORMAL_ERROR = 1, 3
"""``$err.level``."""


def note_bad_headers(ctx: Context, info: str) -> None:
    """A function of the script has needed a header that cannot be read: error_route is to run at the end."""
    ctx.slots.setdefault(ERROR, {"class": PARSER, "level": NORMAL_ERROR, "info": info, "rcode": 400, "rreason": "bad headers"})
