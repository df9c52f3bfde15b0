"""OpenSIPS module mathops: arithmetic with fractions.

Results are text. An expression that cannot be computed leaves the variable as it is and gives -1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, Module, Var

module = Module("mathops", doc="Arithmetic with fractions (OpenSIPS module mathops)")
decimal_digits = module.param("decimal_digits", int, 6, doc="digits behind the point of results")

_FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    "abs": (1, abs),
    "acos": (1, math.acos),
    "asin": (1, math.asin),
    "atan": (1, math.atan),
    "atan2": (2, math.atan2),
    "ceil": (1, math.ceil),
    "cos": (1, math.cos),
    "cosh": (1, math.cosh),
    "exp": (1, math.exp),
    "floor": (1, math.floor),
    "ln": (1, math.log),
    "log": (1, math.log10),
    "log10": (1, math.log10),
    "pow": (2, math.pow),
    "sin": (1, math.sin),
    "sinh": (1, math.sinh),
    "sqrt": (1, math.sqrt),
    "tan": (1, math.tan),
    "tanh": (1, math.tanh),
    "e": (0, lambda: math.e),
    "pi": (0, lambda: math.pi),
}
"""Functions by name, with their number of arguments."""

_token = re.compile(r"\s*(?:([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)|([a-z][a-z0-9]*)|([-+*/^%(),]))")


DEEPEST = 100
"""Parentheses and functions within each other."""


class ExpressionError(ValueError):
    """Not an expression."""


class _Expression:
    """Recursive descent: sums of products of powers. ``^`` binds tighter than a sign does, from left to right."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str | float] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            m = _token.match(text, at)
            if m is None:
                raise ExpressionError(f"unexpected {text[at : at + 20]!r}")
            number, name, sign = m.groups()
            self.tokens.append(float(number) if number else name or sign)
            at = m.end()
        self.at = self.depth = 0

    def value(self) -> float:
        result = self._sum()
        if self.at != len(self.tokens):
            raise ExpressionError(f"unexpected {self.tokens[self.at]!r}")
        return result

    def _peek(self) -> str | float | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _take(self, *wanted: str) -> str | None:
        token = self._peek()
        if isinstance(token, str) and token in wanted:
            self.at += 1
            return token
        return None

    def _sum(self) -> float:
        left = self._product()
        while operator := self._take("+", "-"):
            right = self._product()
            left = left + right if operator == "+" else left - right
        return left

    def _product(self) -> float:
        left = self._power()
        while operator := self._take("*", "/", "%"):
            right = self._power()
            left = left * right if operator == "*" else left / right if operator == "/" else math.fmod(left, right)
        return left

    def _power(self) -> float:
        sign = 1.0
        while operator := self._take("+", "-"):
            sign = -sign if operator == "-" else sign
        left = self._atom()
        while self._take("^"):
            negative = 1.0
            while operator := self._take("+", "-"):
                negative = -negative if operator == "-" else negative
            left = math.pow(left, negative * self._atom())
        return sign * left

    def _atom(self) -> float:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionError(f"more than {DEEPEST} parentheses and functions within each other")
        found = self._innermost()
        self.depth -= 1
        return found

    def _innermost(self) -> float:
        token = self._peek()
        self.at += 1
        if isinstance(token, float):
            return token
        if token == "(":
            inner = self._sum()
            if not self._take(")"):
                raise ExpressionError(") is missing")
            return inner
        if token in _FUNCTIONS:
            return self._call(str(token))
        raise ExpressionError(f"unexpected {token!r}" if token is not None else "the expression ends too early")

    def _call(self, name: str) -> float:
        count, function = _FUNCTIONS[name]
        arguments = []
        if self._take("("):
            if not self._take(")"):
                arguments.append(self._sum())
                while self._take(","):
                    arguments.append(self._sum())
                if not self._take(")"):
                    raise ExpressionError(") is missing")
        elif count == 1:
            arguments.append(self._power())
        if len(arguments) != count:
            raise ExpressionError(f"{name} takes {count} arguments")
        return float(function(*arguments))


def _finish(variable: Var, ctx: Context, compute: Callable[[], str]) -> int:
    try:
        text = compute()
    except (ValueError, ArithmeticError):
        return -1
    variable.set(ctx, text)
    return 1


def _text(number: float) -> str:
    if not math.isfinite(number):
        raise ExpressionError("no finite result")
    return f"{number:.{max(0, decimal_digits.value)}f}"


@module.function(routes=ALL)
def math_eval(ctx: Context, expression: str, result: Var) -> int:
    """Compute an expression: ``+ - * / % ^``, parentheses, functions."""
    return _finish(result, ctx, lambda: _text(_Expression(expression).value()))


@module.function(routes=ALL)
def math_rpn(ctx: Context, expression: str, result: Var) -> int:
    """Compute an expression in reverse Polish notation; besides operators: functions, ``dup``, ``swap``, ``drop``, ``neg``."""
    return _finish(result, ctx, lambda: _text(_rpn(expression)))


def _rpn(expression: str) -> float:
    stack: list[float] = []

    def pop() -> float:
        if not stack:
            raise ExpressionError("the stack is empty")
        return stack.pop()

    for word in expression.split():
        if word in ("+", "-", "*", "/", "%", "^"):
            right, left = pop(), pop()
            stack.append(_binary(word, left, right))
        elif word == "dup":
            top = pop()
            stack += [top, top]
        elif word == "swap":
            right, left = pop(), pop()
            stack += [right, left]
        elif word == "drop":
            pop()
        elif word == "neg":
            stack.append(-pop())
        elif word in _FUNCTIONS:
            count, function = _FUNCTIONS[word]
            arguments = [pop() for _ in range(count)][::-1]
            stack.append(float(function(*arguments)))
        else:
            stack.append(float(word))
    if len(stack) != 1:
        raise ExpressionError("the expression leaves more or less than one value")
    return stack[0]


def _binary(operator: str, left: float, right: float) -> float:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "/":
        return left / right
    if operator == "%":
        return math.fmod(left, right)
    return math.pow(left, right)


@module.function(routes=ALL)
def math_compare(ctx: Context, first: str, second: str, result: Var) -> int:
    """-1, 0 or 1: whether the first number is smaller, equal or greater."""
    try:
        a, b = float(first), float(second)
    except ValueError:
        return -1
    result.set(ctx, (a > b) - (a < b))
    return 1


@module.function(routes=ALL)
def math_trunc(ctx: Context, number: str, result: Var) -> int:
    """The number without its fraction."""
    return _finish(result, ctx, lambda: str(math.trunc(float(number))))


@module.function(routes=ALL)
def math_floor(ctx: Context, number: str, result: Var) -> int:
    """The next integer below."""
    return _finish(result, ctx, lambda: str(math.floor(float(number))))


@module.function(routes=ALL)
def math_ceil(ctx: Context, number: str, result: Var) -> int:
    """The next integer above."""
    return _finish(result, ctx, lambda: str(math.ceil(float(number))))


def _rounded(number: float, decimals: int) -> float:
    """Away from zero at a half, as C's round() does."""
    scale = 10.0**decimals
    return math.copysign(math.floor(abs(number) * scale + 0.5), number) / scale


@module.function(routes=ALL)
def math_round(ctx: Context, number: str, result: Var, decimals: int | None = None) -> int:
    """The number rounded to decimals, 0 if not given."""
    places = max(0, decimals or 0)
    return _finish(result, ctx, lambda: f"{_rounded(float(number), places):.{places}f}")


@module.function(routes=ALL)
def math_round_sf(ctx: Context, number: str, result: Var, figures: int) -> int:
    """The number rounded to significant figures."""

    def compute() -> str:
        value = float(number)
        if value == 0:
            return _text(0.0)
        return _text(_rounded(value, figures - 1 - math.floor(math.log10(abs(value)))))

    return _finish(result, ctx, compute)
