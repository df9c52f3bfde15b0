"""Files of rules: ``"expression", "expression" EXCEPT "expression" : "expression"``; ``ALL`` is everything.

A rule matches a pair of URIs when the left side matches one and the right side the other. Expressions are regular expressions
in quotes (POSIX extended, letters' case does not matter), separated by commas; ``#`` begins a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opensips_py.script.posix_regex import Regex, RegexError, compile_regex

_ALL = "ALL"
_EXCEPT = "EXCEPT"
_TOKEN = re.compile(r'\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z]+)|(?P<mark>[:,])|(?P<comment>#.*)|(?P<end>$))')


class RuleError(ValueError):
    """A file of rules is wrong; the text says where."""


@dataclass(frozen=True)
class Side:
    """One side of a rule; no expressions: everything."""

    any_of: tuple[Regex, ...]
    none_of: tuple[Side, ...] = ()
    """What is excepted."""

    def matches(self, text: str) -> bool:
        if self.any_of and not any(one.test(text) for one in self.any_of):
            return False
        return not any(side.matches(text) for side in self.none_of)


@dataclass(frozen=True)
class Rule:
    """One line."""

    left: Side
    right: Side


@dataclass(frozen=True)
class Rules:
    """One file."""

    rules: tuple[Rule, ...] = ()

    def match(self, left: str, right: str) -> bool:
        return any(rule.left.matches(left) and rule.right.matches(right) for rule in self.rules)


def read(path: str) -> Rules:
    """The rules of a file; none when there is no such file. Raises RuleError."""
    try:
        with open(path, encoding="latin-1") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return Rules()
    except (OSError, ValueError) as error:
        raise RuleError(f"{path}: {error}") from None
    rules = []
    for number, line in enumerate(lines, 1):
        try:
            rule = _rule(_tokens(line))
        except RuleError as error:
            raise RuleError(f"{path}:{number}: {error}") from None
        if rule is not None:
            rules.append(rule)
    return Rules(tuple(rules))


def _tokens(line: str) -> list[str]:
    found, at = [], 0
    while at < len(line):
        token = _TOKEN.match(line, at)
        if token is None:
            raise RuleError(f"[{line[at : at + 20]}] is not an expression in quotes, ALL, EXCEPT, comma or colon")
        if token["comment"] is not None or token["end"] is not None:
            break
        found.append(token[0].strip())
        at = token.end()
    return found


def _rule(tokens: list[str]) -> Rule | None:
    if not tokens:
        return None
    if tokens.count(":") != 1:
        raise RuleError("a rule has two sides, with a colon between them")
    colon = tokens.index(":")
    return Rule(_side(tokens[:colon]), _side(tokens[colon + 1 :]))


def _side(tokens: list[str]) -> Side:
    """Expressions, and what is excepted of them."""
    words = [token.upper() for token in tokens]
    if _EXCEPT in words:
        at = words.index(_EXCEPT)
        return Side(_expressions(tokens[:at]), (_side(tokens[at + 1 :]),))
    return Side(_expressions(tokens))


def _expressions(tokens: list[str]) -> tuple[Regex, ...]:
    if [token.upper() for token in tokens] == [_ALL]:
        return ()
    if not tokens or any((token == ",") != bool(i % 2) for i, token in enumerate(tokens)) or len(tokens) % 2 == 0:
        raise RuleError("a side of a rule is ALL, or expressions in quotes with commas between them")
    found = []
    for token in tokens[::2]:
        if not token.startswith('"'):
            raise RuleError(f"[{token}] is not in quotes")
        try:
            found.append(compile_regex(token[1:-1]))
        except RegexError as error:
            raise RuleError(f"{token}: {error}") from None
    return tuple(found)
