"""Replies made here (RFC 3261 8.2.6)."""

from __future__ import annotations

from opensips_py.sip.edits import Edit, apply
from opensips_py.sip.headers import LWS
from opensips_py.sip.message import SipMessage
from opensips_py.sip.via import mark_source

DEFAULT_SERVER = "Server: opensips-py"


def build_reply(
    msg: SipMessage,
    code: int,
    reason: str,
    *,
    to_tag: str | None = None,
    headers: str = "",
    body: str = "",
    server: str = DEFAULT_SERVER,
) -> bytes:
    """A reply to request ``msg``, with its headers in the order of OpenSIPS.

    ``to_tag`` is put into To when it has none. ``headers`` are further header lines, each with its CRLF (Contact,
    Content-Type of ``body`` …). ``server`` is the whole Server header without CRLF, or empty for none. Record-Route is
    copied into 180 to 299 (RFC 3261 12.1.1), Timestamp into 100 (8.2.6.1). A header that the request lacks is left out.
    """
    kinds = msg._kinds
    lines = msg._lines
    source = msg.source
    via = lines[kinds.index("via")]
    if source is not None and (msg.via.host != source[0] or msg.force_rport or not msg.via.plain):
        via = _marked_via(msg, via)
    if kinds.count("via") > 1:
        for i in range(kinds.index("via") + 1, len(kinds)):
            if kinds[i] == "via":
                via += "\r\n" + lines[i]
    try:
        to = lines[kinds.index("to")]
        rest = f"{lines[kinds.index('from')]}\r\n{lines[kinds.index('call-id')]}\r\n{lines[kinds.index('cseq')]}\r\n"
    except ValueError:
        to, rest = _what_there_is(msg)
    if to_tag and (to[-1:] == ">" or (msg.to is not None and msg.to.tag is None)):
        to = f"{to};tag={to_tag}"
    if 180 <= code < 300:
        if "record-route" in kinds:
            for kind, line in zip(kinds, lines, strict=True):
                if kind == "record-route":
                    via = f"{via}\r\n{line}"
    elif code == 100 and "timestamp" in kinds:
        rest += lines[kinds.index("timestamp")] + "\r\n"
    if "\n" in reason or "\r" in reason:  # from a folded header, by a script
        reason = " ".join(reason.split())
    if server:
        headers = f"{headers}{server}\r\n"
    return (f"SIP/2.0 {code} {reason}\r\n{via}\r\n{to}\r\n{rest}{headers}Content-Length: {len(body)}\r\n\r\n{body}").encode(
        "latin-1"
    )


def _marked_via(msg: SipMessage, line: str) -> str:
    """The top Via line with ``received`` and ``rport``."""
    assert msg.source is not None
    via = msg.via
    marked = mark_source(via, *msg.source, msg.force_rport)
    return line if marked is via.value else line.replace(via.value, marked, 1)


def _what_there_is(msg: SipMessage) -> tuple[str, str]:
    """To, and From, Call-ID and CSeq, of a request that lacks some of them."""
    kinds = msg._kinds
    found = {kind: msg._lines[kinds.index(kind)] + "\r\n" for kind in ("to", "from", "call-id", "cseq") if kind in kinds}
    rest = "".join(found.get(kind, "") for kind in ("from", "call-id", "cseq"))
    if "to" in found:
        return found["to"][:-2], rest
    first, _, others = rest.partition("\r\n")
    return first, others


def strip_top_via(reply: SipMessage, edits: list[Edit] | None = None) -> bytes:
    """A received reply as it goes on to the next hop: without its top Via value, otherwise untouched, and with its edits.

    ``edits`` replaces ``reply.edits`` when given.
    """
    text = reply.text
    i = reply._kinds.index("via")
    start, end = reply._span(i)
    if "," in reply._parts[i][2]:
        value = reply.via.value
        value_start = text.index(value, start)
        behind = text.find(",", value_start + len(value), end)
        if behind >= 0:
            start, end = value_start, behind + 1
            while text[end] in LWS:
                end += 1
    changes = reply.edits if edits is None else edits
    if not changes:
        return f"{text[:start]}{text[end : reply.body_end]}".encode("latin-1")
    changes = [(start, end - start, ""), *reply.final_edits(changes)]
    return apply(text, changes, 0, reply.body_end).encode("latin-1")
