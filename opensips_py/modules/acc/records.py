"""Records: what is written of a transaction, and how it looks in the log, in a database and as an event."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from opensips_py import db
from opensips_py.db.statement import Insert, SqlValue
from opensips_py.evi.events import Parameters
from opensips_py.modules.acc import declared

ANSWERED, MISSED, REQUEST, ENDED = "transaction answered", "call missed", "request accounted", "call ended"
"""What a record is about, as the log says it."""

Pairs = list[tuple[str, str]]


class Call(msgspec.Struct, array_like=True):
    """The times of a call of which records are made as a whole (flag cdr)."""

    created: float
    """this.clock.now() when the script began to account it."""
    answered: float = 0.0
    ended: float = 0.0

    def seconds(self, until: float) -> int:
        """Whole seconds from its creation to ``until``."""
        return max(0, int(until) - int(self.created))


class Record(msgspec.Struct, array_like=True):
    """One record, for one kind of place."""

    kind: str
    """``log``, ``db`` or ``evi``."""
    about: str
    at: int
    """this.clock.now() of what it is about."""
    method: str
    from_tag: str
    to_tag: str
    call_id: str
    code: str
    reason: str
    extras: Pairs
    """Further fields of its kind, by the names that they have there."""
    legs: list[Pairs]
    """Those of each leg."""
    table: str = ""
    call: Call | None = None
    name: str = ""
    """Under which the database takes it once."""


def line(record: Record) -> str:
    """The record for the log."""
    fields = [*_times(record)]
    fields += [
        ("method", record.method),
        ("from_tag", record.from_tag),
        ("to_tag", record.to_tag),
        ("call_id", record.call_id),
        ("code", record.code),
        ("reason", record.reason),
        *record.extras,
    ]
    for leg in record.legs:
        fields += leg
    return f"ACC: {record.about}: {';'.join(f'{name}={value}' for name, value in fields)}"


def _times(record: Record) -> Iterator[tuple[str, str]]:
    call = record.call
    if call is not None and record.about == ENDED:
        yield "created", str(int(call.created))
        yield "call_start_time", str(int(call.answered))
        yield "duration", str(_duration(call))
        yield "ms_duration", str(_milliseconds(call))
        yield "setuptime", str(call.seconds(call.answered))
        return
    yield "timestamp", str(record.at)
    if call is not None:
        yield "created", str(int(call.created))
        yield "setuptime", str(call.seconds(record.at))


def _duration(call: Call) -> int:
    return -(-_milliseconds(call) // 1000)


def _milliseconds(call: Call) -> int:
    return max(0, round((call.ended - call.answered) * 1000))


def insert(record: Record, unless_there: bool = False) -> Insert:
    """The rows for the database: one, or one for each leg. ``unless_there``: those that are not there yet."""
    rows = [_row(record, leg) for leg in record.legs or [[]]]
    return db.insert_new(record.table, *rows) if unless_there else db.insert(record.table, *rows)


def _row(record: Record, leg: Pairs) -> dict[str, SqlValue]:
    call = record.call
    name = {key: parameter.value for key, parameter in declared.columns.items()}
    row: dict[str, SqlValue] = {
        name["method"]: record.method,
        name["from_tag"]: record.from_tag,
        name["to_tag"]: record.to_tag,
        name["callid"]: record.call_id,
        name["sip_code"]: record.code,
        name["sip_reason"]: record.reason,
        name["time"]: db.Time(record.at),
    }
    row |= dict(record.extras)
    row |= dict(leg)
    if record.about == REQUEST:
        return row
    row["setuptime"] = 0 if call is None else call.seconds(call.answered if record.about == ENDED else record.at)
    row["created"] = None if call is None else db.Time(int(call.created))
    if record.about != MISSED:
        row["duration"] = _duration(call) if call is not None and record.about == ENDED else 0
        row["ms_duration"] = _milliseconds(call) if call is not None and record.about == ENDED else 0
    return row


def parameters(record: Record) -> list[Parameters]:
    """The parameters of its event: of one, or of one for each leg."""
    return [_parameters(record, leg) for leg in record.legs or [[]]]


def _parameters(record: Record, leg: Pairs) -> Parameters:
    found: list[tuple[str, str | int]] = [
        ("method", record.method),
        ("from_tag", record.from_tag),
        ("to_tag", record.to_tag),
        ("callid", record.call_id),
        ("sip_code", record.code),
        ("sip_reason", record.reason),
        ("time", record.at),
        *record.extras,
        *leg,
    ]
    call = record.call
    if call is not None:
        if record.about == ENDED:
            found += [("duration", _duration(call)), ("ms_duration", _milliseconds(call))]
        found += [
            ("setuptime", call.seconds(call.answered if record.about == ENDED else record.at)),
            ("created", int(call.created)),
        ]
    return found


def comment_of(text: str) -> tuple[str, str]:
    """Status and reason of a comment as acc_log_request() takes it: ``404 Nobody home``; the status may be missing."""
    code = text[:3]
    return (code, text[3:].lstrip()) if len(code) == 3 and code.isascii() and code.isdigit() else ("", text)


def event_of(record: Record) -> str:
    """The event that tells of it."""
    if record.about == ENDED:
        return declared.ended_event.name
    failed = record.about == REQUEST and record.code >= "300"
    return (declared.missed_event if record.about == MISSED or failed else declared.answered_event).name
