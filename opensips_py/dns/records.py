"""Questions and answers of the DNS, as far as a SIP server needs them (RFC 1035, RFC 2782, RFC 3403)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Question(NamedTuple):
    """What is asked: a name in lower case without its final dot, and a type of records (``A AAAA SRV NAPTR``)."""

    name: str
    type: str


class Srv(NamedTuple):
    """A server of a service (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class Naptr(NamedTuple):
    """A way to reach a domain (RFC 3403 4.1)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


Record = str | Srv | Naptr
"""An address (A, AAAA), or what SRV and NAPTR records say."""


class Status(IntEnum):
    """How a question was answered."""

    FOUND = 0
    NO_DATA = 1
    """The name has no records of this type (RFC 2308 2.2)."""
    NO_NAME = 2
    """There is no such name (RFC 2308 2.1)."""
    FAILED = 3
    """No name server could tell (RFC 2308 7)."""


class Answer(NamedTuple):
    """What is known about a question."""

    status: Status
    records: tuple[Record, ...] = ()
    seconds: float = 0.0
    """How long it may be kept."""


FAILED = Answer(Status.FAILED)
