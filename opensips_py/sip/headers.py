"""Header fields: names, kinds, and lists of values (RFC 3261 7.3, 20).

A header's *kind* is its long name in lower case, so that ``v``, ``Via`` and ``VIA`` are all ``via``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from opensips_py.sip.errors import ParseError

LWS = " \t\r\n"
"""What linear white space may consist of, folding included."""

TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+").fullmatch
"""Matches a token (RFC 3261 25.1)."""

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""Compact forms (IANA's SIP registry). ``s`` for Subject is missing on purpose: for OpenSIPS, ``$hdr(Subject)`` does
not find ``s:``."""

_NAMES = (
    "Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Authentication-Info Authorization "
    "Call-ID Call-Info Contact Content-Disposition Content-Encoding Content-Language Content-Length Content-Type CSeq Date "
    "Diversion Error-Info Event Expires From Geolocation History-Info Identity Identity-Info In-Reply-To Join Max-Forwards "
    "MIME-Version Min-Expires Min-SE Organization P-Access-Network-Info P-Asserted-Identity P-Called-Party-ID "
    "P-Charging-Vector P-Preferred-Identity P-Visited-Network-ID Path Priority Privacy Proxy-Authenticate "
    "Proxy-Authorization Proxy-Require RAck Reason Record-Route Refer-To Referred-By Reject-Contact Remote-Party-ID Replaces "
    "Reply-To Request-Disposition Require Retry-After Route RSeq Server Service-Route Session-Expires SIP-ETag SIP-If-Match "
    "Subject Subscription-State Supported Timestamp To Unsupported User-Agent Via Warning WWW-Authenticate"
)

_REMEMBERED_NAMES = 4096


class _Kinds(dict[str, str]):
    """Kind by header name as it stands before the colon.

    The usual spellings are there from the start; others are checked once and remembered, up to a bound, since
    names come from the network.
    """

    def __missing__(self, name: str) -> str:
        bare = name.rstrip(" \t")
        if TOKEN(bare) is None:
            raise ParseError(f"bad header name {name[:40]!r}")
        kind = bare.lower()
        kind = _CANONICAL.get(kind) or COMPACT.get(kind, kind)
        if len(self) < _REMEMBERED_NAMES and len(name) <= 64:
            self[name] = kind
        return kind


_CANONICAL = {name.lower(): name.lower() for name in _NAMES.split()}
KINDS = _Kinds()
for _name in _NAMES.split():
    _kind = _CANONICAL[_name.lower()]
    KINDS[_name] = KINDS[_name.lower()] = KINDS[_name.upper()] = KINDS[_name.title()] = _kind
for _name, _kind in COMPACT.items():
    KINDS[_name] = KINDS[_name.upper()] = _CANONICAL.setdefault(_kind, _kind)


def kind_of(name: str) -> str:
    """The kind of a header with this name, for callers that have a name from a script. Never fails."""
    kind = KINDS.get(name)
    if kind is None:
        kind = name.strip(" \t").lower()
        kind = COMPACT.get(kind, kind)
    return kind


class Header(NamedTuple):
    """One header field as received.

    ``value`` begins after the colon and white space, and keeps folding and trailing blanks. ``start`` and ``end`` are
    offsets into the message's text: the first character of the name, and after the line end.
    """

    name: str
    kind: str
    value: str
    start: int
    end: int
    value_start: int

    @property
    def value_end(self) -> int:
        """Offset after the value."""
        return self.value_start + len(self.value)


# Possessive groups "(...)*+" would say that nothing is tried twice, but those of Python 3.11.2 are wrong: what the last, failing
# round of the group has consumed stays consumed. Possessive sets "[...]*+" are right.
QUOTED = r'"(?:[^"\\]++|\\.)*(?:"|\\?\Z)'
"""Matches a quoted string; one that never ends reaches to the end."""
_part_of_value = re.compile(rf'(?:[^",<(]++|{QUOTED}|<[^>]*+(?:>|\Z))*', re.DOTALL).match
"""Matches up to the next comma or comment."""
_parenthesis = re.compile(r"[()]").finditer


def split_values(text: str) -> list[str]:
    """The values of a comma-separated header; commas in quotes, ``<>`` and comments do not count (RFC 3261 7.3.1).

    Values come without surrounding white space; an empty one stays, as ``""``.
    """
    if "," not in text:
        return [text.strip(LWS)]
    if '"' not in text and "<" not in text and "(" not in text:
        return [value.strip(LWS) for value in text.split(",")]
    values = []
    start = at = 0
    length = len(text)
    comments: dict[int, int] | None = None
    while True:
        part = _part_of_value(text, at)
        assert part is not None  # it matches the empty string
        at = part.end()
        if at == length:
            break
        if text[at] == ",":
            values.append(text[start:at].strip(LWS))
            start = at = at + 1
        else:
            if comments is None:
                comments = _comments(text)
            at = comments.get(at, at + 1)
    values.append(text[start:].strip(LWS))
    return values


def _comments(text: str) -> dict[int, int]:
    """Where each comment that begins somewhere ends; found in one pass, because a sender may open thousands."""
    ends = {}
    opened = []
    for parenthesis in _parenthesis(text):
        at = parenthesis.start()
        if at and text[at - 1] == "\\":
            continue
        if parenthesis[0] == "(":
            opened.append(at)
        elif opened:
            ends[opened.pop()] = at + 1
    return ends


def skip_comment(text: str, i: int) -> int:
    """The offset after the comment that begins at ``i``; one that never ends reaches to the next character only."""
    depth = 0
    for parenthesis in _parenthesis(text, i):
        at = parenthesis.start()
        if at and text[at - 1] == "\\":
            continue
        depth += 1 if parenthesis[0] == "(" else -1
        if depth == 0:
            return at + 1
    return i + 1


_balanced = re.compile(r'(?:[^"]++|"(?:[^"\\]++|\\.)*")*', re.DOTALL).fullmatch


def quotes_balanced(text: str) -> bool:
    """Whether every quoted string in a header value ends."""
    return _balanced(text) is not None
