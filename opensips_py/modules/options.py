"""OpenSIPS module options: answering OPTIONS for this server itself (RFC 3261 11.2)."""

from __future__ import annotations

from opensips_py.script.context import Context
from opensips_py.script.declarations import Module, R
from opensips_py.server.log import ERROR, log
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import msg_translator, server_transaction, stateless

module = Module("options", doc="Answering OPTIONS (OpenSIPS module options)")

accept = module.param("accept", str, "*/*", doc="Accept header of the answer: bodies that are understood")
accept_encoding = module.param("accept_encoding", str, "", doc="Accept-Encoding header")
accept_language = module.param("accept_language", str, "en", doc="Accept-Language header")
support = module.param("support", str, "", doc="Supported header")


@module.function(routes=R)
def options_reply(ctx: Context) -> int:
    """Answer an OPTIONS for this server with 200 and what it can do, without the headers that are empty. The script ends.

    -1 for another method, for a R-URI with a user (it is for somebody else), and when no answer could be sent.
    """
    msg = ctx.msg
    if msg.method != "OPTIONS":
        log(ERROR, "options", "options_reply", "called for a request that is not an OPTIONS")
        return -1
    uri = uri_or_none(ctx.ruri)
    if uri is None or uri.user:
        log(ERROR, "options", "options_reply", "the R-URI has a user: this OPTIONS is not for the server")
        return -1
    lines = "".join(
        f"{name}: {parameter.value}\r\n"
        for name, parameter in (
            ("Accept", accept),
            ("Accept-Encoding", accept_encoding),
            ("Accept-Language", accept_language),
            ("Supported", support),
        )
        if parameter.value
    )
    slots = ctx.slots
    slots[msg_translator.REPLY_HEADERS] = slots.get(msg_translator.REPLY_HEADERS, "") + lines
    sent = server_transaction.reply(ctx, 200, "OK") if ctx.tx is not None else stateless.send(ctx, 200, "OK")
    return min(sent, 0)
