"""SIP messages: reading them, and recording changes to them (RFC 3261 7).

The text of a message is its bytes, one character each (latin-1). :func:`parse` splits the header lines once and checks
only what no message can do without: the first line, the top Via, To, CSeq, Content-Length, ends of quoted strings. What is
received is never changed: changes are edits (see ``edits.py``), so that what nobody touches leaves byte for byte as it came.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import NoReturn

from opensips_py.sip.cseq import METHODS
from opensips_py.sip.edits import Deleted, Edit, apply, deletes, forget_inside, forget_inside_all
from opensips_py.sip.errors import ParseError
from opensips_py.sip.fields import Fields
from opensips_py.sip.headers import KINDS, LWS, TOKEN, Header, quotes_balanced, split_values
from opensips_py.sip.nameaddr import parse_nameaddr
from opensips_py.sip.via import Via, parse_sent, parse_via

__all__ = ["METHODS", "Edit", "Header", "ParseError", "SipMessage", "note_source", "parse", "reread"]

_ADDRESS_KINDS = frozenset(("from", "to", "contact", "route", "record-route"))

LONGEST_VIA = 16384
"""Bytes of a header with several Via values: a request with a longer one can hardly be answered."""

_LENGTHS = {f" {length}": length for length in range(2048)}
"""Content-Length as it usually follows the colon: looking it up costs a quarter of checking and converting it."""


class SipMessage(Fields):
    """One received message and the changes to be made to it. Made by :func:`parse`."""

    source: tuple[str, int] | None = None
    """Address and port that the message came from (see :func:`note_source`)."""
    force_rport: bool = False
    """Answer to the source port although the top Via has no ``rport`` (script function force_rport)."""

    edits: list[Edit]
    """Changes to be made when the message is sent."""

    def append_header(self, lines: str) -> None:
        """Add header lines (each with its CRLF) after the last header."""
        self.edits.append((self.headers_end, 0, lines))

    def insert_header(self, lines: str, before: str | None = None) -> None:
        """Add header lines before the first header, or before the first of kind ``before`` if there is one."""
        offset = self._first_end
        if before is not None:
            header = self.header(before)
            if header is not None:
                offset = header.start
        self.edits.append((offset, 0, lines))

    def remove_header(self, header: Header) -> None:
        """Remove a header, and what was changed in it."""
        if not deletes(self.edits, header.start):
            forget_inside(self.edits, header.start, header.end)
            self.edits.append((header.start, header.end - header.start, ""))

    def replace_value(self, header: Header, text: str) -> None:
        """Replace the value of a header. Nothing happens when the header has been removed."""
        if not deletes(self.edits, header.start):
            forget_inside(self.edits, header.value_start, header.value_start + len(header.value))
            self.edits.append((header.value_start, len(header.value), text))

    def change_headers(self, changes: list[tuple[Header, str | None]]) -> None:
        """Remove headers (None), or replace their values; the headers are in the order of the message.

        For any number of them: :meth:`remove_header` and :meth:`replace_value` look through all edits each time.
        """
        gone = Deleted(self.edits)
        made: list[Edit] = []
        for header, text in changes:
            if header.start in gone:
                continue
            if text is None:
                made.append((header.start, header.end - header.start, ""))
            else:
                made.append((header.value_start, len(header.value), text))
        forget_inside_all(self.edits, [(offset, offset + length) for offset, length, _ in made])
        self.edits += made

    def replace_body(self, text: str) -> None:
        """Replace the body; Content-Length follows by itself."""
        self.edits = [edit for edit in self.edits if edit[0] < self.body_start]
        self.edits.append((self.body_start, len(self.text) - self.body_start, text))

    def pending_body(self) -> str:
        """The body as it will be sent."""
        edits = [edit for edit in self.edits if edit[0] >= self.body_start]
        return apply(self.text, edits, self.body_start, self.body_end) if edits else self.body

    def final_edits(self, edits: list[Edit]) -> list[Edit]:
        """``edits`` and, when they change the body, the edit that corrects Content-Length."""
        body_start = self.body_start
        for offset, _, _ in edits:
            if offset >= body_start:
                break
        else:
            return edits
        of_body = [edit for edit in edits if edit[0] >= body_start]
        length = len(apply(self.text, of_body, body_start, self.body_end))
        header = self.header("content-length")
        if header is None or deletes(edits, header.start):
            return [*edits, (self.headers_end, 0, f"Content-Length: {length}\r\n")]
        edits = list(edits)
        forget_inside(edits, header.value_start, header.value_start + len(header.value))
        return [*edits, (header.value_start, len(header.value), str(length))]

    def serialise(self) -> bytes:
        """The message with its edits made; exactly ``raw`` when there are none."""
        if not self.edits:
            return self.raw
        edits = self.final_edits(self.edits)
        end = self.body_end if edits is not self.edits else None
        return apply(self.text, edits, 0, end).encode("latin-1")


def note_source(msg: SipMessage, ip: str, port: int) -> None:
    """Record where ``msg`` came from: replies and forwarded requests mark their top Via accordingly (RFC 3261 18.2.1)."""
    msg.source = (ip, port)


_name = itemgetter(0)
_kind = KINDS.__getitem__


class BadMessage(ParseError):
    """A message that is not SIP but can be answered with ``code``.

    ``message`` is the request as far as it could be read: it has what a reply needs, a request line and a usable top Via
    (RFC 3261 8.2.6).
    """

    def __init__(self, reason: str, message: SipMessage, code: int = 400) -> None:
        super().__init__(reason, code)
        self.message = message


def parse(raw: bytes) -> SipMessage:
    """Read a message.

    Raises :class:`ParseError` for what is not SIP: no SIP version in the first line, no top Via that can be read, header
    lines without a name, no empty line, a To, CSeq or Content-Length that is not one, quoted strings without end.
    """
    text = raw.decode("latin-1")
    head, empty_line, _ = text.partition("\r\n\r\n")
    lines = head.split("\r\n")
    bare_line_end = "\n" in "".join(lines)
    first = lines.pop(0)
    if not empty_line or not first or bare_line_end:
        return _parse_carefully(raw)
    parts = [line.partition(":") for line in lines]
    try:
        kinds = list(map(_kind, map(_name, parts)))
    except ParseError:  # a folded line, or one that is not a header
        return _parse_carefully(raw)
    msg = SipMessage()
    msg.raw = raw
    msg.text = text
    msg._lines = lines
    msg._parts = parts
    msg._kinds = kinds
    msg._first_end = len(first) + 2
    msg.edits = []
    msg.headers_end = end = len(head) + 2
    msg.body_start = end + 2
    msg.body_end = len(text)
    known = _STATUS_LINES.get(first)
    if known is not None:
        msg.is_request = False
        msg.version, msg.status, msg.reason = known
    else:
        words = first.split(" ")
        if len(words) == 3 and words[0] in METHODS and words[2] == "SIP/2.0":
            msg.is_request = True
            msg.method, msg.ruri, msg.version = words
        else:
            _read_first_line(msg, first)
    _check(msg)
    return msg


_STATUS_LINES: dict[str, tuple[str, int, str]] = {}
"""Version, status and reason of status lines that have been read: peers keep sending the same."""
_REMEMBERED_LINES, _LONGEST_LINE = 1024, 64


def _read_first_line(msg: SipMessage, line: str) -> None:
    words = line.split(" ")
    if len(words) == 3 and words[2][:4] == "SIP/":
        method, msg.ruri, msg.version = words
        if method not in METHODS and not TOKEN(method):
            raise ParseError(f"bad method {method[:40]!r}")
        msg.is_request = True
        msg.method = method
    elif words[0][:4].upper() == "SIP/":
        msg.is_request = False
        msg.version = words[0]
        status = words[1] if len(words) > 1 else ""
        if len(status) != 3 or not (status.isascii() and status.isdigit()) or not "100" <= status < "700":
            raise ParseError(f"bad status line {line[:60]!r}")
        msg.status = int(status)
        msg.reason = " ".join(words[2:])
        if len(line) <= _LONGEST_LINE:
            if len(_STATUS_LINES) >= _REMEMBERED_LINES:
                _STATUS_LINES.clear()
            _STATUS_LINES[line] = msg.version, msg.status, msg.reason
    else:
        _read_odd_request_line(msg, line)


def _read_odd_request_line(msg: SipMessage, line: str) -> None:
    """A request line that is not METHOD SP URI SP VERSION: white space in wrong places, or no SIP at all."""
    words = line.split()
    if len(words) < 3 or words[-1][:4].upper() != "SIP/" or TOKEN(words[0]) is None:
        raise ParseError(f"not a SIP message: first line {line[:60]!r}")
    msg.is_request = True
    msg.method = words[0]
    msg.ruri = " ".join(words[1:-1])
    msg.version = words[-1]
    if len(words) != 3 or line.rstrip(" \t") != " ".join(words):
        _refuse(msg, "white space in the request line")
    # only blanks after the version, or "sip/2.0" in lower case: OpenSIPS takes it


def _check(msg: SipMessage) -> None:
    """What every message needs, whatever is done with it."""
    kinds = msg._kinds
    parts = msg._parts
    if "via" not in kinds:
        raise ParseError("no Via")
    value = parts[kinds.index("via")][2]
    if "," in value or "(" in value:
        if len(value) > LONGEST_VIA:
            raise ParseError("Via too long")
        _check_vias(msg, value)
    else:
        sent, _, tail = value.partition(";")
        try:
            msg.via = Via(value.strip(LWS), parse_sent(sent), tail.rstrip(LWS))
        except ParseError as error:
            _refuse_via(msg, error, value)
    if "content-length" in kinds:
        value = parts[kinds.index("content-length")][2]
        length = _LENGTHS.get(value)
        if length is None:
            number = value.strip(LWS)
            if not (number.isascii() and number.isdigit()) or len(number) > 19:
                _refuse(msg, f"bad Content-Length {number[:40]!r}")
            length = int(number)
        msg.content_length = length
        if msg.body_start + length < msg.body_end:
            msg.body_end = msg.body_start + length
    if "to" in kinds and _usual_to(parts[kinds.index("to")][2]) is None:
        _check_to(msg, parts[kinds.index("to")][2])
    if "cseq" in kinds and _usual_cseq(parts[kinds.index("cseq")][2]) is None:
        _refuse(msg, f"bad CSeq {parts[kinds.index('cseq')][2].strip()[:40]!r}")
    if '"' in msg.text and msg.text.find('"', 0, msg.headers_end) >= 0:
        _check_quotes(msg)


def _check_vias(msg: SipMessage, value: str) -> None:
    """Several Via values in the first header, or comments in it."""
    try:
        for text in reversed(split_values(value)):
            msg.via = parse_via(text)
    except ParseError as error:
        _refuse_via(msg, error, value)


_usual_to = re.compile(
    r"""(?:[ \t]*"[^"\\]*"[ \t]*|[^"<>;,\\]*)<[^<>"\s]+>[ \t]*(?:;(?![Tt][Aa][Gg]=(?:;|$))[^";,<>\s]+)*[ \t]*"""
).fullmatch
_usual_cseq = re.compile(r"\s*\S+\s+\S+\s*").fullmatch
"""Two words; that the first is a number is asked later, as in OpenSIPS."""


def _check_to(msg: SipMessage, value: str) -> None:
    """A To that is not of the usual form: OpenSIPS reads it on reception, and so drops the message of one that is broken."""
    try:
        to = parse_nameaddr(value)
    except ParseError as error:
        _refuse(msg, f"bad To: {error.reason}")
    if to.tag == "":
        _refuse(msg, "bad To: the tag is empty")
    if len(split_values(value)) != 1:
        _refuse(msg, "several addresses in To")


def _check_quotes(msg: SipMessage) -> None:
    for line, kind in zip(msg._lines, msg._kinds, strict=True):
        if '"' in line and kind in _ADDRESS_KINDS and line.count('"') & 1 and not quotes_balanced(line.partition(":")[2]):
            _refuse(msg, f"quoted string does not end in {kind}")


def _refuse(msg: SipMessage, reason: str) -> NoReturn:
    """Refuse a message, which can be answered when it is a request other than ACK with a usable Via."""
    if msg.is_request and msg.method != "ACK" and "via" in msg._kinds:
        try:
            msg.via = parse_via(msg.values("via")[0])
        except ParseError:
            raise ParseError(reason) from None
        raise BadMessage(reason, msg)
    raise ParseError(reason)


def _refuse_via(msg: SipMessage, error: ParseError, value: str) -> NoReturn:
    """Refuse a message whose Via cannot be read. One of another SIP version can be answered (RFC 3261 21.5.6)."""
    if error.code == 505 and msg.is_request and msg.method != "ACK":
        top = split_values(value)[0]
        name, version, rest = top.split("/", 2)
        try:
            via = parse_via(f"{name}/2.0/{rest}")
        except ParseError:
            raise error from None
        via.value = top
        msg.via = via
        raise BadMessage(f"version {version.strip(LWS)} is not supported", msg, 505)
    raise error


def _parse_carefully(raw: bytes) -> SipMessage:
    """:func:`parse` for messages with folded lines or line ends other than CRLF, and for those with bad header lines."""
    raw = raw.lstrip(b"\r\n")  # keep-alives, and RFC 3261 7.5: line ends before the first line are ignored
    if not raw:
        raise ParseError("empty message")
    text = raw.decode("latin-1")
    msg = SipMessage()
    msg.raw = raw
    msg.text = text
    msg.edits = []
    msg.body_end = len(text)
    first, complete = _split_lines(msg)
    bad = ""
    for i, (name, colon, _) in enumerate(msg._parts):
        try:
            if not colon:
                raise ParseError(f"header line without a colon: {name[:40]!r}")
            msg._kinds.append(KINDS[name])
        except ParseError as error:
            bad = bad or error.reason
            msg._parts[i] = ("", "", "")
            msg._kinds.append("")
    _read_first_line(msg, first)
    if bad:
        _refuse(msg, bad)
    if not complete:
        _refuse(msg, "no empty line after the headers")
    _check(msg)
    return msg


def reread(raw: bytes) -> SipMessage:
    """Read a message that was taken before, or was made here from one: never raises.

    What is stored may look worse than what was received, because headers were taken off, or a script has added its own: a quote
    that had its counterpart elsewhere, a line without a colon, no Via.
    """
    try:
        return parse(raw)
    except BadMessage as error:
        return error.message
    except ParseError:
        return _take_as_it_is(raw)


_NOWHERE = "SIP/2.0/UDP 0.0.0.0"
"""In the place of a Via that cannot be read."""


def _take_as_it_is(raw: bytes) -> SipMessage:
    msg = SipMessage()
    msg.raw = raw
    msg.text = raw.decode("latin-1")
    msg.edits = []
    msg.body_end = len(msg.text)
    first, _ = _split_lines(msg)
    msg._kinds = [_kind_or_none(name) if colon else "" for name, colon, _ in msg._parts]
    words = first.split(" ")
    msg.is_request = words[0][:4].upper() != "SIP/"
    if msg.is_request:
        msg.method, msg.ruri, msg.version = words[0], " ".join(words[1:-1]), words[-1]
    else:
        msg.version, msg.reason = words[0], " ".join(words[2:])
        status = words[1] if len(words) > 1 else ""
        msg.status = int(status) if len(status) == 3 and status.isascii() and status.isdigit() else 500
    try:
        msg.via = parse_via(msg.values("via")[0])
    except (ParseError, IndexError):
        msg.via = parse_via(_NOWHERE)
    return msg


def _kind_or_none(name: str) -> str:
    try:
        return KINDS[name]
    except ParseError:
        return ""


def _split_lines(msg: SipMessage) -> tuple[str, bool]:
    """Split the header lines at CRLF or LF and join folded ones (RFC 3261 7.3.1).

    Returns the first line, and whether there is an empty line after the headers.
    """
    text = msg.text
    length = len(text)
    spans: list[tuple[int, int]] = []
    stops: list[int] = []
    first: str | None = None
    position = 0
    complete = False
    while position < length and not complete:
        start = position
        newline = text.find("\n", start)
        position = length if newline < 0 else newline + 1
        stop = length if newline < 0 else newline
        if stop > start and text[stop - 1] == "\r":
            stop -= 1
        if first is None:
            first = text[start:stop]
            msg._first_end = position
        elif stop == start:
            complete = True
            msg.headers_end = start
        elif text[start] in " \t" and spans:
            spans[-1] = (spans[-1][0], position)
            stops[-1] = stop
        else:
            spans.append((start, position))
            stops.append(stop)
    if not complete:
        msg.headers_end = length
    msg.body_start = position
    msg._lines = lines = [text[start:stop] for (start, _), stop in zip(spans, stops, strict=True)]
    msg._spans = spans
    msg._parts = [line.partition(":") for line in lines]
    msg._kinds = []
    return first or "", complete
