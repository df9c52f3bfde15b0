"""The tables of contacts: those that a script names in save(), lookup() and their relatives (OpenSIPS: domains)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from opensips_py.modules.usrloc import location
from opensips_py.modules.usrloc.declared import module
from opensips_py.script.declarations import Statistic

_names: dict[str, None] = {}
_expired: dict[str, Statistic] = {}
"""By table: contacts that were found to have expired."""


def add(table: str) -> None:
    """Make a table known."""
    _names[table] = None


@module.on_config
def declare_statistics() -> None:
    """Each table has its own."""
    for table in _names:
        for what, doc, count in (
            ("users", "addresses of record with contacts", location.users),
            ("contacts", "contacts", location.contacts),
        ):
            module.statistic(f"{table}-{what}", doc=f"{doc} in table {table}", gauge=_gauge(count, table))
        doc = f"contacts of table {table} that were removed when they had expired"
        _expired[table] = module.statistic(f"{table}-expires", doc=doc)


@module.on_exit
def forget() -> None:
    """Know no table any more."""
    for table in _names:
        for what in ("users", "contacts", "expires"):
            module.statistics.pop(f"{table}-{what}", None)
    _names.clear()
    _expired.clear()


def _gauge(count: Callable[[str], int], table: str) -> Callable[[], int]:
    return lambda: count(table)


def names() -> list[str]:
    """All that are known, in the order in which the script names them."""
    return list(_names)


def remove_expired() -> None:
    """Remove contacts that have expired, and count them."""
    for table, number in location.remove_expired().items():
        if table in _expired:
            _expired[table].add(number)


def _named(table: str, registry: object) -> None:
    """A script names a table: nothing is wrong with that."""
    add(table)


Table = Annotated[str, "static", _named]
"""The literal name of a table, as a parameter of a script function."""
