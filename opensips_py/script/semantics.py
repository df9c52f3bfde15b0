"""The operators of the language on values whose types are known only at run time.

A value is a ``str``, an ``int`` (32 bits, signed; ``variables.Number`` is one with a text of its own) or None for NULL.
The rules are those recorded from OpenSIPS 3.1: strings compare ignoring case; a number literal is never equal to a
string, and not different from it either; a number is compared with a string literal by its text; NULL is different from
everything, equal to NULL, and nothing else.
"""

from __future__ import annotations

import ipaddress
import math
import operator
from collections.abc import Callable
from typing import Any

from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.posix_regex import Regex, RegexError, compile_dynamic
from opensips_py.script.variable_kinds import NumericText

_LONGEST_ADDRESS = 64
"""In characters; what is longer is not an IP address."""
MAX_DEPTH = 100
"""Nesting of ``route()`` calls."""


class EvaluationError(ValueRefused):
    """An expression has no value, or a condition no truth: the types of its operands do not fit."""


def judged(fault: Callable[[str, Any], str | None], registry: Any, text: str | None) -> str | None:
    """``text`` if a function can take it, else NULL: ``fault(text, registry)`` tells what is wrong with it."""
    return None if text is None or fault(text, registry) is not None else text


# --- arithmetic ----------------------------------------------------------------------------------------------------


def wrap(n: int) -> int:
    """``n`` as a signed 32-bit number."""
    return ((n + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def add(left: Value, right: Value) -> str | int:
    """``+``: a sum, or a concatenation when the left operand is a string. NULL is nothing: the empty string on the left,
    and on the right of a number 0."""
    if left.__class__ is int and right.__class__ is int:
        n = left + right
        return n if -0x80000000 <= n <= 0x7FFFFFFF else wrap(n)
    if isinstance(left, str):
        if right is None:
            return left
        return left + str(right)
    if left.__class__ is NumericText:
        return str(left) if right is None else str(left) + str(right)
    if left is None:
        return "" if right is None else str(right)
    if right is None:
        return int(left)
    if isinstance(right, int):
        return wrap(int(left) + int(right))
    raise EvaluationError(_complain("+", left, right))


def add_number(left: Value, right: int) -> int:
    """``+`` with a number literal on the right: it has no text to append to a string."""
    if isinstance(left, int) and left.__class__ is not NumericText:
        return wrap(int(left) + right)
    raise EvaluationError(_complain("+", left, right))


def _complain(op: str, left: Value, right: Value) -> str:
    if left is None or right is None:
        return f"operand of {op} is NULL"
    return f"invalid numeric operands of {op}: {left!r} and {right!r}"


def _numbers(op: str, left: Value, right: Value) -> tuple[int, int]:
    """Two numbers; NULL on the right counts as 0."""
    if isinstance(left, int):
        if isinstance(right, int):
            return int(left), int(right)
        if right is None:
            return int(left), 0
    raise EvaluationError(_complain(op, left, right))


def subtract(left: Value, right: Value) -> int:
    a, b = _numbers("-", left, right)
    return wrap(a - b)


def multiply(left: Value, right: Value) -> int:
    a, b = _numbers("*", left, right)
    return wrap(a * b)


def divide(left: Value, right: Value) -> int:
    """Towards zero, as C does; by zero gives 0."""
    a, b = _numbers("/", left, right)
    if b == 0:
        return 0
    q = abs(a) // abs(b)
    return wrap(q if (a < 0) == (b < 0) else -q)


def modulo(left: Value, right: Value) -> int:
    """With the sign of the left operand, as in C; by zero gives 0."""
    a, b = _numbers("%", left, right)
    if b == 0:
        return 0
    r = abs(a) % abs(b)
    return -r if a < 0 else r


def bit_and(left: Value, right: Value) -> str | int:
    return _bitwise("&", operator.and_, left, right)


def bit_or(left: Value, right: Value) -> str | int:
    return _bitwise("|", operator.or_, left, right)


def bit_xor(left: Value, right: Value) -> str | int:
    return _bitwise("^", operator.xor, left, right)


def _bitwise(op: str, combine: Callable[[int, int], int], left: Value, right: Value) -> str | int:
    """Of numbers; of strings of equal length byte by byte, where a number on the right stands for its text."""
    if isinstance(left, str) and right is not None:
        text = str(right)
        if len(text) == len(left):
            return "".join(map(chr, map(combine, map(ord, left), map(ord, text))))
    a, b = _numbers(op, left, right)
    return combine(a, b)


def and_number(left: Value, right: int) -> int:
    a, b = _numbers("&", left, right)
    return a & b


def or_number(left: Value, right: int) -> int:
    a, b = _numbers("|", left, right)
    return a | b


def xor_number(left: Value, right: int) -> int:
    a, b = _numbers("^", left, right)
    return a ^ b


def shift_left(left: Value, right: Value) -> int:
    """By the low five bits of the right operand, as C does with 32-bit numbers."""
    a, b = _numbers("<<", left, right)
    return wrap(a << (b & 31))


def shift_right(left: Value, right: Value) -> int:
    """By the low five bits of the right operand, as C does with 32-bit numbers."""
    a, b = _numbers(">>", left, right)
    return a >> (b & 31)


def complement(value: Value) -> int:
    if not isinstance(value, int):
        raise EvaluationError("operand of ~ is not a number")
    return wrap(~int(value))


OPERATORS: dict[str, Callable[[Value, Value], str | int]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": modulo,
    "&": bit_and,
    "|": bit_or,
    "^": bit_xor,
    "<<": shift_left,
    ">>": shift_right,
}
WITH_NUMBER: dict[str, Callable[[Value, int], int]] = {"+": add_number, "&": and_number, "|": or_number, "^": xor_number}
"""Operators that differ when a number literal stands on the right: it has no text to join or combine with a string."""


def joined(left: Value, right: Value) -> str | int:
    """``+=``: both numbers or both strings."""
    if left.__class__ is NumericText and right is not None:
        return str(left) + right if isinstance(right, str) else wrap(int(left) + int(right))
    if left is None or right is None or isinstance(left, str) != isinstance(right, str):
        raise EvaluationError(_complain("+=", left, right))
    return add(left, right)


def plain(value: Value) -> str | int:
    """A value to be assigned; NULL is none."""
    if value is None:
        raise EvaluationError("no value in right expression")
    return value


# --- comparison ----------------------------------------------------------------------------------------------------


def fold(text: str) -> str:
    """Lower case of ASCII letters only: script strings are bytes."""
    return text.lower() if text.isascii() else text.encode("latin-1", "replace").lower().decode("latin-1")


def equals_text(left: Value, folded: str) -> bool:
    """``$x == "text"``; ``folded`` is the literal in lower case."""
    if left is None:
        return False
    text = left if left.__class__ is str else str(left)
    return len(text) == len(folded) and fold(text) == folded


def differs_number(left: Value, number: int) -> bool:
    """``$x != 5``: false for a string, which is not comparable."""
    return left is None or (isinstance(left, int) and left != number)


def before_text(left: Value, folded: str) -> bool:
    return left is not None and fold(str(left)) < folded


def after_text(left: Value, folded: str) -> bool:
    return left is not None and fold(str(left)) > folded


def upto_text(left: Value, folded: str) -> bool:
    return left is not None and fold(str(left)) <= folded


def from_text(left: Value, folded: str) -> bool:
    return left is not None and fold(str(left)) >= folded


def equal(left: Value, right: Value) -> bool:
    """``$x == $y``."""
    if left is None or right is None:
        return left is right
    if left.__class__ is int and right.__class__ is int:
        return left == right
    return fold(str(left)) == fold(str(right))


def differ(left: Value, right: Value) -> bool:
    """``$x != $y``."""
    return not equal(left, right)


def _ordered(left: Value, right: Value) -> int | None:
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        return (left > right) - (left < right)
    a, b = fold(str(left)), fold(str(right))
    return (a > b) - (a < b)


def before(left: Value, right: Value) -> bool:
    order = _ordered(left, right)
    return order is not None and order < 0


def after(left: Value, right: Value) -> bool:
    order = _ordered(left, right)
    return order is not None and order > 0


def upto(left: Value, right: Value) -> bool:
    order = _ordered(left, right)
    return order is not None and order <= 0


def from_(left: Value, right: Value) -> bool:
    order = _ordered(left, right)
    return order is not None and order >= 0


def matches(left: Value, search: Any) -> bool:
    """``$x =~ "regex"``; ``search`` is the pattern's method."""
    return left is not None and search(left if left.__class__ is str else str(left)) is not None


def matches_value(left: Value, right: Value) -> bool:
    """``$x =~ $y``. An expression that does not compile matches nothing."""
    if left is None or right is None:
        return False
    try:
        return compile_dynamic(str(right)).test(str(left))
    except RegexError:
        return False


def no_text(value: Value) -> bool:
    """False, for a value that is not a number: NULL; a string is an error there, because it cannot be compared."""
    if isinstance(value, str):
        raise EvaluationError("a string is compared with a number")
    return False


class Net:
    """``$si == 10.0.0.0/8``."""

    def __init__(self, text: str) -> None:
        self._net = ipaddress.ip_network(text, strict=False)
        self._known: dict[str, bool | None] = {}

    def has(self, value: Value) -> bool:
        """Is the value an address in this network?"""
        return value is not None and self._find(str(value)) is True

    def lacks(self, value: Value) -> bool:
        """Is the value an address outside this network, or NULL?"""
        return value is None or self._find(str(value)) is False

    def decide(self, value: Value) -> bool:
        """As :meth:`has`, but what is not an address is an error."""
        found = False if value is None else self._find(str(value))
        if found is None:
            raise EvaluationError("what is not an address is compared with a network")
        return found

    def _find(self, text: str) -> bool | None:
        """Whether an address is in this network; None: it is not an address. The last thousand answers are remembered."""
        if text in self._known:
            return self._known[text]
        found: bool | None = None
        if len(text) <= _LONGEST_ADDRESS:
            try:
                found = ipaddress.ip_address(text.strip("[]")) in self._net
            except ValueError:
                pass
            if len(self._known) >= 1000:
                self._known.clear()
            self._known[text] = found
        return found


# --- statements ----------------------------------------------------------------------------------------------------


def text_of(value: Value) -> str | None:
    """A value for a ``str`` parameter."""
    return value if value is None or value.__class__ is str else str(value)


def number_of(value: Value) -> int | None:
    """A value for an ``int`` parameter: a string is none."""
    return int(value) if isinstance(value, int) else None


def seconds_of(value: Value) -> float | None:
    """A time limit: a number, or a text like ``0.25``; NULL: None; anything else, or negative: -1."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return -1.0
    return seconds if 0.0 <= seconds < math.inf else -1.0


def pattern_of(value: Value) -> Regex | None:
    """A value for a regular expression parameter."""
    if value is None:
        return None
    try:
        return compile_dynamic(str(value), True)
    except RegexError:
        return None


def return_code(value: Value) -> int:
    """``return($x)``: NULL is -1, a string is 1."""
    if value is None:
        return -1
    return int(value) if isinstance(value, int) else 1


def is_case(value: Value, label: str) -> bool:
    """``case "label"``: ignoring case; a number matches by its text."""
    return value is not None and fold(str(value)) == label


def call_deeper(ctx: Context, route: Any) -> int:
    """Call a route that may be running already; beyond 100 levels the call fails."""
    if ctx.depth >= MAX_DEPTH - 1:
        return -1
    ctx.depth += 1
    try:
        code: int = route(ctx)
        return code
    finally:
        ctx.depth -= 1


class ByName:
    """An argument of ``route()`` that is a variable: read at each use, with the caller's own arguments in place."""

    __slots__ = ("_ctx", "_get", "_params")

    def __init__(self, get: Any, ctx: Context) -> None:
        self._get = get
        self._ctx = ctx
        self._params = ctx.params

    def __call__(self) -> Value:
        ctx = self._ctx
        inner, ctx.params = ctx.params, self._params
        try:
            value: Value = self._get(ctx)
            return value
        finally:
            ctx.params = inner


def log_level_of(value: Value) -> int:
    """The level of ``xlog($x, …)``: a number."""
    if isinstance(value, int):
        return int(value)
    raise EvaluationError("the level of xlog() is not a number")


LEVELS = {
    "L_ALERT": -3,
    "L_CRIT": -2,
    "L_CRITICAL": -2,
    "L_ERR": -1,
    "L_ERROR": -1,
    "L_WARN": 1,
    "L_NOTICE": 2,
    "L_INFO": 3,
    "L_DBG": 4,
}
"""Log levels by name."""
