"""How much of a script depends on modules that do not exist here: the last line of a check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from opensips_py.script import ast, known_modules
from opensips_py.script.context import RouteKind
from opensips_py.script.environment import Environment
from opensips_py.script.migration import PAGE

_VARIABLE = re.compile(r"\$\(?(?:<[a-z]+>)?([A-Za-z_][A-Za-z0-9_.]*)")


def summary(script: ast.Script, env: Environment) -> str | None:
    """``2 modules are missing, which 15 lines use: …``; None when all are here."""
    if not env.missing:
        return None
    uses: dict[str, set[tuple[str, int]]] = {name: set() for name in env.missing}
    for module, at in _uses(script, env):
        uses[module].add((at.file, at.line))
    lines = len(set().union(*uses.values()))
    most = sorted(uses, key=lambda name: (-len(uses[name]), name))
    count = f"{len(uses)} modules are" if len(uses) > 1 else "1 module is"
    used = f"{lines} line{'' if lines == 1 else 's'} use{'s' if lines == 1 else ''}"
    listed = ", ".join(f"{name} ({len(uses[name])})" for name in most)
    return f"{count} missing, which {used}: {listed}; what to do about each is in {PAGE}"


def _uses(script: ast.Script, env: Environment) -> Iterator[tuple[str, ast.Node]]:
    """Every place outside ``loadmodule`` where something of a missing module is named."""
    for parameter in script.parameters:
        for name in env.missing:
            if parameter.module == name or re.fullmatch(parameter.module, name):
                yield name, parameter
    for setting in script.settings:
        proto = setting.value.proto if isinstance(setting.value, ast.Endpoint) else None
        if f"proto_{proto}" in env.missing:
            yield f"proto_{proto}", setting
    for route in script.routes:
        if route.kind is RouteKind.EVENT:
            module = known_modules.module_of_event(route.name)
            if module in env.missing:
                yield module, route
        for node in _nodes(route.body):
            if isinstance(node, ast.Call):
                function = env.functions.get(node.name)
                if function is not None and function.module in env.missing:
                    yield function.module, node
            for text in _texts(node):
                for name in _VARIABLE.findall(text):
                    owner = known_modules.module_of_variable(name)
                    if owner in env.missing:
                        yield owner, node


def _nodes(value: Any) -> Iterator[ast.Node]:
    """A node and all that it is made of."""
    if isinstance(value, list):
        for one in value:
            yield from _nodes(one)
    elif is_dataclass(value) and isinstance(value, ast.Node):
        yield value
        for field in fields(value):
            yield from _nodes(getattr(value, field.name))


def _texts(node: ast.Node) -> Iterator[str]:
    if isinstance(node, ast.String) and "$" in node.value:
        yield node.value
    elif isinstance(node, ast.Variable):
        yield node.text
