"""Further fields of records: what ``extra_fields`` and ``leg_fields`` declare.

``"log: caller->A; ip"`` says that records in the log have the field A with what ``$acc_extra(caller)`` holds, and ip. There may
be several such lines, also for one kind of record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from opensips_py.script.declarations import ConfigError

KINDS = ("log", "db", "evi", "aaa")


class Field(NamedTuple):
    """A field of a record."""

    tag: str
    """Its name in the script."""
    name: str
    """Its name in the record: a column, a parameter of an event."""


class Fields:
    """The further fields of each kind of record."""

    def __init__(self) -> None:
        self.of: dict[str, list[Field]] = {}
        self.tags: tuple[str, ...] = ()
        """All names that scripts may use."""

    def read(self, parameter: str, lines: Iterable[str]) -> None:
        """Take what the lines of a parameter declare. Raises ConfigError."""
        self.of = {kind: [] for kind in KINDS}
        for line in lines:
            kind, colon, rest = line.partition(":")
            kind = kind.strip().lower()
            if not colon or kind not in KINDS:
                way = f'"log: tag; tag->name", or another kind of record: {", ".join(KINDS)}'
                raise ConfigError(f"acc: {parameter} [{line}] is written {way}", parameter, line)
            self.of[kind] += [_field(parameter, line, piece) for piece in rest.split(";") if piece.strip()]
        self.tags = tuple(dict.fromkeys(field.tag for fields in self.of.values() for field in fields))

    def filled(self, kind: str, values: Mapping[str, str]) -> list[tuple[str, str]]:
        """Names and values of a kind's fields; what was not set is empty."""
        return [(field.name, values.get(field.tag, "")) for field in self.of.get(kind, ())]


def _field(parameter: str, line: str, piece: str) -> Field:
    tag, arrow, name = piece.partition("->")
    tag, name = tag.strip(), name.strip()
    if not tag or (arrow and not name):
        raise ConfigError(f"acc: {parameter} [{line}]: [{piece.strip()}] is written tag, or tag->name", parameter, line)
    return Field(tag, name or tag)
