"""``loadmodule`` and ``modparam``: finding modules, and giving their parameters values.

A module of the server is ``opensips_py.modules.NAME``; a path that ends in ``.py`` is a module of the user's own. Both
have an attribute ``module``. Functions and variables of the core come the same way, from ``opensips_py.core.functions``.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from typing import Any

from opensips_py.script import ast, known_modules
from opensips_py.script.declarations import Module, ModuleParameter
from opensips_py.script.diagnostics import Findings
from opensips_py.script.environment import Environment
from opensips_py.script.suggest import did_you_mean

_PACKAGE = "opensips_py.modules"
_CORE = "opensips_py.core.functions"
_defaults: dict[int, tuple[Any, Any]] = {}
"""Default value of each parameter of modules seen so far, by identity: a second load begins afresh."""


def load(script: ast.Script, env: Environment, findings: Findings, *, strict: bool) -> None:
    """Load every module of the script and set its parameters. With ``strict`` a missing dependency is an error."""
    env.add(core_module())
    loaded: dict[str, tuple[Module, ast.LoadModule]] = {}
    for node in script.modules:
        name = _name(node.path)
        if name in loaded or name in env.unsupported:
            findings.warning(node, f"module {name} is loaded twice")
            continue
        module = _find(node, name, env, findings)
        if module is None:
            env.unsupported.add(name)
            continue
        _reset(module)
        loaded[name] = (module, node)
        env.add(module)
    for module, node in loaded.values():
        for other in module.depends:
            if other not in loaded and other not in env.unsupported:
                report = findings.error if strict else findings.warning
                report(
                    node, f"module {module.name} depends on module {other}, but it was not loaded", f'add loadmodule "{other}.so"'
                )
    if not any(name.startswith("proto_") for name in (*loaded, *env.unsupported)) and not findings.failed:
        at = ast.Null(file=script.files[0] if script.files else "", line=1, column=1, end=2)
        findings.error(at, "no transport protocol loaded", 'add loadmodule "proto_udp.so"')
    for parameter in script.parameters:
        _set(parameter, {name: module for name, (module, _) in loaded.items()}, env, findings)


def core_module() -> Module:
    """What the core itself offers to scripts."""
    module: Module = importlib.import_module(_CORE).module
    return module


def available() -> list[str]:
    """Names of the modules that exist here."""
    package = importlib.import_module(_PACKAGE)
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


def _name(path: str) -> str:
    name = os.path.basename(path)
    return re.sub(r"\.(so|py)$", "", name)


def _find(node: ast.LoadModule, name: str, env: Environment, findings: Findings) -> Module | None:
    if node.path.endswith(".py"):
        return _from_file(node, name, env, findings)
    full = f"{_PACKAGE}.{name}"
    if not name.isidentifier() or importlib.util.find_spec(full) is None:
        if name in known_modules.FUNCTIONS:
            findings.error(node, f"not supported yet: module {name}", f"modules that exist: {', '.join(available())}")
        else:
            findings.error(
                node, f"failed to load module {node.path}", did_you_mean(name, [*available(), *known_modules.FUNCTIONS])
            )
        return None
    try:
        loaded = importlib.import_module(full)
    except ImportError as e:
        findings.error(node, f"failed to load module {node.path}: {e}", "a package that it needs is not installed")
        return None
    return _declared(loaded, node, findings)


def _from_file(node: ast.LoadModule, name: str, env: Environment, findings: Findings) -> Module | None:
    """A module of the user's own. A relative path is looked up in ``mpath``, beside the script, in the working directory."""
    places = [env.settings.mpath or "", os.path.dirname(node.file), ""]
    path = next((p for p in (os.path.join(place, node.path) for place in places) if os.path.isfile(p)), None)
    if path is None:
        findings.error(
            node,
            f"failed to load module {node.path}",
            "there is no such file in mpath, beside the script or in the working directory",
        )
        return None
    known = f"opensips_py_user_module_{name}"
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None:
        findings.error(node, f"failed to load module {node.path}")
        return None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[known] = loaded
    try:
        spec.loader.exec_module(loaded)
    except Exception as e:
        findings.error(node, f"failed to load module {node.path}: {type(e).__name__}: {e}")
        return None
    return _declared(loaded, node, findings)


def _declared(loaded: Any, node: ast.LoadModule, findings: Findings) -> Module | None:
    module = getattr(loaded, "module", None)
    if not isinstance(module, Module):
        findings.error(node, f"{node.path} declares no module", "it needs an attribute module = Module(name, doc=...)")
        return None
    return module


def _reset(module: Module) -> None:
    """Give every parameter its default value again."""
    for parameter in module.params.values():
        known = _defaults.get(id(parameter))
        if known is None or known[0] is not parameter:
            _defaults[id(parameter)] = (parameter, copy.copy(parameter.value))
        else:
            parameter.value = copy.copy(known[1])


def default_of(parameter: ModuleParameter[Any]) -> Any:
    """The value that a parameter has when the script does not set it."""
    known = _defaults.get(id(parameter))
    return parameter.value if known is None or known[0] is not parameter else known[1]


# --- parameters ----------------------------------------------------------------------------------------------------


def _set(node: ast.ModParam, loaded: dict[str, Module], env: Environment, findings: Findings) -> None:
    names = [node.module] if node.module in loaded or node.module in env.unsupported else _matching(node, loaded, env, findings)
    if not names:
        message = f"Parameter <{node.name}> not found in module <{node.module}> - can't set"
        findings.error(node, message, _why_not(node.module, loaded))
        return
    for name in names:
        if name in env.unsupported:
            continue
        module = loaded[name]
        parameter = module.params.get(node.name)
        if parameter is None:
            hint = did_you_mean(node.name, module.params)
            findings.error(node, f"Parameter <{node.name}> not found in module <{name}> - can't set", hint)
        else:
            _assign(node, parameter, findings)


def _matching(node: ast.ModParam, loaded: dict[str, Module], env: Environment, findings: Findings) -> list[str]:
    """``modparam("tm|sl", …)``: a regular expression over whole module names."""
    try:
        pattern = re.compile(f"(?:{node.module})\\Z", re.IGNORECASE)
    except re.error as e:
        findings.error(node, f"bad regular expression for module names: {e}")
        return []
    return [name for name in (*loaded, *env.unsupported) if pattern.match(name)]


def _why_not(name: str, loaded: dict[str, Module]) -> str | None:
    if name in known_modules.FUNCTIONS:
        return f'add loadmodule "{name}.so" before it'
    return did_you_mean(name, loaded)


def _assign(node: ast.ModParam, parameter: ModuleParameter[Any], findings: Findings) -> None:
    value = node.value.value
    if not isinstance(value, parameter.type):
        expected = "a number" if parameter.type is int else "a string"
        hint = None
        if parameter.type is int and isinstance(value, str) and value.lstrip("-").isdigit():
            hint = f"write {value} without quotes"
        elif parameter.type is str:
            hint = f'write "{value}" in quotes'
        findings.error(
            node.value, f"type mismatch for parameter <{node.name}> in module <{node.module}>: {expected} is expected", hint
        )
        return
    if parameter.no_effect is not None:
        findings.notice(node, f"parameter {node.name} of module {node.module} has no effect", parameter.no_effect)
    if parameter.multiple:
        parameter.value.append(value)
    else:
        parameter.value = value
