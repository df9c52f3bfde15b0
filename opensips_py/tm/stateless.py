"""Stateless replies (OpenSIPS module sl) and the ACKs that answer them."""

from __future__ import annotations

from opensips_py.net import destinations
from opensips_py.net.tcp import tuning
from opensips_py.script.context import Context
from opensips_py.script.declarations import Module
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.tm import identity, msg_translator
from opensips_py.tm.settings import settings

module = Module("sl", doc="Stateless replies (OpenSIPS module sl)")

_classes = [module.statistic(f"{n}xx_replies", doc=f"stateless replies with status {n}xx") for n in range(1, 7)]
_sent = module.statistic("sent_replies", doc="stateless replies")
_sent_errors = module.statistic("sent_err_replies", doc="stateless replies sent by sl_reply_error()")
_acks = module.statistic("received_ACKs", doc="ACKs for stateless replies, absorbed")


SENT = "sl.sent"
"""Slot of a Context: its request has been answered without state."""


class Switch:
    """Parameters of module sl."""

    statistics = True


def to_tag(msg: SipMessage) -> str:
    """To tag of stateless replies to ``msg``."""
    via = msg.via
    return identity.stateless_to_tag(via.branch or "", via.sent_by)


def is_own_ack(msg: SipMessage) -> bool:
    """Whether an ACK answers a stateless reply of ours (RFC 3261 17.1.1.3: same branch): nothing is left to do."""
    to = msg.to
    tag = None if to is None else to.tag
    if tag is None or not identity.may_be_stateless_to_tag(tag) or tag != to_tag(msg):
        return False
    _acks.add()
    return True


def send(ctx: Context, code: int, reason: str, headers: str = "") -> int:
    """Answer a request without state, with more ``headers`` (lines): 1, or -1 when it could not be sent.

    An ACK is never answered (1).
    """
    msg = ctx.msg
    if msg.method == "ACK":
        return 1
    data = msg_translator.reply(ctx, code, reason, to_tag=to_tag(msg) if code > 100 else None, headers=headers)
    if 0 < settings.max_reply_factor * len(msg.raw) < len(data) and ctx.socket.proto == "udp":
        log(
            WARNING,
            "sl",
            "sl_reply",
            f"a reply of {len(data)} bytes to {len(msg.raw)} bytes from {ctx.source.ip} is not sent: max_reply_factor",
        )
        return -1
    host, port = destinations.reply_address(ctx)
    send_it = this.send_open if ctx.flags & tuning.open_reply_flag else this.send
    if not send_it(ctx.socket, data, host, port):
        return -1
    ctx.slots[SENT] = True
    if Switch.statistics:
        _sent.add()
        _classes[code // 100 - 1].add()
    return 1


def send_error(ctx: Context, code: int, reason: str) -> int:
    """:func:`send` for an internal error."""
    if Switch.statistics:
        _sent_errors.add()
    return send(ctx, code, reason)
