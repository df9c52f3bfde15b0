"""A compiled variable, and what compiles one.

Format strings, substitutions and transformations contain variables, and variables contain format strings and
transformations. So that their files need not import each other, the former ask the :class:`Variables` that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from opensips_py.script.context import Context, Value, ValueRefused
from opensips_py.script.declarations import ModuleTransformation
from opensips_py.script.variable_kinds import Access, Getter, Setter


class Variable:
    """A variable as it stands in a script. ``get(ctx)`` reads it; ``set(ctx, value)`` is the operator ``=``."""

    __slots__ = ("assign", "each", "get", "name", "number", "set", "takes_text", "text", "values", "writable")

    def __init__(self, text: str, name: str, access: Access) -> None:
        self.text = text
        """Source text; the same text gives an equal variable in every process."""
        self.name = name
        self.writable = access.set is not None
        self.takes_text = access.takes_text
        self.get: Getter = access.get
        self.number = access.number
        self.set: Setter = access.set or self._refuse
        self.assign: Setter = access.assign or self.set
        """The operator ``:=``: replaces the value instead of adding one (``$avp``), parses it (``$json``)."""
        self.values: Callable[[Context], Sequence[Value]] = access.values or self._single
        """Every value."""
        self.each: Callable[[Context], Iterable[Value]] = access.each or self._snapshot
        """Every value, for ``for ($var(i) in $(…[*]))``: what the body of the loop changes is seen, where it can change."""

    def __repr__(self) -> str:
        return f"Variable({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variable) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def _single(self, ctx: Context) -> Sequence[Value]:
        value = self.get(ctx)
        return () if value is None else (value,)

    def _snapshot(self, ctx: Context) -> Iterable[Value]:
        return tuple(self.values(ctx))

    def _refuse(self, ctx: Context, value: Value) -> None:
        raise ValueRefused(f"{self.text} cannot be written")


class Variables(Protocol):
    """The variables that a script may use: a :class:`~opensips_py.script.variables.Registry`, to the files below it."""

    @property
    def transformations(self) -> Mapping[str, ModuleTransformation]:
        """Those of modules."""

    def variable(self, text: str) -> Variable:
        """The variable ``text``; raises VariableError."""

    def scan(self, text: str, start: int) -> tuple[Variable, int]:
        """The variable that starts at ``text[start]``, and the offset after it; raises VariableError."""
