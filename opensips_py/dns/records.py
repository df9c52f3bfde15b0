"""Questions and answers of the DNS, as far as a SIP server needs them (RFC 1035, RFC 2782, RFC 3403)."""

from __future__ import annotations

from collections.abc import Iterable
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


MOST_RECORDS = 64
"""Records that are kept of one answer."""


def first_choices(records: Iterable[Record]) -> tuple[Record, ...]:
    """As many records as are kept, those that would be tried first; else in the order as received."""
    found = tuple(records)
    if len(found) <= MOST_RECORDS:
        return found
    return tuple(sorted(found, key=_preference)[:MOST_RECORDS])


def _preference(record: Record) -> tuple[int, int]:
    match record:
        case Srv():
            return record.priority, 0
        case Naptr():
            return record.order, record.preference
    return 0, 0


def size_of(question: Question, answer: Answer) -> int:
    """Bytes that an answer takes in a cache, as estimated."""
    texts = sum(_letters(record) for record in answer.records)
    return 512 + len(question.name) + 256 * len(answer.records) + texts


def _letters(record: Record) -> int:
    match record:
        case Srv():
            return len(record.target)
        case Naptr():
            return len(record.flags) + len(record.service) + len(record.replacement)
    return len(record)


FAILED = Answer(Status.FAILED)
