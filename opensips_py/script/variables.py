"""Variables of the script language, compiled to closures.

``compile_variable("$(fu{uri.user}{s.toupper})", registry)`` gives an object whose ``get`` and ``set`` are closures:
names, arguments, indexes and transformations are resolved once, when the script is loaded; nothing is parsed per message.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping

from opensips_py.script import (
    pseudo_variables,
    transformations_address,  # noqa: F401  (these four declare transformations)
    transformations_list,  # noqa: F401
    transformations_sdp,  # noqa: F401
    transformations_string,  # noqa: F401
)
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import Module, ModuleTransformation
from opensips_py.script.formats import compile_string
from opensips_py.script.pseudo_variables_process import constants
from opensips_py.script.transformations import compile_transformation
from opensips_py.script.variable import Variable
from opensips_py.script.variable_kinds import (
    CORE,
    Access,
    Getter,
    Index,
    Number,
    Text,
    VariableKind,
    kind_of_class,
)
from opensips_py.script.variable_syntax import VariableError, VariableText, scan_variable

__all__ = ["Number", "Registry", "Variable", "VariableError", "by_text", "compile_variable", "current", "use"]

CONTEXTS = {
    "branch": pseudo_variables.in_branch,
    "reply": pseudo_variables.in_reply,
    "request": pseudo_variables.in_request,
}
"""``$(<name>…)``: what reads a variable from another message than the current one."""


class Registry:
    """The variables that a script may use: those of the core and of the modules that it loads."""

    def __init__(self) -> None:
        self.kinds: dict[str, VariableKind] = dict(CORE)
        self.transformations: dict[str, ModuleTransformation] = {}
        """Those of modules."""
        self._compiled: dict[str, Variable] = {}

    def add(self, module: Module) -> None:
        """Make the variables and transformations of ``module`` known."""
        self.transformations.update(module.transformations)
        for cls in module.variables.values():
            self.kinds[cls.name] = kind_of_class(cls)
        self._compiled.clear()

    def at(self, line: int, file: str, argv: Mapping[str, str]) -> Registry:
        """The same variables, with those that are constants in a line of the script having their values."""
        there = copy.copy(self)
        there.kinds = self.kinds | constants(line, file, argv)
        there._compiled = {}
        return there

    def argument(self, name: str) -> str | None:
        """How ``$name`` takes an argument (``no``, ``optional``, ``required``), or None when there is no such variable."""
        kind = self.kinds.get(name)
        return None if kind is None else kind.argument

    def variable(self, text: str) -> Variable:
        """The variable ``text``, compiled once."""
        found = self._compiled.get(text)
        if found is None:
            found = self._compiled[text] = compile_variable(text, self)
        return found

    def scan(self, text: str, start: int) -> tuple[Variable, int]:
        """Compile the variable that starts at ``text[start]``; also gives the offset after it."""
        parts, end = scan_variable(text, start, self.argument)
        return Variable(parts.text, parts.name, _compile(parts, self)), end


_registry = Registry()


def use(registry: Registry) -> None:
    """Set the process' registry, which :func:`by_text` compiles with."""
    global _registry
    _registry = registry


def current() -> Registry:
    """The registry of the running script."""
    return _registry


def by_text(text: str) -> Variable:
    """The variable with source text ``text`` (compiled once per process)."""
    return _registry.variable(text)


def compile_variable(text: str, registry: Registry) -> Variable:
    """Compile one variable; raises VariableError with the offset of what is wrong in ``text``."""
    if not text.startswith("$"):
        raise VariableError(f"a variable starts with $, not with {text[:1]!r}")
    variable, end = registry.scan(text, 0)
    if end != len(text):
        raise VariableError(f"{text[end:]!r} does not belong into a variable", end)
    parts, _ = scan_variable(text, 0, registry.argument)
    if text.startswith(("$( ", "$(\t")):
        raise VariableError("no blank is allowed after $(", 2)
    if parts.argument == "":
        raise VariableError(f"${parts.name}() needs a name in the parentheses", parts.argument_offset)
    fields = registry.kinds[parts.name].fields
    if fields and parts.argument is not None and "$" not in parts.argument and parts.argument.strip() not in fields:
        raise VariableError(f"${parts.name} has no field {parts.argument}: {', '.join(fields)}", parts.argument_offset)
    if parts.index is not None and not registry.kinds[parts.name].indexed:
        raise VariableError(f"${parts.name} has one value and takes no index", parts.index_offset)
    return variable


def _compile(parts: VariableText, registry: Registry) -> Access:
    kind = registry.kinds.get(parts.name)
    if kind is None:
        near = difflib.get_close_matches(parts.name, registry.kinds, 1, 0.6)
        hint = f"; did you mean ${near[0]}?" if near else ""
        raise VariableError(f"unknown variable ${parts.name}{hint}", parts.offset)
    if parts.argument is None and kind.argument == "required":
        raise VariableError(f"${kind.name} needs a name in parentheses: ${kind.name}(...)", parts.offset)
    if parts.argument is not None and kind.argument == "no":
        raise VariableError(f"${kind.name} takes no argument", parts.argument_offset)
    argument: Text | None = parts.argument
    if kind.computed and parts.argument is not None:
        argument = _argument(parts, registry)
    try:
        access = kind.build(argument, _index(parts, registry))
    except VariableError as error:
        raise VariableError(error.message, error.offset or parts.argument_offset) from None
    if parts.context is not None:
        access = _in_context(access, parts)
    for step in parts.transformations:
        access = Access(_chain(access.get, compile_transformation(step, registry)))
    return access


def _argument(parts: VariableText, registry: Registry) -> Text:
    assert parts.argument is not None
    if "$" not in parts.argument:
        return parts.argument
    try:
        return compile_string(parts.argument, registry)
    except VariableError as error:
        raise VariableError(error.message, parts.argument_offset + error.offset) from None


def _index(parts: VariableText, registry: Registry) -> Index:
    text = parts.index
    if text is None or text in ("*", "append"):
        return text
    if text.startswith("$"):
        try:
            return compile_variable(text, registry).get
        except VariableError as error:
            raise VariableError(error.message, parts.index_offset + error.offset) from None
    try:
        return int(text)
    except ValueError:
        raise VariableError(f"[{text}] is not an index: a number, * or a variable is expected", parts.index_offset) from None


def _chain(get: Getter, step: Callable[[Context, Value], Value]) -> Getter:
    def transformed(ctx: Context) -> Value:
        value = get(ctx)
        return None if value is None else step(ctx, value)

    return transformed


def _in_context(access: Access, parts: VariableText) -> Access:
    wrap = CONTEXTS.get(parts.context or "")
    if wrap is None:
        raise VariableError(f"unknown context <{parts.context}>: one of {', '.join(sorted(CONTEXTS))} is expected", parts.offset)
    return Access(wrap(access.get))
