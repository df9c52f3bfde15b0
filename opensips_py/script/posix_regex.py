"""Regular expressions of scripts: matched in time proportional to the text, whatever caller and script have written.

The engine is RE2, which does not try one way after the other: an expression as harmless as
``^From:(.*)<sip:(.*)@(.*)>(.*)$`` takes a backtracking engine seconds on 4 KB that somebody has made up. The match is the
leftmost one, and of these the longest (POSIX 9.1); groups prefer what comes first, and repeat as often as possible.

Matching ignores case (ASCII letters only, since script strings are bytes), as OpenSIPS does everywhere. ``=~`` searches the
whole text as one line. Function parameters are compiled with REG_NEWLINE: ``^`` and ``$`` match at every line, ``.`` and ``[^…]``
do not match a line end.

Back-references (``\\1``), and edges of words (``\\<``, ``\\>``) whose neighbour may be no word, are beyond RE2. Such an
expression is matched by Python's ``re``, but only when the script itself has it, not when it comes in a variable.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import re2

from opensips_py.script.regex_syntax import CHARACTERS, TOO_BIG, NotLinear, RegexError, Translation

__all__ = ["Match", "Regex", "RegexError", "compile_perl", "compile_regex"]

MEMORY = 1 << 20
"""Bytes that RE2 may use for one expression."""
KEPT = 128
"""Expressions that come in variables and are kept, compiled."""
LONGEST = 2048
"""Bytes of an expression that comes in a variable."""


class Match:
    """A match in ``string``. Groups have numbers, 0 is all of it."""

    __slots__ = ("_spans", "re", "string")

    def __init__(self, regex: Regex, string: str, spans: list[tuple[int, int]]) -> None:
        self.re, self.string, self._spans = regex, string, spans

    def span(self, group: int = 0) -> tuple[int, int]:
        """Where a group is; (-1, -1): it has no part in the match."""
        return self._spans[group]

    def start(self, group: int = 0) -> int:
        """Where a group begins."""
        return self._spans[group][0]

    def end(self, group: int = 0) -> int:
        """Where a group ends."""
        return self._spans[group][1]

    def group(self, group: int = 0) -> str | None:
        """The text of a group; None: it has no part in the match."""
        start, end = self._spans[group]
        return None if start < 0 else self.string[start:end]

    __getitem__ = group


class Regex:
    """A compiled expression."""

    __slots__ = ("_find", "groups", "pattern", "test")

    def __init__(self, pattern: str, engine: _Linear | _Backtracking) -> None:
        self.pattern = pattern
        self.groups = engine.groups
        self._find = engine.find
        self.test: Callable[[str], bool] = engine.test
        """Whether it matches anywhere in a text."""

    def search(self, text: str, start: int = 0, end: int | None = None) -> Match | None:
        """The first match in ``text[start:end]``; ``end`` counts as the end of the text, ``start`` not as its beginning."""
        if end is not None:
            text = text[:end]
        spans = self._find(text.encode("latin-1"), start)
        return None if spans is None else Match(self, text, spans)

    def finditer(self, text: str, start: int = 0, end: int | None = None) -> Iterator[Match]:
        """All matches that do not overlap."""
        if end is not None:
            text = text[:end]
        data = text.encode("latin-1")
        while start <= len(data) and (spans := self._find(data, start)) is not None:
            yield Match(self, text, spans)
            begin, stop = spans[0]
            start = stop if stop > begin else stop + 1

    def match(self, text: str) -> Match | None:
        """The first match, if it is at the beginning."""
        found = self.search(text)
        return found if found is not None and found.start() == 0 else None

    def fullmatch(self, text: str) -> Match | None:
        """The first match, if it is all of the text."""
        found = self.search(text)
        return found if found is not None and found.span() == (0, len(text)) else None


class _Linear:
    """An expression in RE2's syntax."""

    __slots__ = ("_captures", "_decides", "_source", "groups")

    def __init__(self, source: str, longest: bool = True) -> None:
        self._source = source.encode("latin-1")
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.longest_match = longest
        options.log_errors = False
        options.max_mem = MEMORY
        try:
            # the public functions wrap each match into objects that cost more than the match
            compiled = re2.compile(self._source, options)
            self.groups: int = compiled.groups
            self._captures = compiled._regexp.Match
            options.never_capture = True
            self._decides = re2.compile(self._source, options)._regexp.Match
        except re2.error as error:
            raise NotLinear(str(error)) from None

    def find(self, data: bytes, start: int) -> list[tuple[int, int]] | None:
        """Spans of the first match and its groups."""
        spans: list[tuple[int, int]] = self._captures(_ANYWHERE, data, start, len(data))
        return None if spans[0][0] < 0 else spans

    def test(self, text: str) -> bool:
        """Whether it matches: without groups, which cost more than the match."""
        data = text.encode("latin-1")
        return bool(self._decides(_ANYWHERE, data, 0, len(data))[0][0] >= 0)


_ANYWHERE = re2._Anchor.UNANCHORED


class _Backtracking:
    """An expression for Python's ``re``."""

    __slots__ = ("_pattern", "groups")

    def __init__(self, source: str, flags: int = 0) -> None:
        try:
            self._pattern = re.compile(source, re.ASCII | flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise RegexError(str(error)) from None
        self.groups = self._pattern.groups

    def find(self, data: bytes, start: int) -> list[tuple[int, int]] | None:
        """Spans of the first match and its groups."""
        found = self._pattern.search(data.decode("latin-1"), start)
        return None if found is None else [found.span(n) for n in range(self.groups + 1)]

    def test(self, text: str) -> bool:
        """Whether it matches."""
        return self._pattern.search(text) is not None


def _compile(text: str, newline: bool, ignore_case: bool, trusted: bool) -> Regex:
    try:
        found = Translation(text, newline=newline, ignore_case=ignore_case, linear=True)
        return Regex(text, _Linear(found.text))
    except NotLinear:
        if not trusted:
            raise RegexError(TOO_BIG) from None
    return Regex(text, _Backtracking(Translation(text, newline=newline, ignore_case=ignore_case, linear=False).text))


@functools.lru_cache(maxsize=1024)
def compile_regex(text: str, newline: bool = False, ignore_case: bool = True) -> Regex:
    """Compile an extended regular expression of the script; ``newline`` is REG_NEWLINE. Raises RegexError."""
    return _compile(text, newline, ignore_case, trusted=True)


@functools.lru_cache(maxsize=KEPT)
def compile_dynamic(text: str, newline: bool = False, ignore_case: bool = True) -> Regex:
    """The same of one that comes in a variable, so from anybody: what takes more than linear time, or is long, is refused."""
    if len(text) > LONGEST:
        raise RegexError(TOO_BIG)
    return _compile(text, newline, ignore_case, trusted=False)


class CharacterRegex(Regex):
    """An expression about characters, for texts in Unicode."""

    __slots__ = ("_engine",)

    def __init__(self, pattern: str, engine: Any) -> None:
        self._engine = engine
        self.pattern, self.groups = pattern, engine.groups
        self.test = lambda text: engine.search(text) is not None

    def search(self, text: str, start: int = 0, end: int | None = None) -> Match | None:
        found = self._engine.search(text, start, len(text) if end is None else end)
        return None if found is None else self._match(text, found)

    def finditer(self, text: str, start: int = 0, end: int | None = None) -> Iterator[Match]:
        for found in self._engine.finditer(text, start, len(text) if end is None else end):
            yield self._match(text, found)

    def _match(self, text: str, found: Any) -> Match:
        return Match(self, text, [found.span(n) for n in range(self.groups + 1)])


@functools.lru_cache(maxsize=KEPT)
def compile_characters(text: str) -> CharacterRegex:
    """Compile an expression of the script for a function of a user's module: REG_NEWLINE, about characters. Raises RegexError."""
    given: dict[str, Any] = {"newline": True, "ignore_case": True, "highest": CHARACTERS}
    options = re2.Options()
    options.longest_match, options.log_errors, options.max_mem = True, False, MEMORY
    try:
        return CharacterRegex(text, re2.compile(Translation(text, linear=True, **given).text, options))
    except (NotLinear, re2.error):
        return CharacterRegex(text, re.compile(Translation(text, linear=False, **given).text))


def compile_perl(text: str, ignore_case: bool) -> Regex:
    """Compile an expression in Perl's syntax. Raises RegexError. What RE2 does not know (look-around) is matched by ``re``."""
    try:
        return Regex(text, _Linear(f"(?i:{text})" if ignore_case else text, longest=False))
    except (NotLinear, UnicodeEncodeError):
        return Regex(text, _Backtracking(text, re.IGNORECASE if ignore_case else 0))
