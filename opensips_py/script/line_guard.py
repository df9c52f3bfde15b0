"""Parameters that are header lines: a line end or NUL in what a variable brings into one would begin another header.

What a script writes itself may hold line ends (``append_hf("X-A: 1\\r\\n")``); what variables bring into it may not, save for
folded header values. A text that is one variable and nothing else is the script's own: it may be several whole headers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from opensips_py.script.context import Context, ValueRefused
from opensips_py.script.formats import NULL_TEXT, split_format
from opensips_py.script.one_line import breaks, shown
from opensips_py.script.variables import Registry, Variable

_unfolded = re.compile(r"\0|\r(?!\n)|\r?\n(?![ \t])").search
_headers = re.compile(r"(?:[A-Za-z0-9\-.!%*_+`'~]+[ \t]*:(?:[^\r\n\0]|\r?\n[ \t])*(?:\r?\n|\Z))*\Z").match


def header_lines(text: str, registry: Registry) -> str | Callable[[Context], str | None]:
    """As ``compile_string``, for a parameter that is header lines; calls raise ValueRefused. VariableError when it is wrong."""
    pieces = split_format(text, registry)
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(map(str, pieces))
    if len(pieces) == 1 and isinstance(pieces[0], Variable):
        whole = whole_headers(pieces[0])
        return lambda ctx: NULL_TEXT if (text := whole(ctx)) is None else text

    def lines(ctx: Context) -> str:
        return "".join([piece if isinstance(piece, str) else _inserted(piece, ctx) for piece in pieces])

    return lines


def whole_headers(variable: Variable) -> Callable[[Context], str | None]:
    """A variable that holds header lines; calls raise ValueRefused when one of its lines is not a header."""

    def lines(ctx: Context) -> str | None:
        value = variable.get(ctx)
        if value is None:
            return None
        text = str(value)
        if breaks(text.rstrip("\r\n")) is not None and _headers(text) is None:
            raise ValueRefused(f"{variable.text} holds lines that are not headers: {shown(text)}")
        return text

    return lines


def _inserted(variable: Variable, ctx: Context) -> str:
    value = variable.get(ctx)
    if value is None:
        return NULL_TEXT
    text = str(value)
    if _unfolded(text) is not None:
        raise ValueRefused(f"{variable.text} holds a line end or NUL, which would begin another header: {shown(text)}")
    return text
