"""Collecting a response from its bytes (RFC 9112), over httptools' parser.

What a server may send beside the body is limited: headers, informational responses before the final one (RFC 9110 15.2),
extensions of chunks and trailers (RFC 9112 7.1). The parser keeps none of it, but the operation does, to hand it over.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import httptools

_BODYLESS = frozenset((204, 304))
_STATUS_LINE = b"HTTP/"
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"[ \t]*\r?\n[ \t]+")
_LINE_END = re.compile(rb"\r?\n")

PER_BYTE = 8
"""Bytes around the body that are allowed for each of its own: chunks of one byte have five."""


class TooLarge(Exception):
    """The response is larger than allowed; the text says what of it."""


class Limits(NamedTuple):
    """What a response may have, in bytes; 0: any."""

    body: int = 0
    around: int = 0
    """Headers, and what else there is beside the body."""


class Response:
    """One response; also what the parser calls."""

    __slots__ = (
        "_body",
        "_framed",
        "_head",
        "_headers_done",
        "_limits",
        "_parser",
        "_received",
        "_size",
        "complete",
        "content_type",
        "keep_alive",
        "status",
    )

    def __init__(self, limits: Limits) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._limits = limits
        self._head = bytearray()
        """Status line and headers as far as they have come."""
        self._received = 0
        self._body: list[bytes] = []
        self._size = 0
        self._headers_done = False
        self._framed = False
        self.status = 0
        """Status code; 0 before there is one."""
        self.content_type = b""
        self.complete = False
        self.keep_alive = False
        """The connection may be used again."""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when the response is complete.

        Raises httptools.HttpParserError when it is not HTTP, TooLarge when it is longer than the limits.
        """
        self._received += len(data)
        try:
            if self._headers_done or (data := self._take_heads(data)):
                self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, TooLarge):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError:
            if not self.complete:
                raise
            self.keep_alive = False  # whatever comes after the response is no answer to us
        if not self.complete:
            self._check_around()
        return self.complete

    def _take_heads(self, data: bytes) -> bytes:
        """Give the parser whole heads, normalised, of informational responses too; what is left behind the final one."""
        head = self._head
        searched = max(0, len(head) - 2)
        head += data
        while not self._headers_done:
            if head.startswith((b"\r", b"\n")):  # empty lines before a response
                del head[: len(head) - len(head.lstrip(b"\r\n"))]
                searched = 0
            if not head.startswith(_STATUS_LINE[: len(head)]):
                raise httptools.HttpParserError(f"it begins with {bytes(head[:20])!r}")
            end = _END_OF_HEAD.search(head, searched)
            if end is None:
                return b""
            whole = bytes(head[: end.end()])
            del head[: end.end()]
            searched = 0
            self._parser.feed_data(_normalised(whole))
            if self.status < 100:
                raise httptools.HttpParserInvalidStatusError(f"there is no status {self.status:03}")
        # line ends of LF alone around chunks, folds in trailers: what the head has lost already
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_optional_lf_after_cr=True, lenient_headers=True
        )
        rest = bytes(head)
        head.clear()
        return rest

    def _check_around(self) -> None:
        body, around = self._limits
        more = PER_BYTE * self._size
        if self._received - self._size > around + (min(more, body) if body else more) and around:
            raise TooLarge(f"headers and framing around the body are longer than {around} bytes (max_header_size)")

    def end(self) -> bool:
        """The server has closed the connection. True when the response is complete: its body went on until then."""
        self.complete = self.complete or (self._headers_done and not self._framed)
        return self.complete

    @property
    def body(self) -> bytes:
        """The body without white space around it, as scripts get it."""
        return b"".join(self._body).strip(b" \t\r\n")

    # --- called by the parser -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A response begins; a second one after the first is not for us."""
        if self.complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, also of a trailer."""
        if self.complete or self._headers_done:
            return
        size = len(name)
        if size == 12 and name.lower() == b"content-type":
            self.content_type = value
        elif (size == 14 and name.lower() == b"content-length") or (size == 17 and name.lower() == b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """All headers are there."""
        if self.complete:
            return
        self.status = self._parser.get_status_code()
        self._headers_done = self.status >= 200
        if self.status in _BODYLESS:
            self._framed = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            return
        self._size += len(data)
        if self._size > self._limits.body > 0:
            raise TooLarge(f"the body is longer than {self._limits.body} bytes (max_transfer_size, max_body_size)")
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The end; informational responses (RFC 9110 15.2) are followed by the real one."""
        if self.complete or self.status < 200:
            return
        self.complete = True
        self.keep_alive = bool(self._parser.should_keep_alive())


def _normalised(head: bytes) -> bytes:
    """A head without folds (RFC 9112 5.2), with CRLF (2.2), and with one Content-Length where equal ones stand (RFC 9110 8.6)."""
    lines = _LINE_END.split(_FOLD.sub(b" ", head))
    lengths = [number for number, line in enumerate(lines) if line[:15].lower() == b"content-length:"]
    if lengths:
        values = {value.strip() for number in lengths for value in lines[number][15:].split(b",")}
        if len(values) == 1:
            lines[lengths[0]] = b"Content-Length: " + values.pop()
            for number in reversed(lengths[1:]):
                del lines[number]
    return b"\r\n".join(lines)
