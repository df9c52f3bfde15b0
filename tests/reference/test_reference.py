"""The reference pages say what the code declares."""

from __future__ import annotations

import importlib

import pytest

from opensips_py.core import mi_async, mi_commands
from opensips_py.script import known_modules, modules, transformations, variable_kinds
from opensips_py.script.declarations import Module
from opensips_py.script.parameters import PARAMETERS
from scripts import migration_page, store_table
from scripts.reference import FOLDER, pages


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_page_is_what_the_declarations_give(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "run make reference"


def test_the_page_about_migration_is_true() -> None:
    assert migration_page.PAGE.read_text() == migration_page.page(), "run make reference"
    rows = migration_page.page().partition("\n## Modules of later versions")[0].count("\n| `")
    assert rows == len(known_modules.exports())


def test_the_table_of_the_store_is_true() -> None:
    text = store_table.PAGE.read_text()
    assert store_table.table() in text, "run make reference"
    assert store_table.page(text) == text, "run make reference"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(pages())


def test_everything_declared_has_a_description() -> None:
    found: list[Module] = [importlib.import_module(f"opensips_py.modules.{name}").module for name in modules.available()]
    missing = [
        f"{module.name}: {thing.name}"
        for module in [modules.core_module(), mi_commands.module, mi_async.module, *found]
        for kind in (module.functions, module.params, module.statistics, module.mi_commands, module.variables)
        for thing in kind.values()
        if not thing.doc.strip()
    ]
    missing += [f"${kind.name}" for kind in variable_kinds.CORE.values() if not kind.doc]
    of_the_compiler = {"uri.port_or_0", "via.port_or_0"}
    missing += [f"{{{one.name}}}" for one in transformations.DECLARED.values() if not one.doc and one.name not in of_the_compiler]
    missing += [parameter.name for parameter in PARAMETERS.values() if not parameter.doc]
    assert not missing
    assert set(transformations.DECLARED) == set(transformations.TRANSFORMATIONS)
