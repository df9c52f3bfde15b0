"""POSIX extended regular expressions (POSIX 9.4, with GNU's additions, as the C library of GNU reads them), for other engines.

What is not one is refused with the C library's text. The differences that matter: a backslash inside brackets is itself,
``]`` may come first there, ``[[:alpha:]]`` names a class, ``$`` is the very end of the text, ``\\<`` and ``\\>`` are the edges
of a word; a repetition of nothing (``*a``, ``^*``) is refused, an empty alternative is not.

Expressions are about bytes (one character each). With ``ignore_case`` both sides are compared in upper case, ASCII letters
only: so ``[Z-a]`` is an empty range, and ``\\d``, an escaped small letter, matches nothing.

Everything that stands for a character becomes an explicit set of bytes, so that no engine's own idea of case, classes, line
ends or escapes comes in. What remains is what all engines have in common.
"""

from __future__ import annotations

from typing import NamedTuple

BYTES, CHARACTERS = 0xFF, 0x10FFFF
"""The highest code: expressions are about bytes, or (in functions of users' modules) about characters."""
DEEPEST = 100
"""Groups within groups."""
_MOST = 0x7FFF
"""RE_DUP_MAX."""
NEWLINE = 1 << 10

BAD = "Invalid regular expression"
UNMATCHED_GROUP = "Unmatched ( or \\("
UNMATCHED_BRACKET = "Unmatched [, [^, [:, [., or [="
UNMATCHED_BRACE = "Unmatched \\{"
BAD_REPEAT = "Invalid preceding regular expression"
BAD_INTERVAL = "Invalid content of \\{\\}"
BAD_RANGE = "Invalid range end"
BAD_CLASS = "Invalid character class name"
BAD_COLLATION = "Invalid collation character"
BAD_REFERENCE = "Invalid back reference"
TRAILING = "Trailing backslash"
TOO_BIG = "Regular expression too big"


class RegexError(ValueError):
    """Not a regular expression. ``offset`` is where, when that is known."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message, self.offset = message, offset


class NotLinear(Exception):
    """The expression has what takes more than linear time: a back-reference, or the edge of a word that may be none."""


def _set(characters: str) -> int:
    found = 0
    for character in characters:
        found |= 1 << ord(character)
    return found


def _span(first: int, last: int) -> int:
    return (1 << last + 1) - (1 << first)


_UPPER, _LOWER, _DIGITS = _span(65, 90), _span(97, 122), _span(48, 57)
_CLASSES = {
    "alpha": _UPPER | _LOWER,
    "digit": _DIGITS,
    "alnum": _UPPER | _LOWER | _DIGITS,
    "upper": _UPPER,
    "lower": _LOWER,
    "space": _set(" \t\n\r\f\v"),
    "blank": _set(" \t"),
    "punct": _span(33, 126) & ~(_UPPER | _LOWER | _DIGITS),
    "print": _span(32, 126),
    "graph": _span(33, 126),
    "cntrl": _span(0, 31) | 1 << 127,
    "xdigit": _DIGITS | _span(65, 70) | _span(97, 102),
}
WORD = _UPPER | _LOWER | _DIGITS | 1 << 95
_GNU_SETS = {"w": WORD, "s": _CLASSES["space"]}
NOTHING = r"[^\x00-\x{10ffff}]"
"""What matches no character, for RE2."""
_EDGES = "<>"
_ANCHORS = "`'bB"


class Piece(NamedTuple):
    """A part of the expression in the other engine's syntax."""

    text: str
    first: int = 0
    """Bytes that may come first in what it matches."""
    last: int = 0
    empty: bool = True
    """It may match nothing."""
    atom: bool = False
    """A repetition may follow directly."""
    edge: str = ""
    """``<`` or ``>``: the edge of a word, to be replaced when its neighbours are known."""


class Translation:
    """Reads one expression. ``text`` is the result, ``groups`` the number of groups. Raises RegexError.

    ``linear``: for an engine without back-references and look-around (RE2), else for Python's ``re``. Raises NotLinear.
    """

    def __init__(self, source: str, *, newline: bool, ignore_case: bool, linear: bool, highest: int = BYTES) -> None:
        self._source = source
        self._at = 0
        self._newline, self._ignore_case, self._linear = newline, ignore_case, linear
        self._all = (1 << highest + 1) - 1
        self._complete: set[int] = set()
        self._depth = 0
        self.groups = 0
        self.text = self._alternatives().text

    # --- the structure ----------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _alternatives(self) -> Piece:
        branches = [self._branch()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._branch())
        if len(branches) == 1:
            return branches[0]
        first = last = 0
        for branch in branches:
            first |= branch.first
            last |= branch.last
        return Piece("|".join(branch.text for branch in branches), first, last, any(branch.empty for branch in branches))

    def _branch(self) -> Piece:
        pieces: list[Piece] = []
        while (c := self._peek()) and c != "|" and not (c == ")" and self._depth):
            piece = self._atom()
            while piece.atom and (repeat := self._repetition()) is not None:
                least, text = repeat
                inner = piece.text if text and not piece.text.endswith(_REPEATED) else f"(?:{piece.text})"
                piece = piece._replace(text=f"(?:{inner}{text})", empty=piece.empty or not least)
            pieces.append(piece)
        return self._joined(pieces)

    def _joined(self, pieces: list[Piece]) -> Piece:
        out = [self._edge(pieces, i) if piece.edge else piece.text for i, piece in enumerate(pieces)]
        return Piece("".join(out), _first(pieces)[0], _last(pieces)[0], all(piece.empty for piece in pieces))

    def _edge(self, pieces: list[Piece], at: int) -> str:
        """The edge of a word: a word boundary when a word is certain to be on the right side of it."""
        begins = pieces[at].edge == "<"
        neighbours, empty = _first(pieces[at + 1 :]) if begins else _last(pieces[:at])
        if not empty and not neighbours & ~WORD:
            return r"\b"
        if self._linear:
            raise NotLinear
        return r"(?:\b(?=\w))" if begins else r"(?:\b(?<=\w))"

    def _atom(self) -> Piece:
        start = self._at
        c = self._source[start]
        self._at += 1
        if c == "(":
            return self._group(start)
        if c == "[":
            return self._one(self._bracket(start))
        if c == "\\":
            return self._escape(start)
        if c in "*+?{":
            raise RegexError(BAD_REPEAT, start)
        if c == ".":
            return self._one(self._all & ~NEWLINE if self._newline else self._all)
        if c == "^":
            return Piece("(?m:^)" if self._newline else r"\A")
        if c == "$":
            return Piece("(?m:$)" if self._newline else self._end)
        return self._one(1 << ord(self._cased(c)))

    @property
    def _end(self) -> str:
        return r"\z" if self._linear else r"\Z"

    def _group(self, start: int) -> Piece:
        self.groups += 1
        number = self.groups
        self._depth += 1
        if self._depth > DEEPEST:
            raise RegexError(TOO_BIG, start)
        inner = self._alternatives()
        self._depth -= 1
        if self._peek() != ")":
            raise RegexError(UNMATCHED_GROUP, start)
        self._at += 1
        self._complete.add(number)
        return inner._replace(text=f"({inner.text})", atom=True)

    def _escape(self, start: int) -> Piece:
        if self._at >= len(self._source):
            raise RegexError(TRAILING, start)
        c = self._source[self._at]
        self._at += 1
        if c in "123456789":
            if int(c) not in self._complete:
                raise RegexError(BAD_REFERENCE, start)
            if self._linear:
                raise NotLinear
            return Piece(f"(?i:\\{c})" if self._ignore_case else f"(?:\\{c})", self._all, self._all, True, True)
        if c in "wWsS":
            found = _GNU_SETS[c.lower()]
            return self._one(self._all & ~found if c.isupper() else found, cased=False)
        if c in _EDGES:
            return Piece("", edge=c)
        if c in _ANCHORS:
            return Piece({"`": r"\A", "'": self._end, "b": r"\b", "B": r"\B"}[c])
        return self._one(1 << ord(c))  # not in upper case: a small letter never equals the text, which is

    def _repetition(self) -> tuple[int, str] | None:
        """What follows an atom: the least number, and the text of the repetition."""
        c = self._peek()
        if not c or c not in "*+?{":
            return None
        start = self._at
        self._at += 1
        if c != "{":
            return (1 if c == "+" else 0), c
        least = self._number(start)
        most: int | None = least
        if self._peek() == ",":
            self._at += 1
            most = self._number(start)
            least = 0 if least is None else least
        if least is None or self._peek() != "}" or (most is not None and least > most):
            raise RegexError(BAD_INTERVAL, start)
        self._at += 1
        if max(least, most or 0) > _MOST:
            raise RegexError(TOO_BIG, start)
        return least, f"{{{least}}}" if most == least else f"{{{least},{'' if most is None else most}}}"

    def _number(self, start: int) -> int | None:
        """What stands before the next comma or brace; None: nothing."""
        begin = self._at
        while (c := self._peek()) and c not in ",}":
            self._at += 2 if c == "\\" else 1
        if not c:
            raise RegexError(UNMATCHED_BRACE, start)
        digits = self._source[begin : self._at]
        if digits and not (digits.isascii() and digits.isdigit()):
            raise RegexError(BAD_INTERVAL, start)
        return min(int(digits.lstrip("0")[:9] or "0"), _MOST + 1) if digits else None

    # --- sets of bytes ----------------------------------------------------------------------------------------------

    def _cased(self, c: str) -> str:
        return c.upper() if self._ignore_case and c.isascii() else c

    def _one(self, found: int, cased: bool = True) -> Piece:
        """Any byte of a set; with ``ignore_case`` the set is about the byte in upper case."""
        if cased and self._ignore_case:
            found = found & ~_LOWER | (found & _UPPER) << 32
        text = _written(found) if found else NOTHING if self._linear else r"(?!)"
        return Piece(text, found, found, False, True)

    def _bracket(self, start: int) -> int:
        source = self._source
        inverted = source.startswith("^", self._at)
        self._at += inverted
        if self._at >= len(source):
            raise RegexError(BAD, start)
        found, first = 0, True
        while True:
            if self._at >= len(source):
                raise RegexError(UNMATCHED_BRACKET, start)
            if source[self._at] == "]" and not first:
                self._at += 1
                break
            if source[self._at] == "-" and not first and source[self._at + 1 : self._at + 2] != "]":
                raise RegexError(BAD_RANGE if self._at + 1 < len(source) else UNMATCHED_BRACKET, self._at)
            first = False
            found |= self._element(start)
        if inverted:
            found = self._all & ~found & ~(NEWLINE if self._newline else 0)
        return found

    def _element(self, start: int) -> int:
        """A character, a class or a range."""
        source, at = self._source, self._at
        low = self._symbol(start)
        if source[self._at : self._at + 1] != "-" or source[self._at + 1 : self._at + 2] == "]":
            return 1 << ord(low) if isinstance(low, str) else low
        if self._at + 1 >= len(source):
            raise RegexError(UNMATCHED_BRACKET if isinstance(low, str) else BAD_RANGE, start)
        self._at += 1
        high = self._symbol(start)
        if not isinstance(low, str) or not isinstance(high, str) or low > high:
            raise RegexError(BAD_RANGE, at)
        return _span(ord(low), ord(high))

    def _symbol(self, start: int) -> str | int:
        """One character, or the set of a class."""
        source, at = self._source, self._at
        kind = source[at + 1 : at + 2]
        if source[at] != "[" or not kind or kind not in ":.=":
            self._at += 1
            return self._cased(source[at])
        stop = source.find(kind + "]", at + 2)
        if stop < 0 or stop - at - 2 >= 32:
            raise RegexError(UNMATCHED_BRACKET, start)
        name = source[at + 2 : stop]
        self._at = stop + 2
        if kind != ":":
            if len(name) != 1:
                raise RegexError(BAD_COLLATION, at)
            return self._cased(name)
        if self._ignore_case and name in ("upper", "lower"):
            name = "alpha"
        if name not in _CLASSES:
            raise RegexError(BAD_CLASS, at)
        return _CLASSES[name]


_REPEATED = ("*", "+", "?", "}")


def _first(pieces: list[Piece]) -> tuple[int, bool]:
    """Bytes that may come first, and whether nothing may come."""
    found = 0
    for piece in pieces:
        found |= piece.first
        if not piece.empty:
            return found, False
    return found, True


def _last(pieces: list[Piece]) -> tuple[int, bool]:
    found = 0
    for piece in reversed(pieces):
        found |= piece.last
        if not piece.empty:
            return found, False
    return found, True


def _written(found: int) -> str:
    """A set of characters in brackets, or the one character."""
    ranges: list[tuple[int, int]] = []
    while found:
        first = (found & -found).bit_length() - 1
        rest = ~(found >> first)
        size = (rest & -rest).bit_length() - 1
        ranges.append((first, first + size - 1))
        found &= ~(((1 << size) - 1) << first)
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _character(ranges[0][0])
    return "[" + "".join(_character(a) if a == b else f"{_character(a)}-{_character(b)}" for a, b in ranges) + "]"


def _character(code: int) -> str:
    if code < 128:
        return chr(code) if 1 << code & WORD else f"\\x{code:02x}"
    return f"\\x{code:02x}" if code < 256 else chr(code)
