"""The message that routes see which run without one: report routes of launch(), timer and startup routes.

OpenSIPS gives them this dummy request (``async.c``, ``dummy_msg``); scripts can tell it by its method.
"""

from __future__ import annotations

from opensips_py.engine.continuation import Detached
from opensips_py.script.context import Context, RouteKind, Source
from opensips_py.server.process import this
from opensips_py.sip.message import parse

_DUMMY = (
    b"DUMMY sip:user@dummy.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKdummy\r\n"
    b"From: <sip:from@dummy.com>;tag=1\r\n"
    b"To: <sip:to@dummy.com>\r\n"
    b"Call-ID: dummy-1\r\n"
    b"CSeq: 1 DUMMY\r\n\r\n"
)

_SOURCE = Source("0.0.0.0", 0, "")
"""It came from nowhere."""
_NOTHING_FOLLOWS = Detached()


def report_context(kind: RouteKind = RouteKind.REQUEST) -> Context:
    """A context of its own, with no AVPs and no transaction, over the dummy request."""
    ctx = Context(parse(_DUMMY), _SOURCE, this.sockets[0], kind, q=0)
    ctx.continuation = _NOTHING_FOLLOWS
    return ctx
