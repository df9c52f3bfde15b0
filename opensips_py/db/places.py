"""The places for values, ``?``, in the text of a query: ``SELECT credit FROM users WHERE uid=?``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from opensips_py.db.statement import StatementError
from opensips_py.script.context import Value

MYSQL = re.compile(
    r"""'(?:[^'\\]|\\.|'')*(?:'|\Z) | "(?:[^"\\]|\\.|"")*(?:"|\Z) | `[^`]*(?:`|\Z)  # strings and names
    | --(?=\s)[^\n]* | \#[^\n]* | /\*.*?(?:\*/|\Z)                                   # comments
    | \?""",
    re.VERBOSE | re.DOTALL,
)
STANDARD = re.compile(
    r"""(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)        # a string with backslashes (PostgreSQL)
    | '[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z)      # strings and names
    | (?P<dollars>\$(?:[A-Za-z_]\w*)?\$).*?(?:(?P=dollars)|\Z)
    | --[^\n]* | /\*.*?(?:\*/|\Z)                          # comments
    | \?""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST, _MOST = 2048, 256
_split: dict[tuple[re.Pattern[str], str], list[str]] = {}
"""Queries taken apart: those that scripts write, not what they put together anew for each message."""


def pieces_of(query: str, tokens: re.Pattern[str]) -> list[str]:
    """The text between the places for values; n places make n + 1 pieces. ``tokens``: :data:`MYSQL` or :data:`STANDARD`."""
    pieces = _split.get((tokens, query))
    if pieces is None:
        pieces, start = [], 0
        for token in tokens.finditer(query):
            if token[0] == "?":
                pieces.append(query[start : token.start()])
                start = token.end()
        pieces.append(query[start:])
        if len(query) <= _LONGEST and len(_split) < _MOST:
            _split[tokens, query] = pieces
    return pieces


def _places(query: str) -> set[int]:
    """How many places a query may have: which kind of database it is for, its text does not tell."""
    return {len(pieces_of(query, tokens)) - 1 for tokens in (MYSQL, STANDARD)}


def fault(query: str, given: int) -> str | None:
    """What is wrong with as many values for a query; None: nothing. One more than there are ``?`` is the database in front."""
    places = len(pieces_of(query, MYSQL)) - 1
    if any(given - other in (0, 1) for other in _places(query)):
        return None
    return f"the query has {places} places (?) for {given} values"


def database_and_values(query: str, given: Sequence[Value]) -> tuple[int | None, Sequence[Value]]:
    """What follows the outputs of a query: ``[database,] values``. Raises StatementError."""
    places = _places(query)
    if len(given) in places or len(given) - 1 not in places:
        return None, given
    number = given[0]
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
        number = int(number)
    if isinstance(number, str):
        raise StatementError(f"[{number[:100]}] is not the number of a database, and there is no place (?) for it in the query")
    return number, given[1:]
