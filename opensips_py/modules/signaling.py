"""OpenSIPS module signaling: replies, through the transaction if there is one."""

from __future__ import annotations

from opensips_py.script.context import Context
from opensips_py.script.declarations import E, F, Line, Module, R
from opensips_py.tm import server_transaction, stateless
from opensips_py.tm.transaction import look

module = Module("signaling", doc="One function for stateful and stateless replies (OpenSIPS module signaling)")


@module.function(routes=R | E | F)
def send_reply(ctx: Context, code: int, reason: Line) -> int:
    """Answer the request: with its transaction when there is one, else without state. 1 sent, -1 error."""
    if not 100 <= code <= 699:
        return -1
    if ctx.tx is not None:
        return server_transaction.reply(ctx, code, reason)
    return stateless.send(ctx, code, reason)


@module.variable("sig_local_totag")
def _local_to_tag(ctx: Context, argument: str | None, index: int | str | None) -> str | None:
    """To tag that this server puts, or would put, into a reply to the request."""
    to = ctx.msg.to
    if to is not None and to.tag is not None:
        return to.tag
    if ctx.tx is not None:
        rec = look(ctx.tx)
        return None if rec is None else rec.to_tag
    return stateless.to_tag(ctx.msg)
