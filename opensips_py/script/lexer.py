"""Script text to tokens (OpenSIPS ``cfg.lex``).

Comments run from ``#`` to the end of the line or between ``/*`` and ``*/``, nested; there is no ``//``. A double-quoted
string has escapes, a single-quoted one has none. A variable is one token: ``$`` with a name and the parentheses that
follow it, or ``$(…)`` up to its matching parenthesis. ``yes`` and ``no``, ``true`` and ``false``, ``on`` and ``off``,
``enable`` and ``disable`` are the numbers 1 and 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opensips_py.script.diagnostics import Findings
from opensips_py.script.preprocess import Source

ID, NUMBER, STRING, VARIABLE, ADDRESS, OPERATOR, END = (
    "word",
    "number",
    "string",
    "variable",
    "address",
    "operator",
    "end of file",
)

_TOKEN = re.compile(
    r"""(?P<blank>(?:[ \t\r\f\v\xa0]|\xc2\xa0|\xef\xbb\xbf|\xe2\x80[\x8b-\x8d])+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<comment>/\*)
    |(?P<variable>\$)
    |(?P<ip4>[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9A-Za-z_]))
    |(?P<ip6>(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3})?(?![0-9A-Za-z_:]))
    |(?P<number>0x[0-9A-Fa-f]+|[0-9]+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<single>')
    |(?P<double>")
    |(?P<operator>:=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|==|!=|=~|!~|<=|>=|<<|>>|&&|\|\||[-+*/%&|^~!<>=(){}\[\],;:.])""",
    re.VERBOSE,
)
_DOUBLE = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([nrat\"\\])|x([0-9A-Fa-f]{2})|([0-7]{2,3})|(\r?\n))")
BOOLEANS = {"yes": 1, "true": 1, "on": 1, "enable": 1, "no": 0, "false": 0, "off": 0, "disable": 0}
"""Words that are numbers, wherever a number may stand."""
_SIMPLE = {"n": "\n", "r": "\r", "a": "\a", "t": "\t", '"': '"', "\\": "\\"}
_BEGINS_TEXT = re.compile(r"[ \t]*[\w$\"'\\%:.<@]")
_NAME = re.compile(r"[A-Za-z0-9_.]+")
_GLUED = re.compile(r"""["'{][^\s;,+\-*/%&|^<>=!~()\[\]]*""")
"""What stands right after a variable and belongs to its token, but means nothing."""
_UNKNOWN = re.compile(r"[\x80-\x9f\xa1-\xff]*")
"""The rest of a character that the language does not have."""


@dataclass(slots=True)
class Token:
    """A word of the script. ``value`` is an int for numbers, the unescaped text for strings."""

    kind: str
    value: str | int
    file: str
    line: int
    column: int
    end: int
    start: int
    """Offset in the flattened text."""
    stop: int
    first: bool
    """First token of its line."""
    lines: int = 1
    """How many lines it runs over."""
    word: str = ""
    """How it is written, when it is a number written as a word."""

    @property
    def shown(self) -> str:
        """For messages."""
        if self.kind == END:
            return "end of file"
        if self.kind == STRING:
            text = str(self.value)
            return f'"{text[:20]}…"' if len(text) > 20 else f'"{text}"'
        return f"'{self.written}'"

    @property
    def written(self) -> str:
        """As a name: ``on`` stays a word there."""
        return self.word or str(self.value)


def unescape(text: str) -> str:
    """The value of the inside of a double-quoted string."""
    if "\\" not in text:
        return text

    def one(m: re.Match[str]) -> str:
        if m[1]:
            return _SIMPLE[m[1]]
        if m[2]:
            return chr(int(m[2], 16))
        if m[3]:
            return chr(int(m[3], 8) & 255)
        return ""

    return _ESCAPE.sub(one, text)


def _closing(text: str, start: int) -> int:
    """Offset after the parenthesis that closes the one at ``start``; -1 when there is none."""
    depth = 0
    at = start
    find = re.compile(r"[()]").search
    while m := find(text, at):
        depth += 1 if m[0] == "(" else -1
        at = m.end()
        if not depth:
            return at
    return -1


def tokens(source: Source, findings: Findings) -> list[Token]:
    """All tokens, the last one of kind END. Lexical errors go to ``findings`` and cost one line each."""
    text, origin = source.text, source.lines
    out: list[Token] = []
    add = out.append
    match = _TOKEN.match
    at, line, line_start, size, first = 0, 0, 0, len(text), True
    last = len(origin) - 1

    def token(kind: str, value: str | int, stop: int) -> Token:
        file, number = origin[min(line, last)] if origin else ("", 1)
        lines = text.count("\n", at, stop) + 1
        end = stop - line_start + 1 if lines == 1 else at - line_start + 2
        return Token(kind, value, file, number, at - line_start + 1, end, at, stop, first, lines)

    while at < size:
        m = match(text, at)
        if m is None:
            stop = _UNKNOWN.match(text, at + 1).end()  # type: ignore[union-attr]
            shown = text[at:stop].encode("latin-1").decode("utf-8", "backslashreplace")
            findings.warning(token(OPERATOR, text[at:stop], stop), f"unexpected character {shown!r} is ignored", "leave it out")
            at = stop
            continue
        kind = m.lastgroup
        stop = m.end()
        if kind == "blank":
            at = stop
            continue
        if kind == "newline":
            line += 1
            line_start = at = stop
            first = True
            continue
        if kind == "word":
            truth = BOOLEANS.get(m[0])
            if truth is None:
                add(token(ID, m[0], stop))
            else:
                add(token(NUMBER, truth, stop))
                out[-1].word = m[0]
        elif kind == "operator":
            add(token(OPERATOR, m[0], stop))
        elif kind == "number":
            add(token(NUMBER, _number(m[0], token(NUMBER, m[0], stop), findings), stop))
        elif kind in ("ip4", "ip6"):
            add(token(ADDRESS, m[0], stop))
        elif kind == "comment":
            stop = _comment_end(text, at)
            if stop < 0:
                findings.error(
                    token(OPERATOR, "/*", at + 2), "comment is never closed", "comments nest: each /* needs its own */"
                )
                break
            line += text.count("\n", at, stop)
            if "\n" in text[at:stop]:
                line_start = text.rindex("\n", at, stop) + 1
            at = stop
            continue
        else:
            stop = _long(kind or "", text, at)
            if stop < 0:
                if kind == "double" and (odd := _odd_string(text, out)) is not None:  # its quote has closed that one
                    at = out[odd].start
                    del out[odd:]
                    line, line_start = text.count("\n", 0, at), text.rfind("\n", 0, at) + 1
                what = "variable" if kind == "variable" else "string"
                opening = token(OPERATOR, text[at], at + 1)
                findings.error(
                    opening, f"{what} is never closed", f"the closing {')' if what == 'variable' else text[at]} is missing"
                )
                findings.unclosed.append((opening.file, opening.line))
                nl = text.find("\n", at)
                at = size if nl < 0 else nl
                continue
            if stop == at + 1:
                findings.error(token(OPERATOR, "$", stop), "a variable name must follow '$'")
                at = stop
                continue
            raw = text[at:stop]
            if kind == "variable":
                add(token(VARIABLE, raw, stop))
                glued = _GLUED.match(text, stop)
                if glued is not None:
                    findings.warning(out[-1], f"{glued[0]} after {raw} is ignored", _glue_hint(raw, glued[0]))
                    stop = glued.end()
            else:
                add(token(STRING, unescape(raw[1:-1]) if kind == "double" else raw[1:-1], stop))
            if "\n" in raw:
                line += raw.count("\n")
                line_start = at + raw.rindex("\n") + 1
        first = False
        at = stop
    at = min(at, size)
    if origin and line > last:  # after the last newline: say the last line
        line = last
        line_start = text.rfind("\n", 0, size - 1) + 1
        at = max(size - 1, line_start)
    first = True
    add(token(END, "", at))
    return out


def _number(text: str, at: Token, findings: Findings) -> int:
    if text.startswith("0x"):
        return int(text, 16)
    if len(text) > 1 and text.startswith("0"):
        try:
            return int(text, 8)
        except ValueError:
            findings.error(at, f"{text} is not an octal number", "a number with a leading 0 is octal")
            return 0
    return int(text)


def _comment_end(text: str, at: int) -> int:
    depth = 0
    for m in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if m[0] == "/*" else -1
        if not depth:
            return m.end()
    return -1


def _odd_string(text: str, read: list[Token]) -> int | None:
    """Where a string has not been closed, when the last one of the text is not: the first that runs over lines and ends
    where another should begin."""
    for i, token in enumerate(read):
        if token.kind == STRING and token.lines > 1 and text[token.start] == '"' and _BEGINS_TEXT.match(text, token.stop):
            return i
    return None


def _glue_hint(variable: str, glued: str) -> str:
    if glued.startswith("{"):
        return f"a transformation needs the long form: $({variable[1:]}{glued})"
    return "leave the quote out"


def _long(kind: str, text: str, at: int) -> int:
    """Where a string or variable that begins at ``at`` ends; -1 when it never does."""
    if kind == "double":
        m = _DOUBLE.match(text, at + 1)
        return m.end() if m else -1
    if kind == "single":
        return text.find("'", at + 1) + 1 or -1
    if text.startswith("(", at + 1):
        return _closing(text, at + 1)
    m = _NAME.match(text, at + 1)
    if m is None:
        return at + 1
    return _closing(text, m.end()) if text.startswith("(", m.end()) else m.end()
