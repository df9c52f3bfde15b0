"""What every rule of the parser needs: the current token, the next one, and errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, TypedDict

from opensips_py.script import ast
from opensips_py.script.diagnostics import Findings, Place
from opensips_py.script.lexer import ADDRESS, ID, NUMBER, OPERATOR, STRING, VARIABLE, Token
from opensips_py.script.suggest import did_you_mean


class SyntaxFault(Exception):
    """The statement cannot be understood; the error has been recorded."""


class Span(TypedDict):
    """The place of a node."""

    file: str
    line: int
    column: int
    end: int


class TokenStream:
    """A list of tokens and a position in it. The last token (END) never goes away."""

    def __init__(self, tokens: list[Token], findings: Findings) -> None:
        self._tokens = tokens
        self.findings = findings
        self.index = 0
        self.token = tokens[0]
        self.previous = tokens[0]

    def next(self) -> Token:
        """Take the current token."""
        token = self.token
        self.previous = token
        if self.index < len(self._tokens) - 1:
            self.index += 1
            self.token = self._tokens[self.index]
        return token

    def peek(self) -> Token:
        """The token after the current one."""
        return self._tokens[min(self.index + 1, len(self._tokens) - 1)]

    def accept(self, operator: str) -> bool:
        """Take the current token if it is this operator."""
        token = self.token
        if token.value == operator and token.kind != STRING:
            self.next()
            return True
        return False

    def accept_word(self, word: str) -> bool:
        """Take the current token if it is this word."""
        if self.token.kind == ID and self.token.value == word:
            self.next()
            return True
        return False

    def depth_since(self, start: int) -> int:
        """How many blocks were opened and not closed since the token number ``start``."""
        values = [t.value for t in self._tokens[start : self.index] if t.kind == OPERATOR]
        return values.count("{") - values.count("}")

    def expect(self, operator: str, message: str | None = None, hint: str | None = None) -> None:
        """Take this operator, or fail."""
        if not self.accept(operator):
            self.fail(self.token, message or f"syntax error: '{operator}' expected, not {self.token.shown}", hint)

    def expect_close(self) -> None:
        """Take the ``)`` that ends a condition."""
        hint = None
        if self.token.value in ("&", "|"):
            hint = f"and, or are written '{self.token.value}{self.token.value}' in a condition"
        elif self.token.value in ("+", "-", "*", "/", "%"):
            hint = "a comparison has a variable on the left; assign the expression to a variable first"
        self.expect(")", f"syntax error: ')' expected, not {self.token.shown}", hint)

    def expect_kind(self, kind: str, message: str, hint: str | None = None) -> Token:
        """Take a token of this kind, or fail."""
        if self.token.kind != kind:
            self.fail(self.token, message, hint)
        return self.next()

    def error(self, at: Place, message: str, hint: str | None = None) -> None:
        """Record an error and go on."""
        if self.findings.unclosed and any(at.file == f and 0 <= at.line - n <= 1 for f, n in self.findings.unclosed):
            return  # follows from a string or variable that is never closed, which has been said
        before = self.previous
        if hint is None and before.kind == STRING and before.lines > 1:
            hint = f"the string before runs over {before.lines} lines, from line {before.line}: is a '\"' missing?"
        self.findings.error(at, message, hint)

    def fail(self, at: Place, message: str, hint: str | None = None) -> NoReturn:
        """Record an error and give the statement up."""
        self.error(at, message, hint)
        raise SyntaxFault

    def near(self, word: str, known: Iterable[str]) -> str | None:
        """``did you mean …``."""
        return did_you_mean(word, known)

    def span(self, start: Token, stop: Token | None = None) -> Span:
        """The place from ``start`` to ``stop`` (default: the last token taken)."""
        stop = stop or self.previous
        same = stop.line == start.line and stop.file == start.file and stop.start >= start.start
        return Span(file=start.file, line=start.line, column=start.column, end=stop.end if same else start.end)

    def variable(self, hint: str) -> ast.Variable:
        """A variable."""
        token = self.token
        if token.kind != VARIABLE:
            self.fail(token, f"syntax error: a variable is expected, not {token.shown}", hint or None)
        self.next()
        return ast.Variable(str(token.value), **self.span(token))

    def number(self) -> ast.Number:
        """A number with or without sign."""
        start = self.token
        sign = 1
        if start.value in ("-", "+") and start.kind != STRING:
            self.next()
            sign = -1 if start.value == "-" else 1
        token = self.expect_kind(
            NUMBER, f"syntax error: a number is expected, not {self.token.shown}", _minus_hint(start, self.token)
        )
        return ast.Number(sign * int(token.value), **self.span(start))

    def value(self) -> ast.Number | ast.String | ast.Word | ast.Network:
        """A number, string or word."""
        token = self.token
        if token.kind == NUMBER or (token.value in ("-", "+") and token.kind == OPERATOR):
            return self.number()
        if token.kind == STRING:
            self.next()
            return ast.String(str(token.value), **self.span(token))
        if token.kind == ID:
            self.next()
            return ast.Word(str(token.value), **self.span(token))
        if token.kind == ADDRESS:
            self.next()
            return ast.Network(str(token.value), **self.span(token))
        self.fail(token, f"syntax error: a value is expected, not {token.shown}")


def _minus_hint(sign: Token, token: Token) -> str | None:
    if sign.value == "-" and token.kind == VARIABLE:
        return f"a variable takes no sign: write 0 - {token.value}"
    return None
