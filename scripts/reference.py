"""Writes ``docs/reference/`` from the declarations of the language and of the modules: ``python -m scripts.reference``."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from opensips_py.core import core_statistics, mi_async, mi_commands
from opensips_py.engine import statistics
from opensips_py.script import ast, commands, modules, statements, transformations, variable_kinds
from opensips_py.script.check_calls import signature
from opensips_py.script.context import RouteKind
from opensips_py.script.declarations import Event, Function, MICommand, Module, ModuleParameter, Statistic
from opensips_py.script.flag_words import FlagWord
from opensips_py.script.parameters import LATER, PARAMETERS, REMOVED
from opensips_py.script.printer import quoted
from opensips_py.script.variable_syntax import VariableError
from opensips_py.server import traffic
from scripts import state_diagrams, store_table

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"

NOTE = "\n_Made by `make reference` from the declarations in the code; not to be edited._\n"

_RULED_TABLE = re.compile(r"^=+  .*\n(?:.*\n)*?^=+  .*\n(?:.*\n)*?^=+  .*\n?", re.MULTILINE)
"""A table as docstrings have it, with rules of ``=`` above, below the head, and below."""

_LETTERS = {
    RouteKind.REQUEST: "route",
    RouteKind.FAILURE: "failure_route",
    RouteKind.ONREPLY: "onreply_route",
    RouteKind.BRANCH: "branch_route",
    RouteKind.LOCAL: "local_route",
    RouteKind.ERROR: "error_route",
    RouteKind.STARTUP: "startup_route",
    RouteKind.TIMER: "timer_route",
    RouteKind.EVENT: "event_route",
}
_KINDS = {
    "int": "a number, or a variable that holds one",
    "str": "text; variables in it are put in",
    "var": "a variable, without quotes",
    "varlist": 'a list of variables in quotes: `"$avp(a);$avp(b)"`',
    "regex": "a POSIX regular expression, ignoring case",
    "static": "text that is not expanded",
    "flag": "the name of a message flag",
    "branch_flag": "the name of a branch flag",
    "avp": "an AVP with a fixed name, without quotes: `$avp(name)`",
    "route": "the name of a `route[name]` block",
    "event": "the name of an event",
    "raised_event": "the name of an event; the call makes it known",
}


def pages() -> dict[str, str]:
    """The text of every page by file name."""
    found = {
        "language.md": _language(),
        "variables.md": _variables(),
        "modules.md": _modules(),
        "management.md": _management(),
        "transactions.md": state_diagrams.page(NOTE),
    }
    return {name: "".join(parts) for name, parts in found.items()}


def _all_modules() -> list[Module]:
    return [importlib.import_module(f"opensips_py.modules.{name}").module for name in modules.available()]


def _text(doc: str) -> str:
    """A docstring as Markdown."""
    return re.sub(r":[a-z]+:`", "`", inspect.cleandoc(doc).replace("``", "`"))


def _cell(doc: str) -> str:
    return " ".join(_text(doc).split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


# --- the language ----------------------------------------------------------------------------------------------------


def _language() -> Iterator[str]:
    yield f"# Statements, core parameters, core functions\n{NOTE}"
    yield "\nThe grammar is in [grammar.md](../grammar.md), the modules' functions are in [modules.md](modules.md).\n"
    yield "\n## Route blocks\n"
    yield from _table(
        ("block", "runs"),
        ((f"`{word}`", _cell(statements.ROUTE_MEANINGS[word])) for word in statements.ROUTE_KEYWORDS),
    )
    yield "\n## Statements\n\nWords with a syntax of their own: "
    yield ", ".join(f"`{word}`" for word in sorted({*commands.CommandParser._special, *statements.StatementParser._compound}))
    yield ".\n\n"
    for node in typing.get_args(ast.Statement):
        yield f"- {_text(node.__doc__)}\n"
    yield "\n### Conditions\n\n"
    for node in typing.get_args(ast.Condition):
        yield f"- {_text(node.__doc__)}\n"
    yield "\n### Values\n\n"
    for node in typing.get_args(ast.Expression):
        yield f"- {_text(node.__doc__)}\n"
    yield "\n## Core parameters\n\n`name = value` at top level.\n"
    yield from _table(
        ("parameter", "type", "default", ""),
        (
            (f"`{p.name}`", _range(p), _default(p.default), _cell(p.doc) + (f". No effect: {p.no_effect}" if p.no_effect else ""))
            for p in sorted(PARAMETERS.values(), key=lambda p: p.name)
        ),
    )
    yield "\nParameters of older versions, which are refused: "
    yield "; ".join(f"`{name}` ({advice})" for name, advice in sorted(REMOVED.items()))
    yield ".\n\nOf later versions, which are refused too: "
    yield "; ".join(f"`{name}` ({since}: {advice})" for name, (since, advice) in sorted(LATER.items()))
    yield ".\n\n## Parameters of functions\n"
    yield from _table(("kind", "what is written"), ((f"`{kind}`", text) for kind, text in _KINDS.items()))
    yield "\nThose in brackets may be left out. A function marked _may wait_ can be used in `async()` and `launch()`.\n"
    yield "\n## Core functions\n"
    for function in _by_name(modules.core_module().functions):
        yield from _function(function)
    yield "\n## Events of the core\n"
    yield from _table(("event", "parameters", "is raised"), (_event(e) for _, e in sorted(modules.core_module().events.items())))


def _range(parameter: Any) -> str:
    text = str(parameter.kind)
    if parameter.low is not None and parameter.high is not None:
        return f"{text}, {parameter.low} to {parameter.high}"
    least = parameter.least if parameter.low is None else parameter.low
    return f"{text}, at least {least}" if least is not None else text


def _default(value: Any) -> str:
    if value is None or value == []:
        return ""
    return f"`{value}`" if isinstance(value, int | float) else f"`{quoted(str(value))}`"


def _by_name(functions: dict[str, Function]) -> list[Function]:
    return [functions[name] for name in sorted(functions)]


def _function(function: Function) -> Iterator[str]:
    yield f"\n### `{function.name}({signature(function)})`\n\n{_text(function.doc)}\n\n"
    kinds = [name for kind, name in _LETTERS.items() if kind & function.routes]
    yield "In all routes." if len(kinds) == len(_LETTERS) else f"In {', '.join(kinds)}."
    if function.async_only:
        yield " Only in `async()` and `launch()`."
    elif function.waits:
        yield " _May wait._"
    yield "\n"
    for parameter in function.parameters:
        if parameter.words is not None:
            yield f"\nFlags of `{parameter.name}`, by name (as since OpenSIPS 3.2, separated by commas), or as the "
            yield "sum of these numbers:\n" if parameter.kind == "mask" else "row of these letters:\n"
            yield from _table(("name", "", ""), (_flag(word) for word in parameter.words.words))


def _flag(word: FlagWord) -> tuple[str, ...]:
    if not word.argument:
        return f"`{word.name}`", f"{word.value}", word.doc
    return f"`{word.name}={word.argument}`", f"{word.value}{word.argument}", word.doc


# --- variables and transformations -----------------------------------------------------------------------------------


def _variables() -> Iterator[str]:
    yield f"# Variables and transformations\n{NOTE}"
    yield "\n## Core variables\n"
    yield from _table(("variable", "", "meaning"), ((_shown(k.name, k.argument), _access(k), _cell(k.doc)) for k in _kinds()))
    core = modules.core_module()
    for module in [core, *_all_modules()]:
        if module.variables:
            title = "Variables of the running server" if module is core else f"Module {module.name}"
            yield f"\n## {title}\n"
            yield from _table(
                ("variable", "", "meaning"),
                (
                    (_shown(v.name, v.argument), "read, write" if v.write else "read", _cell(v.doc))
                    for _, v in sorted(module.variables.items())
                ),
            )
    yield "\n## Transformations\n\n`$(variable{class.operation,parameters}{...})`; what cannot be transformed gives NULL.\n"
    yield from _table(
        ("transformation", "result"),
        ((f"`{{{t.name}{t.form}}}`", _cell(t.doc)) for _, t in sorted(transformations.DECLARED.items()) if t.doc),
    )
    yield "\nOf modules:\n"
    yield from _table(
        ("transformation", "module", "result"),
        ((f"`{{{t.name}}}`", m.name, _cell(t.doc)) for m in _all_modules() for _, t in sorted(m.transformations.items())),
    )


def _kinds() -> list[variable_kinds.VariableKind]:
    return [variable_kinds.CORE[name] for name in sorted(variable_kinds.CORE, key=lambda name: (name.lower(), name))]


def _shown(name: str, argument: str) -> str:
    return f"`${name}" + {"no": "", "optional": "[(name)]", "required": "(name)"}[argument] + "`"


def _access(kind: variable_kinds.VariableKind) -> str:
    for argument in ("x", "rx") if kind.argument == "required" else (None,):
        try:
            return "read, write" if kind.build(argument, None).set is not None else "read"
        except VariableError:
            continue
    return "read"


# --- modules ---------------------------------------------------------------------------------------------------------


def _modules() -> Iterator[str]:
    yield f"# Modules\n{NOTE}\n"
    found = _all_modules()
    for module in found:
        yield f"- [{module.name}](#{module.name}): {_cell(module.doc)}\n"
    for module in found:
        yield f"\n## {module.name}\n\n{_text(module.doc)}\n{_more(module)}"
        if module.depends:
            yield f"\nNeeds: {', '.join(module.depends)}.\n"
        if module.params:
            yield from _table(("parameter", "type", "default", ""), (_parameter(p) for _, p in sorted(module.params.items())))
        for function in _by_name(module.functions):
            yield from _function(function)
        if module.events:
            yield from _table(("event", "parameters", "is raised"), (_event(e) for _, e in sorted(module.events.items())))
        if module.statistics:
            yield "\nStatistics: " + ", ".join(f"`{s.group}:{name}`" for name, s in sorted(module.statistics.items())) + ".\n"
        if module.mi_commands:
            yield "\nManagement commands: " + ", ".join(f"`{name}`" for name in sorted(module.mi_commands)) + ".\n"
        if module.variables:
            shown = ", ".join(_shown(v.name, v.argument) for _, v in sorted(module.variables.items()))
            yield f"\nVariables: {shown}.\n"


def _as_markdown(lines: list[str]) -> str:
    """A table with rules as a table of Markdown."""
    columns = [found.start() for found in re.finditer("=+", lines[0])]
    parts = list(zip(columns, [*columns[1:], None], strict=True))
    rows = [tuple(line[start:end].strip() for start, end in parts) for line in lines if not line.startswith("=")]
    return "".join(_table(rows[0], rows[1:])).lstrip() + "\n"


def _more(module: Module) -> str:
    """What the module's file says at its head, after the first paragraph, which says no more than ``module.doc``."""
    doc = inspect.getdoc(importlib.import_module(f"opensips_py.modules.{module.name}")) or ""
    text = doc.partition("\n\n")[2]
    if not text:
        return ""
    text = _RULED_TABLE.sub(lambda table: _as_markdown(table[0].splitlines()), text)
    text = text.replace("::\n", ":\n")  # what is indented after it is literal in Markdown too
    return f"\n{_text(text)}\n"


def _event(event: Event) -> tuple[str, ...]:
    return f"`{event.name}`", " ".join(f"`{name}`" for name in event.parameters), _cell(event.doc)


def _parameter(parameter: ModuleParameter[Any]) -> tuple[str, ...]:
    doc = _cell(parameter.doc)
    if parameter.multiple:
        doc += ". May be repeated"
    if parameter.no_effect:
        doc += f". No effect: {parameter.no_effect}"
    if parameter.not_yet:
        doc += f". Not supported yet: {parameter.not_yet}"
    kind = "int" if parameter.type is int else "str" if parameter.type is str else "int or str"
    return f"`{parameter.name}`", kind, _default(modules.default_of(parameter)), doc


# --- management ------------------------------------------------------------------------------------------------------


def _management() -> Iterator[str]:
    yield f"# Management commands and statistics\n{NOTE}"
    sources = [mi_commands.module, mi_async.module, *_all_modules()]
    for module in sources:
        if module.mi_commands:
            yield f"\n## Commands of {module.name}\n"
            yield from _table(
                ("command", "parameters", ""),
                (_command(c) for _, c in sorted(module.mi_commands.items())),
            )
    yield "\n## Statistics\n"
    counted = [traffic.module, core_statistics.core, core_statistics.net, core_statistics.shmem, statistics.module]
    yield from _table(
        ("statistic", "", "meaning"),
        (_statistic(s) for module in [*counted, *_all_modules()] for _, s in sorted(module.statistics.items())),
    )
    yield "\nThe group `load` has one percentage for each process. Scripts make more with `update_stat()`.\n"


def _command(command: MICommand) -> tuple[str, ...]:
    recipes = "; ".join(" ".join(recipe) or "none" for recipe in command.recipes)
    return f"`{command.name}`", recipes, _cell(command.doc)


def _statistic(statistic: Statistic) -> tuple[str, ...]:
    return f"`{statistic.group}:{statistic.name}`", "counted" if statistic.gauge is None else "computed", _cell(statistic.doc)


def write() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
    store_table.PAGE.write_text(store_table.page(store_table.PAGE.read_text()))


if __name__ == "__main__":
    write()
