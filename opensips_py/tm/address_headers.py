"""From and To under another name, CSeq with another number: replacing them, and giving replies back what the caller knows.

RFC 3261 8.1.1.3 leaves From and To to the caller; a proxy that changes them must undo that for everything that the caller sees.
"""

from __future__ import annotations

import re

from opensips_py.server.log import ERROR, log
from opensips_py.sip.edits import forget_inside
from opensips_py.sip.headers import TOKEN
from opensips_py.sip.message import Header, ParseError, SipMessage, reread
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr
from opensips_py.sip.params import quote
from opensips_py.tm.record import RESTORE_CSEQ, RESTORE_FROM, RESTORE_TO, Record

_KINDS = {RESTORE_FROM: "from", RESTORE_TO: "to"}


def read(msg: SipMessage, kind: str) -> tuple[Header, NameAddr] | None:
    """The header ``from`` or ``to`` and its address; None when it is missing or cannot be read."""
    header = msg.header(kind)
    if header is None:
        return None
    try:
        return header, parse_nameaddr(header.value)
    except ParseError:
        return None


def _length(value: str, address: NameAddr) -> int:
    """How much of the header's value is display name and URI, with the closing bracket."""
    bracket = value.find("<", value.find(address.display) + len(address.display))
    if bracket >= 0 and value.find(address.uri, bracket) >= 0:
        return value.index(">", bracket) + 1
    return value.index(address.uri) + len(address.uri)


def replace(msg: SipMessage, kind: str, display: str | None, uri: str | None) -> bool:
    """Replace display name (empty: remove it) and URI of a header; None leaves one as it is. False when it cannot be read."""
    found = read(msg, kind)
    if found is None:
        return False
    header, address = found
    length = _length(header.value, address)
    display = address.display if display is None else _phrase(display)
    blank = " " if display and header.value[length - 1] == ">" else ""  # a bare URI gets none, as in OpenSIPS
    _put(msg, header, length, f"{display}{blank}<{uri or address.uri}>")
    return True


_quoted = re.compile(r'"(?:[^"\\]|\\.)*"').fullmatch


def _phrase(display: str) -> str:
    """A display name as it may stand in a header: quoted unless it is one word, or quoted already (RFC 3261 25.1)."""
    return display if not display or TOKEN(display) or _quoted(display) else quote(display)


def _put(msg: SipMessage, header: Header, length: int, text: str) -> None:
    start = header.value_start
    forget_inside(msg.edits, start, start + length)
    msg.edits.append((start, length, text))


def set_cseq(msg: SipMessage, number: int) -> bool:
    """Replace the number in CSeq. False when there is none."""
    header = msg.header("cseq")
    words = () if header is None else header.value.split(None, 1)
    if header is None or not words or not words[0].isdecimal():
        return False
    _put(msg, header, len(words[0]), str(number))
    return True


def restore_addresses(rec: Record, n: int, reply: SipMessage) -> None:
    """Give a reply of branch ``n`` the From, To and CSeq of the request as the caller has sent it."""
    request: SipMessage | None = None
    if rec.flags & RESTORE_CSEQ:
        request = reread(rec.raw)
        if request.cseq is not None:
            set_cseq(reply, request.cseq.number)
    for flag, kind in _KINDS.items():
        if not rec.flags & flag:
            continue
        if request is None:
            request = reread(rec.raw)
        sent = reread(rec.branches[n].sent)
        original, ours, theirs = read(request, kind), read(sent, kind), read(reply, kind)
        if original is None or ours is None or theirs is None:
            log(ERROR, "uac", "restore_uris_reply", f"{kind.capitalize()} of a reply cannot be restored")
            continue
        if (ours[1].display, ours[1].uri) == (original[1].display, original[1].uri):
            continue  # this branch goes out unchanged
        value = original[0].value
        _put(reply, theirs[0], _length(theirs[0].value, theirs[1]), value[: _length(value, original[1])])
