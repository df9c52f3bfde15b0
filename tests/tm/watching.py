"""A module that counts, tags and times transactions: all that it needs is in this one file."""

from __future__ import annotations

import msgspec

from opensips_py.module_api import ALL, Context, Module, Moment, Outbox, TransactionData, When

module = Module("watching", doc="Counts, tags and times transactions")
counted = module.statistic("completed", doc="transactions that were completed")


class Watch(msgspec.Struct):
    """What is kept with a transaction."""

    tag: str = ""
    seen: list[str] = []


class Line(msgspec.Struct):
    """What is written of it at its end."""

    method: str
    code: int
    tag: str
    seen: list[str]


watches = TransactionData(module, Watch)
lines = Outbox(module, Line)
written: list[Line] = []


@module.function(routes=ALL)
def watch(ctx: Context, tag: str) -> bool:
    """Watch this transaction under a name."""
    with watches.change(ctx) as data:
        data.tag = tag
    return True


@watches.on(When.REQUEST_OUT)
def tag_request(moment: Moment, data: Watch) -> None:
    """Tell the next hop."""
    assert moment.message is not None
    moment.message.append_header(f"X-Tag: {data.tag}.{moment.branch}\r\n")


@watches.on(When.REPLY_OUT)
def tag_reply(moment: Moment, data: Watch) -> None:
    """Tell the caller."""
    assert moment.message is not None
    moment.message.append_header(f"X-Tag: {data.tag}\r\n")


@watches.on(When.REPLY_IN, When.FAILURE, When.CANCELLED, When.ACK_IN, When.COMPLETED, When.DELETED)
def note(moment: Moment, data: Watch) -> None:
    """Keep what has happened, and when, with the transaction."""
    data.seen.append(f"{moment.when.value} {moment.code}")
    if moment.when is When.COMPLETED:
        counted.add()
        moment.post(lines, Line(moment.record.method, moment.code, data.tag, data.seen))


@lines.deliver
def write(line: Line, again: bool) -> None:
    """Write a line; a second time only if the first was not written."""
    if not (again and line in written):
        written.append(line)
