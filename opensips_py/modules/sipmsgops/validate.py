"""``sipmsg_validate()``: is the message what RFC 3261 asks for?"""

from __future__ import annotations

from opensips_py.modules.sipmsgops.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, O, R, Var
from opensips_py.sip.errors import ParseError
from opensips_py.sip.uri import uri_or_none

NO_CALL_ID, NO_CONTENT_LENGTH, BAD_BODY, BAD_SDP = -3, -4, -5, -6
NO_CSEQ, NO_FROM, NO_TO, BAD_VIA, BAD_RURI, NO_MAX_FORWARDS, NO_CONTACT = -7, -8, -9, -10, -11, -13, -14

_WITH_CONTACT = frozenset(("INVITE", "SUBSCRIBE", "REFER", "UPDATE"))
"""Methods whose requests must have a Contact (RFC 3261 20.10, RFC 6665, 3515, 3311)."""


@module.function(routes=R | O | F | B)
def sipmsg_validate(ctx: Context, flags: str | None = None, reason: Var | None = None) -> int:
    """1, or a negative code for what is wrong, with a text in ``reason``.

    Flags: ``s`` the SDP, ``r`` the R-URI, ``f`` the URIs of From and To; ``h`` (headers) is always looked at.
    """
    code, text = _judge(ctx, flags or "")
    if code < 0 and reason is not None:
        reason.set(ctx, text)
    return code


def _judge(ctx: Context, flags: str) -> tuple[int, str]:
    msg = ctx.msg
    if msg.call_id is None:
        return NO_CALL_ID, ""
    actual = len(msg.text) - msg.body_start
    length = msg.content_length
    if length is None and actual:
        return NO_CONTENT_LENGTH, ""
    if length is not None and length != actual:
        return BAD_BODY, f"invalid body - content length {length} different than actual body {actual}\n"
    if msg.cseq is None:
        return NO_CSEQ, ""
    if msg.from_ is None:
        return NO_FROM, ""
    if msg.to is None:
        return NO_TO, ""
    try:
        msg.vias  # noqa: B018  (reading it is the check)
    except ParseError as error:
        return BAD_VIA, error.reason
    if msg.is_request and msg.max_forwards is None:
        return NO_MAX_FORWARDS, ""
    if msg.is_request and msg.method in _WITH_CONTACT and not msg.has("contact"):
        return NO_CONTACT, ""
    if "r" in flags and msg.is_request and uri_or_none(msg.ruri) is None:
        return BAD_RURI, f"bad R-URI {msg.ruri}"
    if "f" in flags and uri_or_none(msg.from_.uri) is None:
        return NO_FROM, f"bad URI in From: {msg.from_.uri}"
    if "f" in flags and uri_or_none(msg.to.uri) is None:
        return NO_TO, f"bad URI in To: {msg.to.uri}"
    kind = (msg.content_type or "").partition(";")[0].strip().lower()
    if "s" in flags and kind == "application/sdp" and not _is_sdp(msg.body):
        return BAD_SDP, "failed to parse the SDP message"
    return 1, ""


def _is_sdp(body: str) -> bool:
    """Whether a body is a session description: lines of ``x=…``, the first one ``v=`` (RFC 4566 5)."""
    lines = [line.rstrip("\r") for line in body.split("\n") if line.strip("\r")]
    return bool(lines) and lines[0].startswith("v=") and all(len(line) > 1 and line[1] == "=" for line in lines)
