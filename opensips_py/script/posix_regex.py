"""POSIX extended regular expressions, as scripts write them, for Python's ``re``.

The differences that matter: a backslash inside brackets is itself, ``]`` may come first there, ``[[:alpha:]]`` names a
class, ``$`` is the very end of the text, ``\\<`` and ``\\>`` are word boundaries (GNU). Matching ignores case (ASCII
letters only, since script strings are bytes), as OpenSIPS does everywhere.

``=~`` searches the whole text as one line. Function parameters are compiled with REG_NEWLINE: ``^`` and ``$`` match at
every line, ``.`` and ``[^…]`` do not match a line end.
"""

from __future__ import annotations

import functools
import re

_CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r" \t\n\r\f\v",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "print": r" -~",
    "graph": r"!-~",
    "cntrl": r"\x00-\x1f\x7f",
    "xdigit": "0-9A-Fa-f",
}
_INTERVAL = re.compile(r"\{[0-9]*(?:,[0-9]*)?\}")
_GNU = {
    "<": r"\b(?=\w)",
    ">": r"\b(?<=\w)",
    "`": r"\A",
    "'": r"\Z",
    "w": r"\w",
    "W": r"\W",
    "s": r"\s",
    "S": r"\S",
    "b": r"\b",
    "B": r"\B",
}


class RegexError(ValueError):
    """Not a regular expression. ``offset`` is where, when that is known."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.offset = message, offset


@functools.lru_cache(maxsize=1024)
def compile_regex(text: str, newline: bool = False) -> re.Pattern[str]:
    """Compile an extended regular expression; ``newline`` is REG_NEWLINE. Raises RegexError."""
    flags = re.IGNORECASE | re.ASCII | (re.MULTILINE if newline else re.DOTALL)
    try:
        return re.compile(translate(text, newline), flags)
    except re.error as e:
        raise RegexError(str(e.msg), e.pos or 0) from None


def translate(text: str, newline: bool = False) -> str:
    """The same expression in Python's syntax."""
    out: list[str] = []
    at = 0
    size = len(text)
    while at < size:
        c = text[at]
        if c == "\\":
            if at + 1 >= size:
                raise RegexError("trailing backslash", at)
            c = text[at + 1]
            at += 2
            if c in _GNU:
                out.append(_GNU[c])
            elif c in "123456789":
                out.append("\\" + c)
            else:
                out.append(re.escape(c))
            continue
        if c == "[":
            inside, at = _bracket(text, at, newline)
            out.append(inside)
            continue
        if c == "{":
            m = _INTERVAL.match(text, at)
            if m is not None and m[0] not in ("{}", "{,}") and out:
                out.append(m[0])
                at = m.end()
            else:
                out.append(r"\{")
                at += 1
            continue
        at += 1
        if c == "$":
            out.append("$" if newline else r"\Z")
        elif c == "(" and text.startswith("?", at):
            raise RegexError("(? is not POSIX syntax: there is nothing to repeat", at)
        elif c in "*+?" and out and out[-1] in ("*", "+", "?"):
            if c == "*" and out[-1] != "*":
                out[-1] = "*"  # POSIX: a repetition of a repetition; Python would read a lazy or possessive one
        elif c == "*" and (not out or out[-1] in ("(", "|", "^")):
            out.append(r"\*")
        else:
            out.append(c)
    return "".join(out)


def _bracket(text: str, start: int, newline: bool) -> tuple[str, int]:
    """The bracket expression at ``start`` in Python's syntax, and the offset behind it."""
    at = start + 1
    inside = "["
    if text.startswith("^", at):
        inside += "^"
        at += 1
        if newline:
            inside += r"\n"
    first = True
    size = len(text)
    while at < size:
        c = text[at]
        if c == "]" and not first:
            return inside + "]", at + 1
        first = False
        if c == "[" and at + 1 < size and text[at + 1] in ":.=":
            kind = text[at + 1]
            stop = text.find(kind + "]", at + 2)
            if stop < 0:
                raise RegexError("unterminated class in brackets", at)
            name = text[at + 2 : stop]
            at = stop + 2
            if kind != ":":
                inside += re.escape(name)
            elif name in _CLASSES:
                inside += _CLASSES[name]
            else:
                raise RegexError(f"unknown class [:{name}:]", at)
            continue
        inside += "\\" + c if c in "\\[]^&~|" else c
        at += 1
    raise RegexError("unterminated [", start)
