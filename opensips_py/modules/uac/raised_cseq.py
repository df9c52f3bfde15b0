"""Dialogs in which a challenge was answered here (uac_auth): all that follows keeps a higher number in CSeq.

A request that is sent again with credentials has a number one higher (RFC 3261 22.2), and later ones must go on from there
(12.2.1.1), so the callee knows everything by a higher number than the caller, who sees its own again in replies. How much higher
stands in our Record-Route when the request that begins the dialog was challenged; for one that was challenged later, when
the route set cannot change any more, in the shared store.
"""

from __future__ import annotations

from hashlib import blake2b

from ipc.prefixes import prefix
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.tm import rows
from opensips_py.tm.address_headers import set_cseq
from opensips_py.tm.forking import RECORD_FLAGS
from opensips_py.tm.record import RESTORE_CSEQ

PARAMETER = "aci"
"""Parameter of Record-Route, as in OpenSIPS (logged by it as "getting 'aci' Route param")."""
PREFIX = prefix(b"a", "how much higher CSeq is in a dialog with answered challenges", __name__)
SECONDS = 43200.0
"""How long a dialog is remembered after a challenge in it: the longest call of OpenSIPS' module dialog, by default."""
HIGHEST = (1 << 31) - 1
"""RFC 3261 8.1.1.5."""
MOST = 1000

RAISED = "cseq.raised"
"""Slot of a Context: how much higher the number of its request is when it leaves."""


def _key(msg: SipMessage) -> bytes:
    """Of the dialog, for requests of this direction."""
    from_, to = msg.from_, msg.to
    tags = f"{from_.tag if from_ else ''} {to.tag if to else ''}"
    return PREFIX + blake2b(f"{tags} {msg.call_id}".encode("latin-1"), digest_size=16).digest()


def follow(ctx: Context, of_route: str | None) -> None:
    """Raise the number of a request in a dialog as far as earlier ones of this direction were. ``of_route``: what Route says."""
    msg = ctx.msg
    to = msg.to
    if to is None or to.tag is None or RAISED in ctx.slots:
        return
    kept = this.store.get(_key(msg))
    if kept is not None:
        _raise(ctx, int.from_bytes(kept, "big"))
    elif of_route is not None and of_route.isascii() and of_route.isdigit() and len(of_route) < 4:
        _raise(ctx, int(of_route))


def answer_challenge(ctx: Context) -> int:
    """The request is sent again with credentials: one higher. Gives the whole difference to the number of its sender."""
    by: int = ctx.slots.get(RAISED, 0) + 1
    _raise(ctx, by)
    msg = ctx.msg
    if msg.to is not None and msg.to.tag is not None:
        key = _key(msg)
        with this.store.batch() as batch:
            batch.put(key, min(by, MOST).to_bytes(2, "big"))
            batch.put(rows.row(this.clock.now() + SECONDS, key), rows.DELETE)
    return by


def _raise(ctx: Context, by: int) -> None:
    cseq = ctx.msg.cseq
    if by and cseq is not None and cseq.number + by <= HIGHEST and set_cseq(ctx.msg, cseq.number + by):
        ctx.slots[RAISED] = by
        ctx.slots[RECORD_FLAGS] = ctx.slots.get(RECORD_FLAGS, 0) | RESTORE_CSEQ
