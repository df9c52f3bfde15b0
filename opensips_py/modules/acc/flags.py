"""What a script wants accounted: kinds of record, each with flags."""

from __future__ import annotations

from enum import IntFlag
from functools import lru_cache

from opensips_py.script.variables import Registry


class Flag(IntFlag):
    """What is accounted of a transaction, for one kind of record."""

    ON = 1
    CDR = 2
    """One record of the whole call instead of one of the INVITE."""
    MISSED = 4
    FAILED = 8


KINDS = ("log", "db", "evi")
"""Kinds of record, in the order in which they are written."""
_NAMES = {"cdr": Flag.CDR, "missed": Flag.MISSED, "failed": Flag.FAILED}
_NOT_YET = {"aaa": "accounting by aaa needs module aaa_radius, which does not exist yet; there are log, db and evi"}


class Refused(Exception):
    """Not a type, or not a flag; the text says which there are."""


@lru_cache(64)
def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of record that ``log|db`` names. Raises Refused."""
    found = tuple(piece.strip() for piece in text.split("|"))
    for kind in found:
        if kind not in KINDS:
            raise Refused(_NOT_YET.get(kind) or f"[{kind}] is not a type of accounting: log, db, evi, joined by |")
    return found


@lru_cache(64)
def flags_of(text: str) -> Flag:
    """The flags that ``missed|failed`` names. Raises Refused."""
    found = Flag(0)
    for piece in text.split("|"):
        flag = _NAMES.get(piece.strip())
        if flag is None:
            raise Refused(f"invalid flag: <{piece.strip()}>: there are cdr, missed and failed, joined by |")
        found |= flag
    return found


def kinds_fault(text: str, registry: Registry) -> str | None:
    """What is wrong with a literal."""
    try:
        kinds_of(text)
    except Refused as error:
        return str(error)
    return None


def flags_fault(text: str, registry: Registry) -> str | None:
    """The same for flags."""
    try:
        flags_of(text)
    except Refused as error:
        return str(error)
    return None
