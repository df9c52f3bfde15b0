"""Which changes have been made: table ``opensips_py_done``.

A change that may be handed over to another process writes a token into it, in its own transaction. Whoever comes to make it
once more, because nobody knows what became of it, cannot write the token again: while the first transaction goes on, PostgreSQL
makes the second one wait for its end. So the change is made exactly once.
"""

from __future__ import annotations

import hashlib
import re

from opensips_py.db.database import LEDGER
from opensips_py.server.process import this

CREATE = (
    f"CREATE TABLE IF NOT EXISTS {LEDGER} (token VARCHAR(40) PRIMARY KEY, at TIMESTAMP NOT NULL);"
    f"CREATE INDEX IF NOT EXISTS {LEDGER}_at ON {LEDGER} (at)"
)
MADE = b"23505"
"""unique_violation"""
MADE_BY_ANOTHER = (MADE, b"42P07", b"42710")
"""What CREATE TABLE IF NOT EXISTS ends with when another process makes the table at the same time."""
NO_TABLE = b"42P01"
"""undefined_table"""
_SWEEP = 60.0
"""Seconds between two sweeps of a process."""

_CHANGE = re.compile(r"\s*(?:insert|update|delete|merge|with)\b", re.IGNORECASE)
_READ = re.compile(r"\s*(?:select|values|show|table)\b", re.IGNORECASE)
_MORE_THAN_READ = re.compile(r"\b(?:into|nextval|setval|lo_\w+|pg_\w*advisory\w*|pg_notify)\b|;\s*\S", re.IGNORECASE)
_RETURNS = re.compile(r"\breturning\b", re.IGNORECASE)


def only_reads(text: str) -> bool:
    """Whether a statement may be run twice: it changes nothing."""
    return _READ.match(text) is not None and _MORE_THAN_READ.search(text) is None


def is_change(text: str) -> bool:
    """Whether a statement changes rows."""
    return _CHANGE.match(text) is not None


def returns_rows(text: str) -> bool:
    """Whether a change gives rows, which are not kept."""
    return _RETURNS.search(text) is not None or text.lstrip()[:4].lower() == "with"


class Sweep:
    """Tokens are removed when their time is over, now and then."""

    def __init__(self) -> None:
        self._at = 0.0

    def statement(self) -> str:
        """What is to be run before a change; mostly nothing."""
        now = this.clock.now()
        if now < self._at:
            return ""
        self._at = now + _SWEEP
        return f"DELETE FROM {LEDGER} WHERE at < now();"


sweep = Sweep()


def noted(text: str, token: str, named: bool) -> str:
    """The change with its token: statements that are sent together are one transaction."""
    kept = "2 hours" if named else "10 minutes"
    return f"{sweep.statement()}INSERT INTO {LEDGER} VALUES ('{token}', now() + interval '{kept}');{text}"


def named(once: str) -> str:
    """The token of a change with a name; empty for none."""
    return hashlib.blake2b(once.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() if once else ""
