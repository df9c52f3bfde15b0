"""When the shared store runs full: what begins is refused, so that what is under way can come to its end.

Refused are requests that begin something (not ACK, CANCEL, requests in a dialog, retransmissions): 503 with Retry-After, before
the script. It ends by itself when the store has room again.
"""

from __future__ import annotations

from opensips_py.script.context import Context
from opensips_py.server import traffic
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.tm import server_transaction, stateless

RETRY_SECONDS = 10
"""When a refused client should try again."""
RETRY_HEADER = f"Retry-After: {RETRY_SECONDS}\r\n"


def begins(ctx: Context) -> bool:
    """Whether a request begins something."""
    msg = ctx.msg
    to = msg.to
    return msg.method not in ("ACK", "CANCEL") and (to is None or to.tag is None) and server_transaction.find(ctx) is None


def refused(ctx: Context) -> bool:
    """The store was low when it was looked at last: whether this request was refused for it."""
    this.store.look()
    if not this.store.is_low or not begins(ctx):
        return False
    log(ERROR, "core", "receive_msg", "the shared store is nearly full: new requests are answered 503")
    refuse(ctx)
    return True


def refuse(ctx: Context) -> None:
    """Answer a request 503 with Retry-After."""
    traffic.refused_requests.add()
    stateless.send(ctx, 503, "Service Unavailable", RETRY_HEADER)
