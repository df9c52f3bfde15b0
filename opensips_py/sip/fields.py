"""Looking into a received message (RFC 3261 7).

Header lines have been split when the message was read; what is inside a header is read when somebody asks for it, and kept.

Values that a message lacks, or that cannot be read, are None: it is for the script to refuse such a message. Lists
(``vias``, ``contacts``, ``routes``, ``record_routes``) raise :class:`ParseError` when one of their values cannot be read.
"""

from __future__ import annotations

from opensips_py.sip.cseq import LONGEST_NUMBER, CSeq, parse_cseq
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import LWS, Header, split_values
from opensips_py.sip.lazy import lazy
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr, parse_nameaddrs
from opensips_py.sip.via import Via, parse_via


class Fields:
    """The parts of a received message."""

    raw: bytes
    """The datagram, without line ends before the first line."""
    text: str
    """The same, one character per byte."""
    is_request: bool
    ruri: str = ""
    """Request-URI as received; empty for a reply."""
    version: str
    """``SIP/2.0``, or whatever stands there."""
    status: int = 0
    """Status code of a reply; 0 for a request."""
    reason: str = ""
    """Reason phrase of a reply."""
    body_start: int
    """Offset of the body in ``text``."""
    body_end: int
    """Offset after the body: what a datagram holds beyond Content-Length is not part of it (RFC 3261 18.3)."""
    headers_end: int
    """Offset of the empty line after the headers."""

    _kinds: list[str]
    _parts: list[tuple[str, str, str]]
    _lines: list[str]
    _spans: list[tuple[int, int]] | None = None
    """Start and end of each header in ``text``; None: each line ends with CRLF and nothing is folded."""
    _first_end: int
    """Offset of the first header."""
    via: Via
    """The top Via."""
    content_length: int | None = None
    """The number in Content-Length."""

    @lazy
    def method(self) -> str:
        """Method of a request; for a reply the method in its CSeq (empty when there is none)."""
        cseq = self.cseq
        return "" if cseq is None else cseq.method

    def _span(self, i: int) -> tuple[int, int]:
        """Start and end of header number ``i`` in ``text``."""
        if self._spans is not None:
            return self._spans[i]
        lines = self._lines
        start = self._first_end + sum(map(len, lines[:i])) + 2 * i
        return start, start + len(lines[i]) + 2

    def _header(self, i: int, start: int, end: int) -> Header:
        name, colon, value = self._parts[i]
        stripped = value.lstrip(LWS)
        value_start = start + len(name) + len(colon) + len(value) - len(stripped)
        return Header(name.rstrip(" \t"), self._kinds[i], stripped, start, end, value_start)

    @lazy
    def headers(self) -> list[Header]:
        """All headers as received."""
        found = []
        start = self._first_end
        for i, line in enumerate(self._lines):
            end = start + len(line) + 2
            if self._spans is not None:
                start, end = self._spans[i]
            found.append(self._header(i, start, end))
            start = end
        return found

    def header(self, kind: str) -> Header | None:
        """The first header of a kind (canonical lower-case long name), as received."""
        kinds = self._kinds
        if kind not in kinds:
            return None
        i = kinds.index(kind)
        start, end = self._span(i)
        return self._header(i, start, end)

    def all(self, kind: str) -> list[Header]:
        """All headers of a kind, as received."""
        return [header for header in self.headers if header.kind == kind] if kind in self._kinds else []

    def value(self, kind: str) -> str | None:
        """Value of the first header of a kind; None when there is none."""
        kinds = self._kinds
        return self._parts[kinds.index(kind)][2].lstrip(LWS) if kind in kinds else None

    def values(self, kind: str) -> list[str]:
        """The values of all headers of a kind, lists split at their commas."""
        found: list[str] = []
        for i, k in enumerate(self._kinds):
            if k == kind:
                found += split_values(self._parts[i][2])
        return found

    def has(self, kind: str) -> bool:
        """Whether a header of this kind was received."""
        return kind in self._kinds

    @lazy
    def vias(self) -> list[Via]:
        """All Via values, top first. ParseError when one cannot be read."""
        return [parse_via(value) for value in self.values("via")]

    def _address(self, kind: str) -> NameAddr | None:
        kinds = self._kinds
        if kind not in kinds:
            return None
        try:
            return parse_nameaddr(self._parts[kinds.index(kind)][2])
        except ParseError:
            return None

    @lazy
    def from_(self) -> NameAddr | None:
        """The From header."""
        return self._address("from")

    @lazy
    def to(self) -> NameAddr | None:
        """The To header."""
        return self._address("to")

    @lazy
    def cseq(self) -> CSeq | None:
        """Number and method of the CSeq."""
        value = self.value("cseq")
        return None if value is None else parse_cseq(value)

    @lazy
    def call_id(self) -> str | None:
        """The Call-ID, without white space around it."""
        value = self.value("call-id")
        return None if value is None else value.rstrip(LWS)

    def _number(self, kind: str) -> int | None:
        value = self.value(kind)
        if value is None:
            return None
        value = value.rstrip(LWS)
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None

    @lazy
    def complete(self) -> bool:
        """Whether a request has what a transaction needs (RFC 3261 8.1.1)."""
        kinds = self._kinds
        if not ("from" in kinds and "to" in kinds and "call-id" in kinds):
            return False
        words = (self.value("cseq") or "").split()
        return len(words) == 2 and words[0].isdecimal() and len(words[0]) <= LONGEST_NUMBER

    @lazy
    def max_forwards(self) -> int | None:
        """The number in Max-Forwards."""
        return self._number("max-forwards")

    @lazy
    def content_type(self) -> str | None:
        """The Content-Type header's value without trailing white space."""
        value = self.value("content-type")
        return None if value is None else value.rstrip(LWS)

    @lazy
    def user_agent(self) -> str | None:
        """The User-Agent header's value."""
        return self.value("user-agent")

    def _addresses(self, kind: str) -> list[NameAddr]:
        found: list[NameAddr] = []
        for i, k in enumerate(self._kinds):
            if k == kind:
                found += parse_nameaddrs(self._parts[i][2])
        return found

    @lazy
    def contacts(self) -> list[NameAddr]:
        """Every Contact, over all headers and commas. ParseError when one cannot be read."""
        return self._addresses("contact")

    @lazy
    def routes(self) -> list[NameAddr]:
        """Every Route, over all headers and commas. ParseError when one cannot be read."""
        return self._addresses("route")

    @lazy
    def record_routes(self) -> list[NameAddr]:
        """Every Record-Route, over all headers and commas. ParseError when one cannot be read."""
        return self._addresses("record-route")

    @lazy
    def body(self) -> str:
        """The body as received; a Content-Length larger than what has come is tolerated."""
        return self.text[self.body_start : self.body_end]
