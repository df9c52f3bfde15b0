"""Writes ``docs/migration.md`` from what exists and from the tables of what does not: ``python -m scripts.migration_page``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from opensips_py.script import known_modules, migration, modules
from opensips_py.script.declarations import Module
from opensips_py.script.parameters import LATER, REMOVED

PAGE = Path(__file__).resolve().parent.parent / "docs" / "migration.md"

HEAD = """\
# Coming from OpenSIPS

_Made by `make reference` from the code; not to be edited._

    opensips-py -C -f opensips.cfg                          # everything that is wrong, in one run
    opensips-py -C --missing-modules=warn -f opensips.cfg   # the same, as if the missing modules were there

The last line of the check says how many modules are missing, and how many lines use each. What a module offers in OpenSIPS 3.1 is
known also where the module is missing: names, arguments, routes and parameters are checked, so that the line of `loadmodule` is
the only error that the module itself causes. A server whose modules are missing does not start.

## Modules of OpenSIPS 3.1

_exists_: everything works that is not listed as lacking; parameters without effect here are marked in
[reference/modules.md](reference/modules.md). _not yet_: it is to come. _not planned_: nobody works on it.

"""


def page() -> str:
    """The page's text."""
    return HEAD + "".join(_parts())


def _parts() -> Iterator[str]:
    here = modules.available()
    yield from _table(
        ("module", "here", "use instead, or what is lacking"), (_row(name, here) for name in sorted(known_modules.exports()))
    )
    yield "\n## Modules of later versions\n\n"
    rows = ((f"`{name}`", since, _later(name, here)) for name, since in sorted(migration.LATER.items()))
    yield from _table(("module", "since", "here"), rows)
    yield "\n## Modules of older versions\n\n"
    old = [(f"`{name}`", f"`{now}`" if now else "leave it out") for name, now in migration.GONE.items()]
    old += [(f"`{name}`", f"accepted and empty: {why}") for name, why in migration.EMPTY.items() if name not in migration.LATER]
    yield from _table(("module", "what does the same in 3.1"), sorted(old))
    yield "\n## Core parameters of other versions\n\n"
    known = [(f"`{name}`", "2.x or older", text) for name, text in REMOVED.items()]
    known += [(f"`{name}`", since, text) for name, (since, text) in LATER.items()]
    yield from _table(("parameter", "version", "what to do"), sorted(known))
    yield "\n## Functions of older versions\n\n"
    renamed = ((f"`{name}()`", f"`{now}`") for name, now in sorted(known_modules.RENAMED_FUNCTIONS.items()))
    yield from _table(("function", "in 3.1"), renamed)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    for row in rows:
        yield f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |\n"


def _row(name: str, here: list[str]) -> tuple[str, ...]:
    if name not in here:
        return f"`{name}`", migration.status(name), migration.NOT_PLANNED.get(name) or migration.INSTEAD.get(name, "")
    lacking = _lacking(name)
    return f"`{name}`", "exists", f"lacks {', '.join(lacking)}" if lacking else ""


def _lacking(name: str) -> list[str]:
    """What 3.1's module has and ours has not, or only with its default."""
    ours: Module = importlib.import_module(f"opensips_py.modules.{name}").module
    theirs = known_modules.declared(name)
    found = [f"`{function}()`" for function in theirs.functions if function not in ours.functions]
    found += [f"`{parameter}`" for parameter in theirs.params if parameter not in ours.params]
    found += [f"`{p.name}`" for p in ours.params.values() if p.not_yet is not None]
    found += [f"`${variable}`" for variable in theirs.variables if variable not in ours.variables]
    found += [f"`{event}`" for event in theirs.events if event not in ours.events]
    return found


def _later(name: str, here: list[str]) -> str:
    if name in here:
        return "exists"
    return f"accepted and empty: {migration.EMPTY[name]}" if name in migration.EMPTY else "not yet"


if __name__ == "__main__":
    PAGE.write_text(page())
