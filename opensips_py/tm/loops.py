"""Loops and breadth (RFC 3261 16.3 step 4, RFC 5393): requests that come here again, and how widely they may be forked.

The Vias of a request that has been here name its earlier transactions: our branch parameter is the key of one, and what was
received then is still stored. So nothing has to be computed for requests that leave, and those that come without such a Via
cost next to nothing.

A request is in a loop when it has come before with the same R-URI, Route, tags, Call-ID, CSeq and credentials, and from the same
address (what a script usually decides by); with another R-URI, for example, it only spirals. How many requests may be
made of it in all is Max-Breadth, in the request or as the earlier transaction has shared it out among its branches.
"""

from __future__ import annotations

import re

from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, reread
from opensips_py.tm import identity
from opensips_py.tm.picking import pending
from opensips_py.tm.record import Record, decode
from opensips_py.tm.server_transaction import E_BREADTH, E_LOOP
from opensips_py.tm.settings import settings

_branches = re.compile(rb"branch=(z9hG4bK[0-9a-f]{16}\.[0-9a-f])").finditer
MOST_PASSES = 70
"""Vias that are looked at: as many as a request can have hops (RFC 3261 8.1.1.6)."""


def refused(ctx: Context, rec: Record, number: int) -> int:
    """The internal error for a request that may not go to ``number`` more destinations, or 0. Shares out its breadth."""
    msg = ctx.msg
    kinds = msg._kinds
    first = kinds.index("via")
    if kinds.count("via") == 1 and (msg.via.branch or "")[23:24] != "." and "," not in msg._lines[first]:
        earlier: list[Record] = []
    else:
        earlier = _earlier(ctx)
        if earlier and settings.max_loops and _times(ctx, earlier) >= settings.max_loops:
            return E_LOOP
    given = "max-breadth" in kinds
    if number == 1 and not earlier and not given:
        return 0
    breadth = _breadth(msg, earlier)
    if breadth is None:
        return 0
    number += sum(map(pending, rec.branches))
    if number > breadth:
        return E_BREADTH
    rec.breadth = breadth // number
    header = msg.header("max-breadth")
    if header is not None:
        msg.replace_value(header, str(rec.breadth))
    return 0


def _earlier(ctx: Context) -> list[Record]:
    """The transactions here that the request has been through, the latest first."""
    keys: dict[bytes, None] = {}
    for m in _branches(ctx.msg.raw, 0, ctx.msg.headers_end):
        name = identity.of_branch_id(m[1].decode())
        if name is not None:
            keys[name[0]] = None
        if len(keys) >= MOST_PASSES:
            break
    keys.pop(ctx.tx_key or b"", None)
    return [decode(data) for data in map(this.store.get, keys) if data is not None]


def _times(ctx: Context, earlier: list[Record]) -> int:
    """How often the request has been here as it is now."""
    now = (*_what_decides(ctx.msg), ctx.source.ip, ctx.socket.name)
    return sum((*_what_decides(reread(rec.raw)), rec.ip, rec.socket) == now for rec in earlier)


def _what_decides(msg: SipMessage) -> tuple[object, ...]:
    from_, to = msg.from_, msg.to
    return (
        msg.ruri,
        msg.cseq,
        msg.call_id,
        from_ and from_.tag,
        to and to.tag,
        *((kind, msg.value(kind)) for kind in ("proxy-require", "proxy-authorization", "authorization")),
        *(line for line, kind in zip(msg._lines, msg._kinds, strict=True) if kind == "route"),
    )


def _breadth(msg: SipMessage, earlier: list[Record]) -> int | None:
    """How many requests may be made of this one at a time; None: any number."""
    limits = [settings.max_breadth] if settings.max_breadth else []
    text = (msg.value("max-breadth") or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        limits.append(int(text))
    limits += [rec.breadth for rec in earlier[:1] if rec.breadth]
    return min(limits, default=None)
