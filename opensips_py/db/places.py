"""The places for values, ``?``, in the text of a query: ``SELECT credit FROM users WHERE uid=?``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from opensips_py.db.statement import StatementError
from opensips_py.script.context import Value

_TOKENS = re.compile(
    r"""'(?:[^'\\]|\\.|'')*(?:'|\Z) | "(?:[^"\\]|\\.|"")*(?:"|\Z) | `[^`]*(?:`|\Z)  # strings and names
    | --(?=\s)[^\n]* | \#[^\n]* | /\*.*?(?:\*/|\Z)                                   # comments
    | \?""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST, _MOST = 2048, 256
_split: dict[str, list[str]] = {}
"""Queries taken apart: those that scripts write, not what they put together anew for each message."""


def pieces_of(query: str) -> list[str]:
    """The text between the places for values; n places make n + 1 pieces."""
    pieces = _split.get(query)
    if pieces is None:
        pieces, start = [], 0
        for token in _TOKENS.finditer(query):
            if token[0] == "?":
                pieces.append(query[start : token.start()])
                start = token.end()
        pieces.append(query[start:])
        if len(query) <= _LONGEST and len(_split) < _MOST:
            _split[query] = pieces
    return pieces


def fault(query: str, given: int) -> str | None:
    """What is wrong with as many values for a query; None: nothing. One more than there are ``?`` is the database in front."""
    places = len(pieces_of(query)) - 1
    if given in (places, places + 1) or (not given and not places):
        return None
    return f"the query has {places} places (?) for {given} values"


def database_and_values(query: str, given: Sequence[Value]) -> tuple[int | None, Sequence[Value]]:
    """What stands behind the outputs of a query: ``[database,] values``. Raises StatementError."""
    if len(given) != len(pieces_of(query)):
        return None, given
    number = given[0]
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
        number = int(number)
    if isinstance(number, str):
        raise StatementError(f"[{number[:100]}] is no number of a database, and there is no place (?) for it in the query")
    return number, given[1:]
