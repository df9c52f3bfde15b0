"""The rules for conditions, arithmetic, and both as the value of an assignment.

``&&`` and ``||`` have one precedence and group from the left; so have ``+ - * / %``, and so have ``| & ^ << >>``,
which bind weaker than those (``cfg.y``). A comparison has a variable on its left.
"""

from __future__ import annotations

from opensips_py.script import ast
from opensips_py.script.lexer import ADDRESS, ID, NUMBER, STRING, VARIABLE, Token
from opensips_py.script.token_stream import Span, TokenStream

_JOINING = {"&&": "and", "and": "and", "||": "or", "or": "or"}
_COMPARING = {"==", "!=", "<", ">", "<=", ">=", "=~", "!~"}
ASSIGNING = {"=", ":=", "+=", "-=", "/=", "*=", "%=", "&=", "|=", "^="}
"""Assignment operators."""
_VALUELESS = ("async", "exit", "drop", "return", "break")
"""Commands after which the script does not go on."""
_WEAK = {"|", "&", "^", "<<", ">>"}
_STRONG = {"+", "-", "*", "/", "%"}


class ExpressionParser(TokenStream):
    """Conditions and arithmetic."""

    def condition(self) -> ast.Condition:
        """Terms joined by and/or."""
        start = self.token
        left = self._term()
        while self.token.kind != STRING and self.token.value in _JOINING:
            op = _JOINING[str(self.next().value)]
            right = self._term()
            left = ast.Logical(op, left, right, **self.span(start))
        return left

    def _term(self) -> ast.Condition:
        token = self.token
        if token.kind != STRING:
            if token.value == "!" or (token.kind == ID and token.value == "not"):
                self.next()
                return ast.Not(self._term(), **self.span(token))
            if token.value == "(":
                self.next()
                inner = self.condition()
                self.expect_close()
                return inner
            if token.value == "[":
                return self._comparison(token, self._bracketed())
        if token.kind == VARIABLE:
            following = self.peek()
            if following.value in ASSIGNING and following.kind != STRING:
                return ast.Ran(self.assignment(), **self.span(token))
            return self._comparison(token, self.variable(""))
        if token.kind == NUMBER or token.value in ("-", "+"):
            number = self.number()
            if self._compares():
                self._swapped()
            return ast.Truth(number, **self.span(token))
        if token.kind == ID:
            return ast.Ran(self._uncompared(), **self.span(token))
        if token.kind in (STRING, ADDRESS) and self.peek().value in _COMPARING:
            self.next()
            self._swapped()
        self.fail(token, f"syntax error: {token.shown} is not a condition")

    def _compares(self) -> bool:
        return self.token.value in _COMPARING and self.token.kind != STRING

    def _uncompared(self) -> ast.Statement:
        """A command, after which no comparison may stand."""
        command = self.command()
        if self._compares():
            self.fail(
                self.token,
                "syntax error: a command cannot be compared, it is true when its return code is positive",
                "assign it first: $var(x) = f();",
            )
        return command

    def _bracketed(self) -> ast.Expression:
        """``[ expression ]``."""
        self.next()
        value = self.assigned()
        self.expect("]", f"syntax error: ']' expected, not {self.token.shown}")
        return value

    def _swapped(self) -> None:
        self.fail(self.token, "syntax error: the left side of a comparison is a variable", "swap the two sides")

    def _comparison(self, start: Token, left: ast.Expression) -> ast.Condition:
        if not self._compares():
            bracketed = isinstance(left, ast.Variable) and start.value == "["
            return ast.Truth(left, bracketed, **self.span(start))
        op = self.next()
        right = self._operand(str(op.value))
        return ast.Comparison(str(op.value), left, right, **self.span(start))

    def _operand(self, op: str) -> ast.Expression:
        """The right side of a comparison."""
        token = self.token
        if token.kind == VARIABLE:
            return self.variable("")
        if token.kind == STRING:
            self.next()
            return ast.String(str(token.value), **self.span(token))
        if op in ("=~", "!~"):
            self.fail(token, f"syntax error: {op} needs a regular expression in quotes, or a variable, not {token.shown}")
        if token.kind == NUMBER or token.value in ("-", "+"):
            return self.number()
        if token.value == "[":
            return self._bracketed()
        if op in ("==", "!="):
            if token.kind == ID and token.value in ("NULL", "null"):
                self.next()
                return ast.Null(**self.span(token))
            if token.kind == ADDRESS:
                return self._network()
        hint = None
        if token.kind == ID:
            hint = "use is_myself()" if token.value == "myself" else f'write "{token.value}" in quotes'
        self.fail(token, f"syntax error: {token.shown} cannot stand on the right of {op}", hint)

    def _network(self) -> ast.Network:
        start = self.next()
        text = str(start.value)
        if self.accept("/"):
            if self.token.kind not in (NUMBER, ADDRESS):
                self.fail(self.token, f"syntax error: a prefix length or netmask is expected, not {self.token.shown}")
            text += f"/{self.next().value}"
        return ast.Network(text, **self.span(start))

    # --- arithmetic --------------------------------------------------------------------------------------------------

    def assigned(self) -> ast.Expression:
        """The right side of an assignment: a value, or a condition as 1 or 0."""
        start = self.token
        left = self._arithmetic()
        while self.token.kind != STRING and self.token.value in _JOINING:
            op = _JOINING[str(self.next().value)]
            right = self._arithmetic()
            joined = ast.Logical(op, _as_condition(left), _as_condition(right), **self.span(start))
            left = ast.TruthOf(joined, **self.span(start))
        return left

    def _arithmetic(self) -> ast.Expression:
        start = self.token
        left = self._strong()
        while self.token.value in _WEAK and self.token.kind != STRING:
            op = str(self.next().value)
            left = ast.Arithmetic(op, left, self._strong(), **self.span(start))
        return left

    def _strong(self) -> ast.Expression:
        start = self.token
        left = self._atom()
        while self.token.value in _STRONG and self.token.kind != STRING:
            op = str(self.next().value)
            left = ast.Arithmetic(op, left, self._atom(), **self.span(start))
        return left

    def _atom(self) -> ast.Expression:
        token = self.token
        if token.kind == STRING:
            self.next()
            return ast.String(str(token.value), **self.span(token))
        if token.kind == VARIABLE:
            return self._compared(token, self.variable(""))
        if token.kind == NUMBER or token.value in ("-", "+"):
            number = self.number()
            if self._compares():
                self._swapped()
            return number
        if token.value == "(":
            self.next()
            inner = self.assigned()
            self.expect(")", f"syntax error: ')' expected, not {self.token.shown}")
            return inner
        if token.value == "[":
            return self._compared(token, self._bracketed())
        if token.value == "!" or (token.kind == ID and token.value == "not"):
            self.next()
            negated = ast.Not(_as_condition(self._atom()), **self.span(token))
            return ast.TruthOf(negated, **self.span(token))
        if token.value == "~":
            self.next()
            return ast.Complement(self._atom(), **self.span(token))
        if token.kind == ID and self.peek().value == "(" and self.peek().kind != STRING:
            if token.value in _VALUELESS:
                self.fail(token, f"syntax error: {token.value} has no value", "it is a statement of its own")
            return ast.CodeOf(self._uncompared(), **self.span(token))
        hint = f'write "{token.value}" in quotes' if token.kind in (ID, ADDRESS) else None
        self.fail(token, f"syntax error: a value is expected, not {token.shown}", hint)

    def _compared(self, start: Token, left: ast.Expression) -> ast.Expression:
        """A value, or what a comparison that begins with it says."""
        if not self._compares():
            return left
        return ast.TruthOf(self._comparison(start, left), **self.span(start))

    def assignment(self) -> ast.Assign:
        """``$pv op expression``."""
        raise NotImplementedError  # abstract

    def command(self) -> ast.Statement:
        """A command."""
        raise NotImplementedError  # abstract

    def call(self) -> ast.Call:
        """A function call."""
        raise NotImplementedError  # abstract


def _as_condition(value: ast.Expression) -> ast.Condition:
    """A value of an assignment as part of a condition."""
    place = Span(file=value.file, line=value.line, column=value.column, end=value.end)
    match value:
        case ast.TruthOf():
            return value.condition
        case ast.CodeOf():
            return ast.Ran(value.command, **place)
        case _:
            return ast.Truth(value, **place)
