"""t_new_request(): a request that a script makes, unrelated to the one that it processes."""

from __future__ import annotations

from opensips_py.modules.tm.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, L, Line, O, R
from opensips_py.script.one_line import one_line
from opensips_py.server.log import ERROR, log
from opensips_py.tm import uac
from opensips_py.tm.uac import LocalRequest, NotSent

CONTEXT_AVP = "uac_ctx"
"""AVP that carries the context string to local_route."""


@module.function(routes=R | F | O | B | L)
def t_new_request(
    ctx: Context,
    method: Line,
    ruri: Line,
    from_address: Line,
    to_address: Line,
    body: str | None = None,
    context: str | None = None,
) -> int:
    """Send a request to ``ruri`` and do not wait for its reply. 1 sent, -1 not.

    The addresses are ``[display ]URI``; ``body`` begins with its content type: ``text/plain Hello``; local_route sees
    ``context`` as ``$avp(uac_ctx)``.
    """
    headers = ""
    if body is not None:
        content_type, blank, body = body.partition(" ")
        if not blank:
            log(ERROR, "tm", "t_new_request", "the body does not begin with a content type and a blank")
            return -1
        headers = f"Content-Type: {one_line(content_type)}\r\n"
    try:
        socket = uac.socket_for(ruri, ctx=ctx)
        uac.send(
            LocalRequest(
                method,
                ruri,
                from_=f"{_address(from_address)};tag={uac.new_tag()}",
                to=_address(to_address),
                call_id=uac.new_call_id(socket),
                headers=headers,
                body=body or "",
                avps={} if context is None else {CONTEXT_AVP: [context]},
            ),
            within=ctx,
        )
    except NotSent as error:
        log(ERROR, "tm", "t_new_request", f"{method} not sent: {error}")
        return -1
    return 1


def _address(text: str) -> str:
    """``[display ]URI`` as the value of From or To."""
    display, _, uri = text.rpartition(" ")
    return f"{display} <{uri}>" if display else f"<{uri}>"
