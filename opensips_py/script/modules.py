"""``loadmodule`` and ``modparam``: finding modules, and giving their parameters values.

A module of the server is ``opensips_py.modules.NAME``; a path that ends in ``.py``, or a name that an installed package
offers, is a module of the user's own (``own_modules``). All have an attribute ``module``. Functions and variables of the core
come the same way, from ``opensips_py.core.functions``.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import pkgutil
import re
from typing import Any

from opensips_py.script import ast, known_modules, migration, own_modules
from opensips_py.script.commands import CommandParser
from opensips_py.script.declarations import ConfigError, Module, ModuleParameter
from opensips_py.script.diagnostics import ERROR, Findings
from opensips_py.script.environment import Environment, checking
from opensips_py.script.statements import StatementParser
from opensips_py.script.suggest import did_you_mean

_PACKAGE = "opensips_py.modules"
_CORE = "opensips_py.core.functions"
_defaults: dict[int, tuple[Any, Any]] = {}
"""Default value of each parameter of modules seen so far, by identity: a second load begins afresh."""


def load(script: ast.Script, env: Environment, findings: Findings, *, strict: bool, missing: str = ERROR) -> None:
    """Load every module of the script and set its parameters.

    With ``strict`` a missing dependency is an error. ``missing``: the severity of a module that does not exist here.
    """
    env.add(core_module())
    loaded: dict[str, tuple[Module, ast.LoadModule]] = {}
    by_name: set[str] = set()
    """As loadmodule names them: a file may have another name than the module in it."""
    for node in script.modules:
        name = _name(node.path)
        if name in by_name or name in env.unsupported:
            findings.error(node, f"failed to load module {node.path}: it is loaded twice", "leave this line out")
            continue
        if not node.path.endswith((".so", ".py")) and exists(name):
            findings.error(node, f"failed to load module {node.path}", f'write "{node.path}.so"')
            continue
        by_name.add(name)
        module = _find(node, name, env, findings, missing)
        if module is None:
            env.unsupported.add(name)
        elif module.name in env.missing:
            loaded[name] = (module, node)
        elif not _fits(module, node, env, findings):
            env.unsupported.add(name)
        else:
            _reset(module)
            loaded[module.name] = (module, node)
            env.loads[module.name] = node
            env.add(module)
    report = findings.error if strict else findings.warning
    for module, node in loaded.values():
        for other in module.depends:
            if not _there(other, env):
                report(
                    node, f"module {module.name} depends on module {other}, but it was not loaded", f'add loadmodule "{other}.so"'
                )
    if not any(name.startswith("proto_") for name in (*loaded, *env.unsupported)) and not findings.failed:
        at = ast.Null(file=script.files[0] if script.files else "", line=1, column=1, end=2)
        findings.error(at, "no transport protocol loaded", 'add loadmodule "proto_udp.so"')
    for parameter in script.parameters:
        _set(parameter, {name: module for name, (module, _) in loaded.items()}, env, findings)


def _there(name: str, env: Environment) -> bool:
    """Is a module loaded that another one needs? Any database that is missing stands for the one that is meant."""
    if env.loads_module(name):
        return True
    return name.startswith("db_") and any(one.startswith("db_") for one in (*env.missing, *env.unsupported))


def core_module() -> Module:
    """What the core itself offers to scripts."""
    module: Module = importlib.import_module(_CORE).module
    return module


def available() -> list[str]:
    """Names of the modules that exist here."""
    package = importlib.import_module(_PACKAGE)
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


def exists(name: str) -> bool:
    """Whether a module exists here."""
    return name.isidentifier() and importlib.util.find_spec(f"{_PACKAGE}.{name}") is not None


def _name(path: str) -> str:
    name = os.path.basename(path)
    return re.sub(r"\.(so|py)$", "", name)


def _find(node: ast.LoadModule, name: str, env: Environment, findings: Findings, missing: str) -> Module | None:
    if node.path.endswith(".py"):
        return own_modules.from_file(node, name, env.settings.mpath or "", findings)
    if not exists(name):
        offered, module = own_modules.from_package(node, name, findings)
        return module if offered else _not_here(node, name, env, findings, missing)
    try:
        loaded = importlib.import_module(f"{_PACKAGE}.{name}")
    except ImportError as e:
        findings.error(node, f"failed to load module {node.path}: {e}", "a package that it needs is not installed")
        return None
    return own_modules.declared(loaded, node, findings)


def _not_here(node: ast.LoadModule, name: str, env: Environment, findings: Findings, missing: str) -> Module | None:
    """A module of OpenSIPS that does not exist here, as far as it is known."""
    if name in migration.EMPTY:
        findings.notice(node, f"module {name} is accepted and does nothing", migration.EMPTY[name])
        return Module(name, doc="")
    report = findings.error if missing == ERROR else findings.warning
    if known_modules.known(name):
        report(node, f"not supported yet: module {name}", migration.advice(name))
        return env.add_missing(name, node)
    if name in migration.LATER:
        env.missing[name] = node
        report(node, f"not supported: module {name}, which came with OpenSIPS {migration.LATER[name]}", f"see {migration.PAGE}")
    elif name in migration.GONE:
        now = migration.GONE[name]
        hint = f"what it did, {now} does" if now else "leave the line out"
        findings.error(node, f"failed to load module {node.path}: OpenSIPS 3.1 has no module {name}", hint)
        return Module(name, doc="")
    else:
        existing = [*available(), *own_modules.packaged()]
        near = did_you_mean(name, [*existing, *known_modules.exports(), *migration.LATER])
        findings.error(node, f"failed to load module {node.path}: there is no such module", near)
    return None


def _fits(module: Module, node: ast.LoadModule, env: Environment, findings: Findings) -> bool:
    """Whether nothing that is there already has the name of the module, or of something in it."""
    if module.name in env.modules:
        findings.error(node, f"there is a module {module.name} already", "give the one in this file another name")
        return False
    taken = [
        f"function {name}() is one of module {env.functions[name].module}" for name in module.functions if name in env.functions
    ]
    taken += [f"variable ${name} exists already" for name in module.variables if name in env.registry.kinds]
    words = {*CommandParser._special, *StatementParser._compound}
    taken += [f"{name} is a word of the language, and no name for a function" for name in module.functions if name in words]
    for text in taken:
        findings.error(node, f"module {module.name} cannot be loaded: {text}")
    return not taken


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
        if findings.modules_lost or (env.unsupported and not known_modules.known(node.module)):
            return  # follows from a module that could not be loaded, which has been said
        message = f"Parameter <{node.name}> not found in module <{node.module}> - can't set"
        findings.error(node, message, _why_not(node.module, loaded))
        return
    for name in names:
        if name in env.unsupported:
            continue
        if name in migration.GONE:
            continue
        if name in migration.EMPTY:
            findings.notice(node, f"parameter {node.name} of module {name} has no effect", migration.EMPTY[name])
            continue
        module = loaded[name]
        parameter = module.params.get(node.name)
        if parameter is None:
            hint = did_you_mean(node.name, module.params) or _whose(node.name, module)
            findings.error(node, f"Parameter <{node.name}> not found in module <{name}> - can't set", hint)
        else:
            _assign(node, parameter, findings)


def _whose(parameter: str, module: Module) -> str | None:
    """The hint for a parameter that a module of OpenSIPS does not have: it was another version's, or is another module's."""
    if module.own or not known_modules.known(module.name):
        return None
    others = known_modules.modules_with(parameter)
    if 0 < len(others) <= 3:
        return f"it is a parameter of module {' and '.join(others)}"
    return f"module {module.name} of OpenSIPS 3.1 has no such parameter: leave it out"


def _matching(node: ast.ModParam, loaded: dict[str, Module], env: Environment, findings: Findings) -> list[str]:
    """``modparam("tm|sl", …)``: a regular expression over whole module names."""
    try:
        pattern = re.compile(f"(?:{node.module})\\Z", re.IGNORECASE)
    except re.error as e:
        findings.error(node, f"bad regular expression for module names: {e}")
        return []
    return [name for name in (*loaded, *env.unsupported) if pattern.match(name)]


def _why_not(name: str, loaded: dict[str, Module]) -> str | None:
    return way_to("", name) if known_modules.known(name) else did_you_mean(name, loaded)


def way_to(thing: str, *names: str) -> str:
    """The hint for a function, variable or event of one of these modules of OpenSIPS, none of which the script loads."""
    for name in names:
        if name in available() and (not thing or _offers(name, thing)):
            return f'add loadmodule "{name}.so"'
    return f"it belongs to module {' or '.join(names)}, and is not supported yet; see {migration.PAGE}"


def _offers(name: str, thing: str) -> bool:
    module: Module = importlib.import_module(f"{_PACKAGE}.{name}").module
    return thing in module.functions or thing in module.variables or thing in module.events


def _assign(node: ast.ModParam, parameter: ModuleParameter[Any], findings: Findings) -> None:
    value = node.value.value
    if not isinstance(value, parameter.type):
        expected = "a number" if parameter.type is int else "a string"
        hint = None
        if parameter.type is int and isinstance(value, str) and value.lstrip("-").isdecimal():
            hint = f"write {value} without quotes"
        elif parameter.type is str:
            hint = f'write "{value}" in quotes'
        findings.error(
            node.value, f"type mismatch for parameter <{node.name}> in module <{node.module}>: {expected} is expected", hint
        )
        return
    usual = parameter.multiple is False and value == default_of(parameter)
    if parameter.not_yet is not None and not usual:
        findings.error(node, f"not supported yet: parameter {node.name} of module {node.module}", parameter.not_yet)
    if parameter.no_effect is not None and not usual:
        findings.notice(node, f"parameter {node.name} of module {node.module} has no effect", parameter.no_effect)
    if parameter.convert is not None:
        value = parameter.convert(value)
    if parameter.multiple:
        parameter.value.append(value)
    else:
        parameter.value = value


def check_values(script: ast.Script, env: Environment, findings: Findings) -> None:
    """Let each module look at the values of its parameters; what it refuses is an error at its ``modparam``.

    The routes are known by name then, for parameters that name one; the checker looks at them later.
    """
    env.routes = {(route.kind, route.name): route for route in reversed(script.routes)}
    with checking(env):
        for module in env.modules.values():
            for hook in module.check_hooks:
                try:
                    hook()
                except ConfigError as error:
                    findings.error(_place(script, module.name, error, env), str(error))


def _place(script: ast.Script, module: str, error: ConfigError, env: Environment) -> ast.Node:
    """The ``modparam`` that the error speaks of, or whose name and value stand in its text; else the ``loadmodule``."""
    words = {error.parameter} if error.parameter is not None else set(re.findall(r"\w+", str(error)))
    named = [node for node in script.parameters if node.name in words and re.fullmatch(node.module, module)]
    if error.value is not None:
        exact = [node for node in named if node.value.value == error.value]
    else:
        exact = [node for node in named if node.value.value and str(node.value.value) in str(error)]
    loads = [env.loads[module]] if module in env.loads else []
    nodes: list[ast.Node] = [*exact, *named, *loads]
    return nodes[0] if nodes else ast.Null(file=script.files[0] if script.files else "", line=1, column=1, end=2)
