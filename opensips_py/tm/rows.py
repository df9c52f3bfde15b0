"""Timer rows in the shared store: ``d`` + deadline (big-endian double: sorts by time) + key of the transaction.

For every transaction with a finite deadline there is a row at that deadline or earlier. A row that fires too early is
written again at the right time; so a reply that moves a deadline away changes no row.

A row with a value (``-`` and, if there is one, the key of the ACK index) stands for a transaction with which nothing is to
be done but to delete it: the timer process does that without loading it.

A module's entries have such rows too: to delete them, or, with the value LOAD, to have its handler called
(:func:`opensips_py.tm.timers.handler`).
"""

from __future__ import annotations

import struct

from ipc.prefixes import prefix

PREFIX = prefix(b"d", "timer row: deadline, key", __name__)
LOAD = b""
DELETE = b"-"
TRIED = b"+"
"""And a byte: how often a module's handler has failed."""

_pack = struct.Struct(">d").pack
_unpack = struct.Struct(">d").unpack_from


def row(deadline: float, key: bytes) -> bytes:
    """Key of the row."""
    return b"d" + _pack(deadline) + key


def of_row(name: bytes) -> tuple[float, bytes]:
    """(deadline, transaction key)."""
    return _unpack(name, 1)[0], name[9:]


def until(now: float) -> bytes:
    """Upper end of a scan for what is due (rows at ``now`` included)."""
    return b"d" + _pack(now) + b"\xff"
