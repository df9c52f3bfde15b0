"""What a script's names mean: functions, variables and routes that exist for it. Checker and compiler share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opensips_py.script import ast, formats, known_modules
from opensips_py.script.context import Context, RouteKind
from opensips_py.script.declarations import Function, Module
from opensips_py.script.event_names import events
from opensips_py.script.parameters import Settings
from opensips_py.script.variables import Registry, Variable

_FIXED = re.compile(
    r"(?<!\$)(?P<dollars>(?:\$\$)*)\$(?:"
    r"\((?P<long>cfg_line|cfg_file|argv\((?P<long_name>[^()]*)\))\)"
    r"|(?P<short>cfg_line|cfg_file|argv\((?P<name>[^()]*)\))(?![A-Za-z0-9_.(]))"
)
_NAME = re.compile(r"\$\(?(?:<[a-z]+>)?([A-Za-z_][A-Za-z0-9_.]*)")
_STORED = re.compile(r"\$\(?(?:<[a-z]+>)?(var|avp)\(\s*([^()$]+?)\s*\)")
_IN_TEXT = re.compile(r"\$(?:\(|[A-Za-z])")


@dataclass(slots=True)
class Environment:
    """Everything that the script may name."""

    settings: Settings
    registry: Registry
    modules: dict[str, Module] = field(default_factory=dict)
    """Core and loaded modules by name."""
    loads: dict[str, ast.LoadModule] = field(default_factory=dict)
    """Where each of the loaded ones is loaded."""
    functions: dict[str, Function] = field(default_factory=dict)
    missing: dict[str, ast.LoadModule] = field(default_factory=dict)
    """Modules of OpenSIPS that the script loads and that do not exist here, with the place. What they offer is known."""
    unsupported: set[str] = field(default_factory=set)
    """Modules that could not be loaded, of which nobody knows what they offer: unknown names may be theirs."""
    routes: dict[tuple[RouteKind, str], ast.Route] = field(default_factory=dict)
    argv: dict[str, str] = field(default_factory=dict)
    only_checked: bool = False
    """The script is not going to run: ``-c`` or ``-C``."""
    called: set[str] = field(default_factory=set)
    """Functions that the script calls; known when it has been compiled."""

    def add(self, module: Module) -> None:
        """Make what ``module`` offers known."""
        self.modules[module.name] = module
        self.functions.update(module.functions)
        self.registry.add(module)
        events.add(module)

    def add_missing(self, name: str, node: ast.LoadModule) -> Module:
        """Make known what a module offers that does not exist here."""
        module = known_modules.declared(name)
        self.missing[name] = node
        for function in module.functions.values():
            self.functions.setdefault(function.name, function)
        self.registry.add(module)
        events.add(module)
        return module

    def loads_module(self, name: str) -> bool:
        """Does the script load it, be it here or not?"""
        return name in self.modules or name in self.missing or name in self.unsupported

    def variable(self, node: ast.Variable) -> Variable:
        """Compile a variable; raises VariableError."""
        return self._registry(node, node.text).variable(node.text)

    def _registry(self, node: ast.Node, text: str) -> Registry:
        """The variables as they are for a text of ``node``: ``$(cfg_line{…})`` has the number of its line."""
        if "cfg_" not in text and "argv" not in text:
            return self.registry
        return self.registry.at(node.line, node.file, self.argv)

    def constant(self, node: ast.Variable) -> str | int | None:
        """The value of a variable that is fixed when the script is loaded (``$cfg_line``, ``$argv(x)``), or None."""
        m = _FIXED.fullmatch(node.text)
        if m is None:
            return None
        return self._fixed(m, node)

    def _fixed(self, m: re.Match[str], at: ast.Node) -> str | int | None:
        """None: an ``$argv`` that the command line does not set, which reads as NULL."""
        which = m["long"] or m["short"]
        if which == "cfg_line":
            return at.line
        if which == "cfg_file":
            return at.file
        return self.argv.get(m["long_name"] if m["long"] else m["name"])

    def text(self, node: ast.String) -> str:
        """A format string with what is fixed at load time put in."""
        if "$" not in node.value or not ("cfg_" in node.value or "argv" in node.value):
            return node.value

        def put_in(m: re.Match[str]) -> str:
            value = self._fixed(m, node)
            return m[0] if value is None else m["dollars"] + str(value).replace("$", "$$")

        return _FIXED.sub(put_in, node.value)

    def unset_arguments(self, text: str) -> list[str]:
        """Names of ``$argv(name)`` in a variable or format string that the command line does not set."""
        found = [m["long_name"] if m["long"] else m["name"] for m in _FIXED.finditer(text)]
        return [name for name in found if name is not None and name not in self.argv]

    def format(self, node: ast.String) -> str | Callable[[Context], str]:
        """Compile a format string to print; raises VariableError."""
        text = self.text(node)
        return formats.compile_format(text, self._registry(node, text))

    def parameter(self, node: ast.String) -> str | Callable[[Context], str]:
        """Compile a format string for a function parameter; a variable in it that is NULL prints as ``<null>``."""
        text = self.text(node)
        return formats.compile_format(text, self._registry(node, text))

    def variables_of(self, text: str) -> list[Variable]:
        """The variables of a ``"$avp(a);$avp(b)"`` list; raises VariableError."""
        return [self.registry.variable(part.strip()) for part in _split_list(text)]


_checked: list[Environment] = []


@contextmanager
def checking(env: Environment) -> Iterator[None]:
    """While modules look at the values of their parameters (``Module.on_check``)."""
    _checked.append(env)
    try:
        yield
    finally:
        _checked.pop()


def checked() -> Environment | None:
    """The script whose modules look at the values of their parameters now."""
    return _checked[-1] if _checked else None


def _split_list(text: str) -> list[str]:
    """At semicolons and commas outside parentheses."""
    parts, depth, current = [], 0, ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if c in ";," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += c
    parts.append(current)
    return [part for part in parts if part.strip()]


def name_of(text: str) -> str:
    """The name of a variable: ``avp`` of ``$(avp(x)[0])``."""
    m = _NAME.match(text)
    return m[1] if m else text.lstrip("$(")


def stored_name(text: str) -> tuple[str, str] | None:
    """``("var", "x")`` of ``$var(x)``, for ``$var`` and ``$avp`` with a fixed name."""
    m = _STORED.match(text)
    return (m[1], m[2]) if m else None


def stored_names(text: str) -> list[tuple[str, str]]:
    """Every ``$var(…)`` and ``$avp(…)`` inside a format string or a variable."""
    return [(kind, name) for kind, name in _STORED.findall(text.replace("$$", ""))]


def looks_like_format(text: str) -> bool:
    """Does the text seem to contain a variable?"""
    return _IN_TEXT.search(text.replace("$$", "")) is not None
