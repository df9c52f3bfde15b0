"""CSeq (RFC 3261 20.16) and methods."""

from __future__ import annotations

from typing import NamedTuple

from opensips_py.sip.headers import TOKEN

METHODS = frozenset(
    (
        *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "MESSAGE", "INFO", "UPDATE", "PRACK"),
        *("SUBSCRIBE", "NOTIFY", "REFER", "PUBLISH"),
    )
)
"""Methods with an RFC; others are passed on just the same."""


LONGEST_NUMBER = 32
"""Digits of a number that is read. RFC 3261 20.16 allows ten; OpenSIPS passes on longer ones."""


class CSeq(NamedTuple):
    """Sequence number and method."""

    number: int
    method: str


def parse_cseq(text: str) -> CSeq | None:
    """Read a CSeq value; None when it is not one."""
    parts = text.split()
    if len(parts) != 2:
        return None
    number, method = parts
    if (
        not (number.isascii() and number.isdigit())
        or len(number) > LONGEST_NUMBER
        or (method not in METHODS and TOKEN(method) is None)
    ):
        return None
    return CSeq(int(number), method)
