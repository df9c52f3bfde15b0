"""OpenSIPS module acc: records of transactions in the log, in a database, as events.

``do_accounting("log|db", "missed|failed")`` says of a request what is to be recorded of its transaction; the record is written
when the final reply goes to the caller. :mod:`~opensips_py.modules.acc.accounting` has what holds for records.
"""

from __future__ import annotations

from typing import Annotated

from opensips_py import db
from opensips_py.engine.operation import Done
from opensips_py.modules.acc.accounting import Accounting, accounted, note_request, requested, to_event, to_log
from opensips_py.modules.acc.declared import NO_DATABASE, NO_DIALOGS, Asked, Has, database, extras, legs, module
from opensips_py.modules.acc.flags import KINDS, Flag, Refused, flags_fault, flags_of, kinds_fault, kinds_of
from opensips_py.modules.acc.records import REQUEST, comment_of, insert
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import B, Doubt, F, L, R
from opensips_py.script.variables import Registry
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this

__all__ = ["module"]


def _types_fault(text: str, registry: Registry) -> str | None:
    fault = kinds_fault(text, registry)
    if fault is None and "db" in kinds_of(text):
        Asked.db = True
        return None if Has.database else Doubt(NO_DATABASE)
    return fault


def _flags_fault(text: str, registry: Registry) -> str | None:
    fault = flags_fault(text, registry)
    if fault is None and flags_of(text) & Flag.CDR:
        Asked.cdr = True
        return None if Has.dialogs else Doubt(NO_DIALOGS)
    return fault


Types = Annotated[str, "str", _types_fault]
Flags = Annotated[str, "str", _flags_fault]


@module.function(routes=R | F | B | L)
def do_accounting(ctx: Context, types: Types, flags: Flags | None = None, table: str | None = None) -> int:
    """Account the transaction of the request: a record of each type (``log``, ``db``, ``evi``, joined by ``|``) when it is
    answered.

    ``flags``: ``failed``, negative replies too; ``missed``, a record when a call fails, once until it is asked for again;
    ``cdr``, one record of the whole call instead (needs module dialog). ``table``: in place of that of ``db_table_acc``.
    Calls add up. 1, or -1 when there is no such type or flag.
    """
    try:
        kinds = kinds_of(types)
        wanted = Flag.ON | (flags_of(flags) if flags else Flag(0))
    except Refused as error:
        log(ERROR, "acc", "do_accounting", str(error))
        return -1
    with accounted.change(ctx) as data:
        for kind in kinds:
            data.flags[kind] = data.flags.get(kind, 0) | wanted
        data.created = data.created or this.clock.now()
        note_request(data, ctx)
        if table:
            data.table = table
    return 1


@module.function(routes=R | F | B | L)
def drop_accounting(ctx: Context, types: Types | None = None, flags: Flags | None = None) -> int:
    """Account no more: nothing, no record of some types, or only less with them (``flags``).

    1, or -1 before do_accounting() and when there is no such type or flag.
    """
    try:
        kinds = kinds_of(types) if types else KINDS
        dropped = flags_of(flags) if flags else ~Flag(0)
    except Refused as error:
        log(ERROR, "acc", "drop_accounting", str(error))
        return -1
    if accounted.get(ctx) is None:
        log(ERROR, "acc", "drop_accounting", "do_accounting() has not been called: nothing is accounted")
        return -1
    with accounted.change(ctx) as data:
        for kind in kinds:
            data.flags[kind] = data.flags.get(kind, 0) & ~dropped
    return 1


@module.function(routes=R | F | B | L)
def acc_log_request(ctx: Context, comment: str) -> int:
    """Write a record of the request to the log now. ``comment``: ``404 Not Found``, or a reason alone. 1 always."""
    to_log(requested(ctx, "log", REQUEST, *comment_of(comment)))
    return 1


@module.function(routes=R | F | B | L)
def acc_evi_request(ctx: Context, comment: str) -> int:
    """Raise E_ACC_EVENT for the request now, E_ACC_MISSED_EVENT if ``comment`` begins with 300 or more. 1 always."""
    to_event(requested(ctx, "evi", REQUEST, *comment_of(comment)))
    return 1


class AccDbRequest(db.Query):
    """A record that the script waits for."""

    name = "acc_db_request"

    def answer(self, result: db.Result) -> Done:
        return Done(1)


@module.operation(routes=R | F | B | L)
def acc_db_request(ctx: Context, comment: str, table: str) -> AccDbRequest | int:
    """Write a record of the request into a table now. ``comment``: ``404 Not Found``, or a reason alone.

    1 written, -1 the database does not take it.
    """
    if not database.url:
        log(ERROR, "acc", "acc_db_request", "there is no database: set db_url")
        return -1
    record = requested(ctx, "db", REQUEST, *comment_of(comment), table)
    return AccDbRequest(database.open(), insert(record))


@module.function(routes=R | F | B | L)
def acc_new_leg(ctx: Context) -> int:
    """Begin a new leg of the call: from now on `$acc_leg(…)` is about that one. 1 always."""
    with accounted.change(ctx) as data:
        data.legs.append({})
    return 1


# --- variables --------------------------------------------------------------------------------------------------------


def _write_extra(ctx: Context, tag: str | None, index: int | str | None, value: Value) -> None:
    with accounted.change(ctx) as data:
        _put(data.extras, "acc_extra", tag, extras.tags, value)


@module.variable("acc_extra", argument="required", write=_write_extra)
def acc_extra(ctx: Context, tag: str | None, index: int | str | None) -> Value:
    """A further field of records (parameter ``extra_fields``), before do_accounting() too."""
    data = accounted.get(ctx)
    return None if data is None else data.extras.get((tag or "").strip())


def _write_leg(ctx: Context, tag: str | None, index: int | str | None, value: Value) -> None:
    with accounted.change(ctx) as data:
        leg = _leg(data, index)
        if leg is None:
            log(ERROR, "acc", "acc_leg", f"there is no leg {index}: {len(data.legs)} so far")
            return
        _put(leg, "acc_leg", tag, legs.tags, value)


@module.variable("acc_leg", argument="required", write=_write_leg)
def acc_leg(ctx: Context, tag: str | None, index: int | str | None) -> Value:
    """A further field of the current leg (parameter ``leg_fields``), or of the one with an index: 0 the first, -1 the last."""
    data = accounted.get(ctx)
    leg = None if data is None else _leg(data, index)
    return None if leg is None else leg.get((tag or "").strip())


@module.variable("acc_current_leg")
def acc_current_leg(ctx: Context, argument: str | None, index: int | str | None) -> Value:
    """Number of the current leg; the first is 0. NULL before anything is accounted."""
    data = accounted.get(ctx)
    return None if data is None else len(data.legs) - 1


def _leg(data: Accounting, index: int | str | None) -> dict[str, str] | None:
    number = index if isinstance(index, int) else -1
    return data.legs[number] if -len(data.legs) <= number < len(data.legs) else None


def _put(values: dict[str, str], variable: str, tag: str | None, tags: tuple[str, ...], value: Value) -> None:
    name = (tag or "").strip()
    if name not in tags:
        log(ERROR, "acc", variable, f"${variable}({name}) is not declared; there are {', '.join(tags) or 'none'}")
    elif value is None:
        values.pop(name, None)
    else:
        values[name] = str(value)
