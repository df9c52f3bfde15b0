"""Transformations ``{class.operation,parameters}`` of ``$(variable{...})`` (OpenSIPS manual, "Transformations").

A transformation is declared once, with a decorator, in the file of its class. When the script is loaded its
parameters are split and checked; what stays is a function of (context, value). A value that is NULL, or that a
transformation cannot handle, gives NULL.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opensips_py.script.context import Context, Value
from opensips_py.script.variable import Variables
from opensips_py.script.variable_syntax import NAME_CHARACTERS, TransformationText, VariableError, closing

Step = Callable[[Context, Value], Value]
Factory = Callable[[TransformationText, Variables], Step]


class Fixed(str):
    """Type of a parameter in which variables are not expanded, as OpenSIPS does not."""


TRANSFORMATIONS: dict[str, Factory] = {}
"""Factories by ``class.operation``."""


@dataclass(slots=True, frozen=True)
class Declared:
    """What the reference page says about a transformation."""

    name: str
    form: str
    """Parameters as they are written: ``,index[,separator]``."""
    doc: str


DECLARED: dict[str, Declared] = {}
"""The same names as in :data:`TRANSFORMATIONS`."""


def declare_factory(name: str, form: str, factory: Factory) -> None:
    """Declare a transformation that makes something of its parameters by itself. ``form`` shows how they are written."""
    TRANSFORMATIONS[name] = factory
    DECLARED[name] = Declared(name, f",{form}" if form else "", inspect.getdoc(factory) or "")


def transformation(
    name: str,
    *parameters: type,
    required: int | None = None,
    rest: bool = False,
    check: Callable[..., str | None] | None = None,
    doc: str | None = None,
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Declare a transformation of text: the decorated function gets the value's text and the parameters.

    ``parameters`` are ``int``, ``str`` or :class:`Fixed`; the first ``required`` (default: all) must be given; with ``rest`` the
    last one is everything up to the closing brace. ``check(*parameters)`` gives the reason why constant ones are refused.
    ``doc`` stands in for the docstring of a function that serves several.
    """
    needed = len(parameters) if required is None else required

    def declare(call: Callable[..., Value]) -> Callable[..., Value]:
        def factory(text: TransformationText, registry: Variables) -> Step:
            pieces: list[str] = []
            if text.parameters is not None and parameters:  # what follows a transformation without parameters means nothing
                pieces = split_parameters(text.parameters, len(parameters) if rest else 0)
            if not needed <= len(pieces) <= len(parameters):
                raise VariableError(f"{{{name}}} takes {_count(needed, len(parameters))}, not {len(pieces)}", text.offset)
            values = [_parameter(piece, kind, name, text, registry) for piece, kind in zip(pieces, parameters, strict=False)]
            if not any(callable(value) for value in values):
                reason = check(*values) if check is not None else None
                if reason:
                    raise VariableError(f"{{{name}}}: {reason}", text.offset)
                return lambda ctx, value: call(str(value), *values)
            return _dynamic(call, values, parameters)

        TRANSFORMATIONS[name] = factory
        names = list(inspect.signature(call).parameters)[1:]
        form = "".join(f",{word}" if i < needed else f"[,{word}]" for i, word in enumerate(names))
        DECLARED[name] = Declared(name, form, doc or inspect.getdoc(call) or "")
        return call

    return declare


def _count(least: int, most: int) -> str:
    text = str(most) if least == most else f"{least} to {most}"
    return f"{text} parameter{'s' if most != 1 else ''}"


def of_value(name: str) -> Callable[[Callable[[Value], Value]], Callable[[Value], Value]]:
    """Declare a transformation without parameters that gets the value as it is, number or text."""

    def declare(call: Callable[[Value], Value]) -> Callable[[Value], Value]:
        def factory(text: TransformationText, registry: Variables) -> Step:
            return lambda ctx, value: call(value)

        TRANSFORMATIONS[name] = factory
        DECLARED[name] = Declared(name, "", inspect.getdoc(call) or "")
        return call

    return declare


_MODULES = {"rest.escape": "rest_client", "rest.unescape": "rest_client"}
"""Transformations that modules bring."""


def compile_transformation(text: TransformationText, registry: Variables) -> Step:
    """The function of one transformation; raises VariableError for an unknown one or wrong parameters."""
    name = text.name.lower()
    factory = TRANSFORMATIONS.get(name)
    if factory is None and name in registry.transformations:
        call = registry.transformations[name].call
        return lambda ctx, value: call(str(value))
    if factory is None:
        module = _MODULES.get(name)
        if module is not None:
            raise VariableError(f'unknown transformation {{{text.name}}}; add loadmodule "{module}.so"', text.offset)
        near = difflib.get_close_matches(text.name, TRANSFORMATIONS, 1, 0.6)
        hint = f"; did you mean {{{near[0]}}}?" if near else ""
        raise VariableError(f"unknown transformation {{{text.name}}}{hint}", text.offset)
    return factory(text, registry)


def split_parameters(text: str, limit: int) -> list[str]:
    """``text`` split at commas that stand outside ``$(…)`` and ``$name(…)``; at most ``limit`` pieces unless it is 0."""
    pieces: list[str] = []
    start = i = 0
    while i < len(text):
        if text[i] == "$":
            i = _behind_variable(text, i)
            continue
        if text[i] == "," and (limit == 0 or len(pieces) < limit - 1):
            pieces.append(text[start:i])
            start = i + 1
        i += 1
    pieces.append(text[start:])
    return pieces


def _behind_variable(text: str, at: int) -> int:
    at += 1
    while at < len(text) and text[at] in NAME_CHARACTERS:
        at += 1
    if at < len(text) and text[at] == "(":
        try:
            return closing(text, at) + 1
        except VariableError:
            return at
    return at


def is_variable(text: str) -> bool:
    """Whether a parameter is a variable: a ``$`` alone is a character like any other."""
    return len(text) > 1 and text[0] == "$" and (text[1] in NAME_CHARACTERS or text[1] == "(")


def _parameter(piece: str, kind: type, name: str, text: TransformationText, registry: Variables) -> Any:
    if kind is Fixed:
        return piece
    stripped = piece.strip()
    if is_variable(stripped):
        try:
            return registry.variable(stripped).get
        except VariableError as error:
            raise VariableError(error.message, text.offset) from None
    if kind is int:
        try:
            return int(stripped)
        except ValueError:
            raise VariableError(f"{{{name}}}: {piece!r} is not a number", text.offset) from None
    return piece


def _dynamic(call: Callable[..., Value], values: list[Any], kinds: tuple[type, ...]) -> Step:
    def step(ctx: Context, value: Value) -> Value:
        arguments: list[Any] = []
        for given, kind in zip(values, kinds, strict=False):
            if callable(given):
                given = given(ctx)
                if given is None or (kind is int and not isinstance(given, int)):
                    return None
                if kind is str:
                    given = str(given)
            arguments.append(given)
        return call(str(value), *arguments)

    return step
