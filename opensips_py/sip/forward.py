"""Requests that leave: forwarded ones (RFC 3261 16.6), and the ACK and CANCEL that go with them (17.1.1.3, 9.1)."""

from __future__ import annotations

from opensips_py.sip.edits import Edit, apply, deletes
from opensips_py.sip.message import SipMessage
from opensips_py.sip.via import mark_source

DEFAULT_USER_AGENT = "User-Agent: opensips-py"

MAX_FORWARDS = 70
"""Max-Forwards of requests made here (RFC 3261 8.1.1.6)."""


def build_forward(msg: SipMessage, *, via: str, ruri: str | None = None, edits: list[Edit] | None = None) -> bytes:
    """Request ``msg`` as it goes on to ``ruri`` (default: the one received), with its edits made.

    ``via`` is our Via line without CRLF; it goes before the received ones, of which the top one is marked with the address
    that the request came from (see :func:`~opensips_py.sip.message.note_source`). ``edits`` replaces ``msg.edits`` when
    given: each branch has its own. What a datagram holds beyond Content-Length does not go on.
    """
    text = msg.text
    body_end = msg.body_end
    first_end = msg._first_end
    start = msg._span(msg._kinds.index("via"))[0]
    value_end = value_start = start
    marked = ""
    source = msg.source
    if source is not None and (msg.via.host != source[0] or msg.force_rport or not msg.via.plain):
        value = msg.via.value
        value_start = text.index(value, start)
        value_end = value_start + len(value)
        marked = mark_source(msg.via, *source, msg.force_rport, rport_first=True)
    changes = msg.edits if edits is None else edits
    if changes:
        changes = msg.final_edits(changes)
        ours = [(start, 0, f"{via}\r\n")]
        if marked and not deletes(changes, value_start):
            ours.append((value_start, value_end - value_start, marked))
        rest = apply(text, [*changes, *ours], first_end, body_end)
    else:
        rest = f"{text[first_end:start]}{via}\r\n{text[start:value_start]}{marked}{text[value_end:body_end]}"
    return f"{msg.method} {msg.ruri if ruri is None else ruri} {msg.version}\r\n{rest}".encode("latin-1")


def build_ack(
    invite: SipMessage, reply: SipMessage, *, ruri: str, via: str, routes: str = "", user_agent: str = DEFAULT_USER_AGENT
) -> bytes:
    """The ACK to a negative reply to an INVITE that was sent to ``ruri`` with ``via`` as its top Via line (RFC 3261 17.1.1.3).

    ``via`` has no CRLF; ``routes`` are the Route lines of the INVITE as sent, each with its CRLF; ``user_agent`` is a whole
    header without CRLF, or empty.
    """
    to = _line(reply, "to") or _line(invite, "to")
    return _local(invite, "ACK", ruri, via, to, routes, "", user_agent)


def build_cancel(
    invite: SipMessage, *, ruri: str, via: str, routes: str = "", headers: str = "", user_agent: str = DEFAULT_USER_AGENT
) -> bytes:
    """The CANCEL of an INVITE that was sent to ``ruri`` with ``via`` as its top Via line (RFC 3261 9.1).

    ``headers`` are further header lines (Reason), each with its CRLF; the rest is as in :func:`build_ack`.
    """
    return _local(invite, "CANCEL", ruri, via, _line(invite, "to"), routes, headers, user_agent)


def _line(msg: SipMessage, kind: str) -> str:
    """First header line of a kind with its CRLF; empty when there is none."""
    kinds = msg._kinds
    return msg._lines[kinds.index(kind)] + "\r\n" if kind in kinds else ""


def _local(invite: SipMessage, method: str, ruri: str, via: str, to: str, routes: str, headers: str, user_agent: str) -> bytes:
    cseq = invite.cseq
    number = 0 if cseq is None else cseq.number
    agent = f"{user_agent}\r\n" if user_agent else ""
    return (
        f"{method} {ruri} SIP/2.0\r\n{via}\r\n{_line(invite, 'from')}{_line(invite, 'call-id')}{to}"
        f"CSeq: {number} {method}\r\n{routes}Max-Forwards: {MAX_FORWARDS}\r\n{headers}{agent}Content-Length: 0\r\n\r\n"
    ).encode("latin-1")
