"""OpenSIPS module mathops: arithmetic with fractions.

The leading number of a text counts (``12x`` is 12, ``x`` is 0). An expression with an error leaves the variable as
it is and gives -1; a division by zero is ``inf``, what has no value is ``-nan``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, Module, Var

module = Module("mathops", doc="Arithmetic with fractions (OpenSIPS module mathops)")
decimal_digits = module.param("decimal_digits", int, 6, doc="digits after the point of results")

_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "ceil": math.ceil,
    "cos": math.cos,
    "cosh": math.cosh,
    "exp": math.exp,
    "floor": math.floor,
    "ln": math.log,
    "log": math.log10,
    "log10": math.log10,
    "sin": math.sin,
    "sinh": math.sinh,
    "sqrt": math.sqrt,
    "tan": math.tan,
    "tanh": math.tanh,
}
"""Functions of one number by name."""
_CONSTANTS = {"e": math.e, "pi": math.pi}
_MORE_IN_RPN: dict[str, Callable[[float], float]] = {"trunc": math.trunc, "neg": lambda x: -x}
NAN = float("nan")
MOST_DIGITS = 400
"""After the point: no number that fits into 64 bits has more that are not zero than some hundreds."""


def _safe(function: Callable[..., float], *arguments: float) -> float:
    """A function as C computes it: no error, but infinity or no number."""
    try:
        return float(function(*arguments))
    except OverflowError:
        return math.inf
    except ValueError:
        return NAN


def _divided(left: float, right: float) -> float:
    if right:
        return left / right
    return NAN if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)


_BINARY: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "%": lambda a, b: _safe(math.fmod, a, b),
    "^": lambda a, b: _safe(math.pow, a, b),
}

_token = re.compile(
    r"\s*(?:(0[xX][0-9a-fA-F]+|[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|([a-z][a-z0-9]*)|([-+*/^%(),]))"
)


DEEPEST = 100
"""Parentheses and functions within each other."""


class ExpressionError(ValueError):
    """Not an expression."""


class _Expression:
    """Recursive descent: sums of products of powers. ``^`` binds tighter than a sign does, from left to right."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str | float] = []
        at = 0
        if text != text.strip():
            raise ExpressionError("a blank at the beginning or the end")
        while at < len(text):
            m = _token.match(text, at)
            if m is None:
                raise ExpressionError(f"unexpected {text[at : at + 20]!r}")
            number, name, sign = m.groups()
            self.tokens.append(number_of(number) if number else name or sign)
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
            left = _BINARY[operator](left, right)
        return left

    def _product(self) -> float:
        left = self._power()
        while operator := self._take("*", "/", "%"):
            right = self._power()
            left = _BINARY[operator](left, right)
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
            left = _BINARY["^"](left, negative * self._atom())
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
        if self._take("("):
            argument = self._sum()
            if not self._take(")"):
                raise ExpressionError(") is missing")
        else:
            argument = self._power()
        return _safe(_FUNCTIONS[name], argument)


_NUMBER = re.compile(r"\s*([+-]?)(?:(0[xX][0-9a-fA-F]+)|((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))")


def number_of(text: str) -> float:
    """The number that a text begins with, as C's strtod() reads it; 0 when there is none."""
    m = _NUMBER.match(text)
    if m is None:
        return 0.0
    value = _safe(float, int(m[2], 16)) if m[2] else float(m[3])
    return -value if m[1] == "-" else value


def _whole(value: float) -> int:
    """A number without fraction as the 32 bits of a script's numbers; the lowest of all when it does not fit, as in C."""
    return int(value) if math.isfinite(value) and -0x80000000 <= value <= 0x7FFFFFFF else -0x80000000


def _text(number: float, digits: int | None = None) -> str:
    if math.isnan(number):
        return "-nan"
    return f"{number:.{min(max(0, decimal_digits.value if digits is None else digits), MOST_DIGITS)}f}"


def _finish(variable: Var, ctx: Context, compute: Callable[[], str]) -> int:
    try:
        text = compute()
    except ExpressionError:
        return -1
    variable.set(ctx, text)
    return 1


@module.function(routes=ALL)
def math_eval(ctx: Context, expression: str, result: Var) -> int:
    """Compute an expression: ``+ - * / % ^``, parentheses, functions of one number. No blank may begin or end it."""
    return _finish(result, ctx, lambda: _text(_Expression(expression).value()))


@module.function(routes=ALL)
def math_rpn(ctx: Context, expression: str, result: Var) -> int:
    """Compute an expression in reverse Polish notation; besides operators: functions, ``pow``, ``e``, ``pi``,
    ``dup``, ``swap``, ``drop``, ``neg``."""
    return _finish(result, ctx, lambda: _text(_rpn(expression)))


def _rpn(expression: str) -> float:
    stack: list[float] = []

    def pop() -> float:
        if not stack:
            raise ExpressionError("the stack is empty")
        return stack.pop()

    for word in expression.split():
        if word in _BINARY or word == "pow":
            right, left = pop(), pop()
            stack.append(_BINARY["^" if word == "pow" else word](left, right))
        elif word == "dup":
            top = pop()
            stack += [top, top]
        elif word == "swap":
            right, left = pop(), pop()
            stack += [right, left]
        elif word == "drop":
            pop()
        elif word in _CONSTANTS:
            stack.append(_CONSTANTS[word])
        elif word in _FUNCTIONS or word in _MORE_IN_RPN:
            stack.append(_safe(_FUNCTIONS.get(word) or _MORE_IN_RPN[word], pop()))
        elif _NUMBER.fullmatch(word):
            stack.append(number_of(word))
        else:
            raise ExpressionError(f"unexpected {word!r}")
    if len(stack) != 1:
        raise ExpressionError("the expression leaves more or less than one value")
    return stack[0]


@module.function(routes=ALL)
def math_compare(ctx: Context, first: str, second: str, result: Var) -> int:
    """-1, 0 or 1: whether the first number is smaller, equal or greater."""
    a, b = number_of(first), number_of(second)
    result.set(ctx, (a > b) - (a < b))
    return 1


@module.function(routes=ALL)
def math_trunc(ctx: Context, number: str, result: Var) -> int:
    """The number without its fraction."""
    result.set(ctx, _whole(number_of(number)))
    return 1


@module.function(routes=ALL)
def math_floor(ctx: Context, number: str, result: Var) -> int:
    """The next integer below."""
    result.set(ctx, _whole(_safe(math.floor, number_of(number))))
    return 1


@module.function(routes=ALL)
def math_ceil(ctx: Context, number: str, result: Var) -> int:
    """The next integer above."""
    result.set(ctx, _whole(_safe(math.ceil, number_of(number))))
    return 1


def _rounded(number: float, decimals: int) -> float:
    """Away from zero at a half, as C's round() does."""
    scale = _safe(math.pow, 10.0, decimals)
    above = abs(number) * scale + 0.5
    scaled = math.floor(above) if math.isfinite(above) else NAN
    return _divided(math.copysign(scaled, number), scale)


@module.function(routes=ALL)
def math_round(ctx: Context, number: str, result: Var, decimals: int | None = None) -> int:
    """The number rounded to decimals; to an integer if they are not given. Negative ones mean six digits."""
    value = number_of(number)
    if not decimals:
        result.set(ctx, _whole(_rounded(value, 0)))
    elif decimals < 0:
        result.set(ctx, _text(value, 6))
    else:
        result.set(ctx, _text(_rounded(value, decimals) if decimals < 16 else value, decimals))
    return 1


@module.function(routes=ALL)
def math_round_sf(ctx: Context, number: str, result: Var, figures: int | None = None) -> int:
    """The number rounded to significant figures; to an integer if they are not given. 0 has none: ``-nan``."""
    value = number_of(number)
    if figures is None:
        result.set(ctx, _whole(_rounded(value, 0)))
    elif value == 0 or not math.isfinite(value):
        result.set(ctx, _text(NAN))
    else:
        result.set(ctx, _text(_rounded(value, figures - 1 - math.floor(math.log10(abs(value))))))
    return 1
