"""OpenSIPS module maxfwd: the Max-Forwards header, which ends loops of requests (RFC 3261 16.3, 16.6)."""

from __future__ import annotations

from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, Module, R
from opensips_py.sip.edits import deletes
from opensips_py.sip.headers import LWS
from opensips_py.sip.message import Header, SipMessage

module = Module("maxfwd", doc="Max-Forwards check (OpenSIPS module maxfwd)")

HIGHEST = 256

max_limit = module.param("max_limit", int, HIGHEST, doc="highest value sent on (1 to 256); larger ones are lowered to it")


@module.on_check
@module.on_config
def _configure() -> None:
    if not 1 <= max_limit.value <= HIGHEST:
        raise ConfigError(f"maxfwd: max_limit is a number from 1 to {HIGHEST}, not {max_limit.value}")


@module.function(routes=R)
def mf_process_maxfwd_header(ctx: Context, limit: int) -> int:
    """Count one hop: decrement Max-Forwards, or add the header with the value ``limit`` (1 to 256).

    1 decremented; 2 added; -1 it has reached zero, the request must not go on (answer 483), or ``limit`` is negative; -2 not a
    number, or a bad limit.
    """
    if limit < 0:
        return -1
    msg = ctx.msg
    header = msg.header("max-forwards")
    if header is None or (msg.edits and deletes(msg.edits, header.start)):
        if not 1 <= limit <= HIGHEST:
            return -2
        msg.insert_header(f"Max-Forwards: {limit}\r\n")
        return 2
    value = _number(_pending(msg, header) if msg.edits else header.value)
    if value is None:
        return -2
    if value == 0:
        return -1
    highest = max_limit.value
    text = str(value - 1 if value <= highest else highest)
    if msg.edits:
        msg.replace_value(header, text)
    else:
        msg.edits.append((header.value_start, len(header.value), text))
    return 1


@module.function(routes=R | F | B)
def is_maxfwd_lt(ctx: Context, limit: int) -> int:
    """Whether Max-Forwards is below ``limit``: 1 yes, 2 there is no such header, -1 no, -2 not a number or a bad limit."""
    if not 1 <= limit <= HIGHEST:
        return -2
    msg = ctx.msg
    header = msg.header("max-forwards")
    if header is None or deletes(msg.edits, header.start):
        return 2
    value = _number(_pending(msg, header))
    if value is None:
        return -2
    return 1 if value < limit else -1


def _pending(msg: SipMessage, header: Header) -> str:
    """The value that will be sent: an earlier call has lowered it."""
    for offset, delete, text in msg.edits:
        if delete and offset == header.value_start:
            return text
    return header.value


def _number(text: str) -> int | None:
    text = text.rstrip(LWS)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
