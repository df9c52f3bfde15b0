"""Parameters ``;name=value`` of headers (RFC 3261 7.3.1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from opensips_py.sip.headers import LWS, QUOTED

Params = dict[str, str | None]
"""Values by lower-case name, in order; None for a parameter without ``=``. Quoted values keep their quotes."""


def parse_params(text: str, separator: str = ";") -> Params:
    """The parameters in ``text`` (which may begin with the separator). Of repeated names the first wins.

    Empty parameters (``;;``) are passed over.
    """
    params: Params = {}
    for piece in split_quoted(text, separator):
        name, equals, value = piece.partition("=")
        name = name.strip(LWS).lower()
        if name and name not in params:
            params[name] = value.strip(LWS) if equals else None
    return params


def find_param(text: str, name: str) -> str | None:
    """The value of one parameter that is usually there (``tag``), without reading all of them.

    None also when it has no ``=``; ``name`` is in lower case.
    """
    key = name + "="
    if text.startswith(key) and ";" not in text:
        return text[len(key) :].strip(LWS)
    return parse_params(text).get(name)


def split_quoted(text: str, separator: str) -> list[str]:
    """``text.split(separator)``, blind to separators inside quoted strings."""
    if '"' not in text:
        return text.split(separator)
    pieces = []
    start = 0
    match = _piece(separator)
    while True:
        piece = match(text, start)
        assert piece is not None  # it matches the empty string
        pieces.append(piece[0])
        start = piece.end() + 1
        if start > len(text):
            return pieces


@lru_cache(8)
def _piece(separator: str) -> Callable[[str, int], re.Match[str] | None]:
    """Matches up to the next separator or the end."""
    return re.compile(rf'(?:[^"{re.escape(separator)}]++|{QUOTED})*', re.DOTALL).match


def unquote(text: str) -> str:
    """What a quoted string means; other text is returned as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    return _escaped(r"\1", inner)


_escaped = re.compile(r"\\(.)", re.DOTALL).sub


def quote(text: str) -> str:
    """``text`` as a quoted string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
