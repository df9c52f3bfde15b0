"""What is kept with a transaction that is accounted, and the records that its life brings.

A record is made by a callback of the transaction (:mod:`opensips_py.tm.callbacks`) and posted: it is stored in one batch with the
change that it tells of, and written once that is stored, by another process if this one dies. So for each answer that a
caller has got there is one record, written exactly once into a database. A line in the log, or an event, comes twice only when
the process dies in the few microseconds between writing it and noting that.
"""

from __future__ import annotations

import os

import msgspec

from opensips_py import db
from opensips_py.engine.operation import Done, Operation
from opensips_py.engine.outbox import Outbox
from opensips_py.evi import events
from opensips_py.modules import rr
from opensips_py.modules.acc import declared
from opensips_py.modules.acc.declared import module
from opensips_py.modules.acc.flags import KINDS, Flag
from opensips_py.modules.acc.records import ANSWERED, MISSED, Call, Record, event_of, insert, line, parameters
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError
from opensips_py.server import log as logging
from opensips_py.server.log import FACILITIES
from opensips_py.server.process import this
from opensips_py.sip.nameaddr import NameAddr
from opensips_py.sip.reason_phrases import phrase_of
from opensips_py.tm.callbacks import Moment, When
from opensips_py.tm.transaction_data import TransactionData


class Accounting(msgspec.Struct, array_like=True):
    """What is kept with a transaction, or with a message that has none yet."""

    flags: dict[str, int] = {}
    """What is wanted, by kind of record."""
    table: str = ""
    """Table given to do_accounting()."""
    created: float = 0.0
    """this.clock.now() of the first do_accounting()."""
    extras: dict[str, str] = {}
    """``$acc_extra``."""
    legs: list[dict[str, str]] = msgspec.field(default_factory=lambda: [{}])
    """``$acc_leg``; the last one is the current leg."""
    call_id: str = ""
    from_tag: str = ""
    """Of the request; kept so that it need not be read again."""
    upstream: bool = False
    """The callee has sent the request, and its tags are to be swapped (detect_direction)."""


accounted = TransactionData(module, Accounting)
records = Outbox(module, Record)


# --- making records ---------------------------------------------------------------------------------------------------


def _tag(address: NameAddr | None) -> str:
    return "" if address is None else address.tag or ""


def requested(ctx: Context, kind: str, about: str, code: str, reason: str, table: str = "") -> Record:
    """A record of a request, for a function of the script."""
    data = accounted.get(ctx) or Accounting()
    note_request(data, ctx)
    return _record(data, kind, about, ctx.msg.method, _tag(ctx.msg.to), code, reason, table)


def note_request(data: Accounting, ctx: Context) -> None:
    """Keep what records say of the request."""
    if not data.call_id:
        data.call_id, data.from_tag = ctx.msg.call_id or "", _tag(ctx.msg.from_)
    data.upstream = data.upstream or is_upstream(ctx)


def _record(data: Accounting, kind: str, about: str, method: str, to_tag: str, code: str, reason: str, table: str) -> Record:
    from_tag, to_tag = (to_tag, data.from_tag) if data.upstream else (data.from_tag, to_tag)
    has_legs = bool(declared.legs.of.get(kind))
    call = Call(data.created) if about == MISSED and data.flags.get(kind, 0) & Flag.CDR and declared.has_dialogs() else None
    return Record(
        kind,
        about,
        int(this.clock.now()),
        method,
        from_tag,
        to_tag,
        data.call_id,
        code,
        reason,
        declared.extras.filled(kind, data.extras),
        [declared.legs.filled(kind, leg) for leg in data.legs] if has_legs else [],
        table,
        call,
        f"acc/{os.urandom(12).hex()}" if kind == "db" else "",
    )


def _of(moment: Moment, data: Accounting, kind: str, about: str) -> Record:
    """The record of a reply. One that was made here has the usual phrase and no tag, as in OpenSIPS."""
    reply = None if moment.local else moment.message
    reason = phrase_of(moment.code) if reply is None else reply.reason
    table = declared.table_missed.value if about == MISSED else data.table or declared.table_acc.value
    to_tag = "" if reply is None else _tag(reply.to)
    return _record(data, kind, about, moment.record.method, to_tag, str(moment.code), reason, table)


def _wanted(data: Accounting, flag: Flag) -> list[str]:
    """The kinds of record that have a flag."""
    return [kind for kind in KINDS if data.flags.get(kind, 0) & flag]


def is_upstream(ctx: Context) -> bool:
    """Whether the callee has sent the request, if that is asked."""
    if not declared.detect_direction.value:
        return False
    return rr.is_direction(ctx, "upstream") == 1


# --- the moments of a transaction -------------------------------------------------------------------------------------


def _report_missed(moment: Moment, data: Accounting) -> None:
    """The call was missed. Said once, until the script asks for it again."""
    for kind in _wanted(data, Flag.MISSED):
        data.flags[kind] &= ~Flag.MISSED
        record = _of(moment, data, kind, MISSED)
        if kind == "log" and moment.when is When.FAILURE:
            moment.post_at_once(records, record)  # in front of what the failure route logs
        else:
            moment.post(records, record)


@accounted.on(When.FAILURE)
def _failed(moment: Moment, data: Accounting) -> None:
    if moment.record.method == "INVITE" and moment.code >= 300:
        _report_missed(moment, data)


@accounted.on(When.COMPLETED)
def _completed(moment: Moment, data: Accounting) -> None:
    if moment.record.method == "CANCEL" and not declared.report_cancels.value:
        return
    failed = moment.code >= 300
    if failed and moment.record.method == "INVITE":
        _report_missed(moment, data)
    for kind in _wanted(data, Flag.FAILED if failed else Flag.ON):
        moment.post(records, _of(moment, data, kind, ANSWERED))


def _early(moment: Moment, data: Accounting) -> None:
    """Early media (early_media)."""
    if moment.code == 183 and not moment.local and moment.message is not None and moment.message.body:
        for kind in _wanted(data, Flag.ON):
            moment.post(records, _of(moment, data, kind, ANSWERED))


def _direction(moment: Moment, data: Accounting) -> None:
    """loose_route() may have come after do_accounting()."""
    if moment.ctx is not None:
        data.upstream = is_upstream(moment.ctx)


@module.on_config
def subscribe() -> None:
    """What only some parameters need."""
    for moment, call, wanted in (
        (When.REPLY_OUT, _early, declared.early_media.value),
        (When.REQUEST_OUT, _direction, declared.detect_direction.value),
    ):
        accounted.callbacks.pop(moment, None)
        if wanted:
            accounted.on(moment)(call)


# --- writing them -----------------------------------------------------------------------------------------------------


class _Insert(db.Query):
    """A record on its way to the database."""

    name = "acc"

    def answer(self, result: db.Result) -> Done:
        return Done(1)


@records.deliver
def write(record: Record, again: bool) -> Operation | int:
    """Write one record to its place."""
    if record.kind == "db":
        try:
            database = declared.database.open()
        except (ConfigError, ValueError):  # said at the start
            return 1
        # files know no names of changes; the others know none of what was written under another name
        return _Insert(database, insert(record, again and database.url.startswith("flatstore:")), once=record.name)
    if record.kind == "log":
        return to_log(record)
    to_event(record)
    return 1


def to_log(record: Record) -> int:
    """Write the line of a record; -1 when there is no room for it now."""
    facility = FACILITIES.get(declared.log_facility.value)
    return 1 if logging.record(declared.log_level.value, line(record), facility) else -1


def to_event(record: Record) -> None:
    """Tell the event of a record."""
    name = event_of(record)
    if events.wanted(name):
        for told in parameters(record):
            events.raise_event(name, told)
