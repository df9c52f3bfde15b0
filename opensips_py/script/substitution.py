"""Substitution expressions ``/regular expression/replacement/flags``, as sed writes them (OpenSIPS ``re.c``).

The delimiter is the first character. The replacement knows ``\\0`` … ``\\9`` (the match and its groups), ``\\n``, ``\\r``,
``\\t`` and variables. Flags: ``i`` ignore case, ``g`` every match, ``s`` the text is one line (``.`` matches a line end).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from opensips_py.script.context import Context, Value
from opensips_py.script.posix_regex import Match, Regex, RegexError, compile_regex
from opensips_py.script.variable import Variables
from opensips_py.script.variable_syntax import VariableError

Part = str | int | Callable[[Context], Value]
"""Of a replacement: text, number of a group, or a variable's getter."""


class SubstitutionError(ValueError):
    """An expression that is not one; the text says why. Also: a match of no characters."""


@dataclass(slots=True)
class Change:
    """``text[start:end]`` becomes ``replacement``."""

    start: int
    end: int
    replacement: str


@dataclass(slots=True)
class Substitution:
    """A compiled expression."""

    pattern: Regex
    parts: list[Part]
    every: bool

    def changes(self, ctx: Context, text: str, start: int = 0, end: int | None = None) -> list[Change]:
        """What the expression changes in ``text``, in order; SubstitutionError when it matches nothing at all (``x*``)."""
        found = []
        for match in self.pattern.finditer(text, start, end):
            if match.end() == match.start():
                raise SubstitutionError("the regular expression matches the empty string")
            found.append(Change(match.start(), match.end(), self._replacement(ctx, match)))
            if not self.every:
                break
        return found

    def apply(self, ctx: Context, text: str) -> str | None:
        """``text`` after the substitution, the same when nothing matches; None when the empty string is matched."""
        try:
            changes = self.changes(ctx, text)
        except SubstitutionError:
            return None
        out: list[str] = []
        position = 0
        for change in changes:
            out += (text[position : change.start], change.replacement)
            position = change.end
        return "".join(out) + text[position:]

    def _replacement(self, ctx: Context, match: Match) -> str:
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, int):
                if part <= (match.re.groups):
                    out.append(match.group(part) or "")
            else:
                value = part(ctx)
                out.append("" if value is None else str(value))
        return "".join(out)


def parse_substitution(text: str, registry: Variables) -> Substitution:
    """Read an expression; raises SubstitutionError."""
    if len(text) < 3:
        raise SubstitutionError(f"{text!r} is not of the form /regular expression/replacement/flags")
    delimiter = text[0]
    if delimiter == "\\":
        raise SubstitutionError("a backslash cannot delimit an expression")
    middle = _find(text, delimiter, 1)
    last = _find(text, delimiter, middle + 1)
    ignore_case, lines, every = False, True, False
    for flag in text[last + 1 :].strip():
        if flag == "i":
            ignore_case = True
        elif flag == "s":
            lines = False
        elif flag == "g":
            every = True
        else:
            raise SubstitutionError(f"unknown flag {flag!r} in {text!r} (known: i, g, s)")
    expression = text[1:middle].replace("\\" + delimiter, delimiter) if delimiter not in "^.[$()|*+?{" else text[1:middle]
    try:
        pattern = compile_regex(expression, lines, ignore_case)
    except RegexError as error:
        raise SubstitutionError(f"bad regular expression in {text!r}: {error}") from None
    return Substitution(pattern, _parts(text[middle + 1 : last], delimiter, registry), every)


def fault(text: str, registry: Variables) -> str | None:
    """What is wrong with an expression, for the check of a script; None: nothing."""
    try:
        parse_substitution(text, registry)
    except SubstitutionError as error:
        return str(error)
    return None


SubstitutionText = Annotated[str, "static", fault]
"""Type of a function's parameter that is a substitution expression."""


def _find(text: str, delimiter: str, at: int) -> int:
    while (found := text.find(delimiter, at)) >= 0:
        if text[found - 1] != "\\":
            return found
        at = found + 1
    raise SubstitutionError(f"{text!r} has fewer than three {delimiter!r}")


def parse_replacement(text: str, registry: Variables) -> list[Part]:
    """Read a replacement that stands alone; raises SubstitutionError."""
    return _parts(text, "\\", registry)


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def _parts(text: str, delimiter: str, registry: Variables) -> list[Part]:
    parts: list[Part] = []
    literal = ""
    i = 0
    while i < len(text):
        c = text[i]
        if c == "\\" and i + 1 < len(text):
            following = text[i + 1]
            if following.isdecimal():
                parts += [literal, int(following)] if literal else [int(following)]
                literal = ""
            else:
                literal += _ESCAPES.get(following, following if following in (delimiter, "$") else c + following)
            i += 2
        elif text.startswith("$$", i):
            literal += "$"
            i += 2
        elif c == "$":
            try:
                variable, i = registry.scan(text, i)
            except VariableError as error:
                raise SubstitutionError(error.message) from None
            parts += [literal, variable.get] if literal else [variable.get]
            literal = ""
        else:
            literal += c
            i += 1
    if literal:
        parts.append(literal)
    return parts
