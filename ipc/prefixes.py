"""Who owns which keys of the shared store: each kind of entry has a prefix of its own, declared here by whoever stores it.

The declaration stands beside the code that uses it::

    PREFIX = prefix(b"c", "contacts", __name__)

so a module brings its own: a letter that nobody has, or ``m``, its name and a colon (``b"mcarriers:"``). A prefix that another
one begins with, or that begins with another one, is refused: two kinds of entry never share a key.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of entry in the store."""

    prefix: bytes
    what: str
    """What the entry is, for the table in ``docs/architecture.md``."""
    owner: str
    """The Python module that declares it."""


declared: dict[bytes, Kind] = {}
"""By prefix."""


def prefix(value: bytes, what: str, owner: str) -> bytes:
    """Declare that keys beginning with ``value`` are ``owner``'s (its ``__name__``); gives ``value``.

    Raises ValueError when they are somebody else's.
    """
    if not value:
        raise ValueError("a prefix of the store has at least one byte")
    for other in declared.values():
        meet = value.startswith(other.prefix) or other.prefix.startswith(value)
        if meet and (value, owner) != (other.prefix, other.owner):
            raise ValueError(f"keys that begin with {other.prefix!r} are those of {other.owner}: {owner} cannot have {value!r}")
    declared[value] = Kind(value, what, owner)
    return value
