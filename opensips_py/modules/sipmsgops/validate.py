"""``sipmsg_validate()``: is the message what RFC 3261 asks for?"""

from __future__ import annotations

from opensips_py.modules.sipmsgops.declared import module
from opensips_py.script.context import Context, ValueRefused
from opensips_py.script.declarations import B, F, O, R, Var
from opensips_py.sip import multipart, sdp, validity
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import SipMessage
from opensips_py.sip.uri import uri_or_none

BAD_HEADER, NO_CALL_ID, NO_CONTENT_LENGTH, BAD_BODY, BAD_SDP = -2, -3, -4, -5, -6
NO_REASON = -255
"""``reason`` cannot be written."""
NO_CSEQ, NO_FROM, NO_TO, BAD_VIA, BAD_RURI, NO_MAX_FORWARDS, NO_CONTACT = -7, -8, -9, -10, -11, -13, -14

_WITH_CONTACT = frozenset(("INVITE", "SUBSCRIBE", "REFER", "UPDATE"))
"""Methods whose requests must have a Contact (RFC 3261 20.10, RFC 6665, 3515, 3311)."""

Verdict = tuple[int, str]
"""Return code, and what is wrong in words."""


@module.function(routes=R | O | F | B)
def sipmsg_validate(ctx: Context, flags: str | None = None, reason: Var | None = None) -> int:
    """1, or a negative code for what is wrong, with a text in ``reason``.

    Without flags: what every message must have, and that the body is as long as Content-Length says; another message after it
    in the same datagram is ignored (RFC 3261 18.3). Flags: ``s`` the SDP, ``h`` that the headers can be read, ``r`` the R-URI,
    ``f`` and ``t`` the URIs of From and To, ``m`` Max-Forwards may be missing. A request of RFC 2543 (no
    ``z9hG4bK`` in its Via) needs neither Max-Forwards nor Contact.

    ``h`` and ``r`` together hold the message to RFC 3261 (ours): no blanks around the request line, the CSeq's method that of the
    request, no repeated headers that are not lists, numbers and dates within their ranges and forms; -2 otherwise.
    """
    code, text = _judge(ctx, flags or "")
    if code < 0 and reason is not None:
        try:
            reason.set(ctx, text)
        except ValueRefused:
            return NO_REASON
    return code


def _judge(ctx: Context, flags: str) -> Verdict:
    msg = ctx.msg
    wrong = _body_length(msg, ctx.source.proto) or _missing(msg, flags)
    if wrong is None and "h" in flags:
        wrong = _headers(msg, strictly="r" in flags)
    if wrong is None:
        wrong = _uris(msg, flags)
    if wrong is None and "s" in flags and msg.body:
        description = multipart.content_of(msg.body, msg.content_type or "", "application/sdp")
        if description is not None and not sdp.is_valid(description):
            wrong = BAD_SDP, "failed to parse SDP message"
    return wrong or (1, "")


def _body_length(msg: SipMessage, proto: str) -> Verdict | None:
    if msg.call_id is None:
        return NO_CALL_ID, ""
    actual = len(msg.text) - msg.body_start
    length = msg.content_length
    if length is None:
        return (NO_CONTENT_LENGTH, "") if actual and proto != "udp" else None  # a datagram has an end (RFC 3261 18.3)
    if length != actual and not (length < actual and validity.holds_another_message(msg)):
        return BAD_BODY, f"invalid body - content length {length} different than actual body {actual}\n"
    return None


def _missing(msg: SipMessage, flags: str) -> Verdict | None:
    """Headers that every message must have."""
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
    if not msg.is_request or not validity.is_rfc3261(msg):
        return None
    if msg.max_forwards is None and "m" not in flags:
        return NO_MAX_FORWARDS, ""
    if msg.method in _WITH_CONTACT and not msg.has("contact"):
        return NO_CONTACT, ""
    return None


def _headers(msg: SipMessage, strictly: bool) -> Verdict | None:
    wrong = validity.unreadable(msg)
    if wrong is None and strictly:
        wrong = validity.fault(msg)
    return None if wrong is None else (BAD_HEADER, wrong)


def _uris(msg: SipMessage, flags: str) -> Verdict | None:
    if "r" in flags and msg.is_request and uri_or_none(msg.ruri) is None:
        return BAD_RURI, f"bad R-URI {msg.ruri}"
    if "f" in flags and msg.from_ is not None and uri_or_none(msg.from_.uri) is None:
        return NO_FROM, f"bad URI in From: {msg.from_.uri}"
    if "t" in flags and msg.to is not None and uri_or_none(msg.to.uri) is None:
        return NO_TO, f"bad URI in To: {msg.to.uri}"
    return None
