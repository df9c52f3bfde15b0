"""Where messages begin and end in a stream (RFC 3261 7.5, 18.3): TCP, and TLS, which carries the same bytes.

What is read goes in with :meth:`Framer.receive`, messages come out of :meth:`Framer.next` one by one. A message ends where its
Content-Length says; on a stream there is no other end. Line ends before a message are not part of it: a single one is
nothing, two together are the ping of RFC 5626 3.5.1.

A stream whose messages cannot be told apart any more cannot be gone on with: :class:`FramingError` is the end of it.
"""

from __future__ import annotations

import re

MAX_MESSAGE = 65535
"""Longest message in bytes, as in OpenSIPS."""

PING = b"\r\n\r\n"
"""Given by :meth:`Framer.next` for a keep-alive that wants an answer."""
PONG = b"\r\n"
"""The answer to it."""

_line_ends = re.compile(rb"(?:(?!\r\n\r\n|\r(?:\n\r?)?\Z)[\r\n])*").match
"""Line ends up to a ping, or to what may become one."""
_length = re.compile(rb"\n(?:content-length|l)[ \t]*+:(?:[ \t]|\r?\n[ \t])*([^\r\n]*)", re.IGNORECASE).findall


class FramingError(Exception):
    """The stream cannot be gone on with."""

    def __init__(self, code: int, reason: str, head: bytes = b"") -> None:
        super().__init__(reason)
        self.code = code
        """Status of the reply, if one can be sent."""
        self.reason = reason
        self.head = head
        """First line and headers of the message at fault with the empty line; empty when its headers have no end."""


class Framer:
    """Splits one stream into messages. Every byte is looked at a fixed number of times, however it comes."""

    __slots__ = ("_buffer", "_need", "_seen", "_start", "chunks", "received")

    def __init__(self, rest: bytes = b"") -> None:
        """``rest``: what another framer of the stream had left."""
        self._buffer = bytearray(rest)
        self._start = 0
        """Where in the buffer the first message begins: what is before it has been given out."""
        self._seen = 0
        """No end of headers begins before this offset."""
        self._need = 0
        """The message at the front cannot be whole before the buffer is so long."""
        self.chunks = 0
        """In how many pieces the unfinished message at the front has come so far."""
        self.received = len(rest)
        """Bytes taken so far."""

    @property
    def rest(self) -> bytes:
        """What no message has been made of yet."""
        return bytes(self._buffer[self._start :])

    @property
    def left(self) -> int:
        """Bytes of :attr:`rest`."""
        return len(self._buffer) - self._start

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return self.chunks > 0 and len(self._buffer) > self._start

    def receive(self, data: bytes) -> None:
        """Take what has been read."""
        if self._start:
            self._drop()
        self._buffer += data
        self.received += len(data)
        self.chunks += 1

    def _drop(self) -> None:
        """Forget what has been given out."""
        start = self._start
        del self._buffer[:start]
        self._seen = max(0, self._seen - start)
        self._need = max(0, self._need - start)
        self._start = 0

    def next(self) -> bytes | None:
        """The next message, or :data:`PING`; None: more has to be read first. Raises FramingError."""
        buffer = self._buffer
        length = len(buffer)
        if length == self._start or length < self._need:
            return None
        if buffer[self._start] in b"\r\n":
            if self._skip_line_ends():
                return PING
            if self._start == length or buffer[self._start] == 0x0D:
                return None
        start = self._start
        end = self._end_of_headers(start)
        if end is None or end - start > MAX_MESSAGE:
            if length - start > MAX_MESSAGE:
                raise FramingError(400, f"no end of the headers in {MAX_MESSAGE} bytes")
            return None
        total = end + self._body_length(start, end)
        if length < total:
            self._need = total
            self._seen = max(start, end - 4)
            return None
        message = bytes(buffer[start:total])
        self._need = 0
        self._start = self._seen = total
        self.chunks = 1
        if length == total:
            buffer.clear()
            self._start = self._seen = self.chunks = 0
        return message

    def _end_of_headers(self, start: int) -> int | None:
        """Offset after the empty line; None: it has not come yet."""
        buffer = self._buffer
        seen = max(start, self._seen)
        end = buffer.find(b"\n\r\n", seen)
        bare = buffer.find(b"\n\n", seen, end + 1 if end >= 0 else len(buffer))
        if bare >= 0:
            return bare + 2
        if end >= 0:
            return end + 3
        self._seen = max(start, len(buffer) - 2)
        return None

    def _skip_line_ends(self) -> bool:
        """Take line ends off the front, however they are cut. True: they are a ping."""
        buffer = self._buffer
        skipped = _line_ends(buffer, self._start)
        assert skipped is not None  # it matches the empty string
        start = self._start = skipped.end()
        if buffer.startswith(PING, start):
            self._start = start + 4
            self.chunks = 1
            return True
        if start == len(buffer) or buffer[start] == 0x0D:  # half a ping, or a keep-alive that wants no answer
            self.chunks = 0
        return False

    def _body_length(self, start: int, end: int) -> int:
        given = _length(self._buffer, start, end)
        if not given:
            raise FramingError(400, "no Content-Length", bytes(self._buffer[start:end]))
        text = given[0].strip(b" \t")
        if not text.isdigit() or len(text) > 19 or any(other.strip(b" \t") != text for other in given[1:]):
            raise FramingError(400, "bad Content-Length", bytes(self._buffer[start:end]))
        length = int(text)
        if end - start + length > MAX_MESSAGE:
            raise FramingError(513, "Message Too Large", bytes(self._buffer[start:end]))
        return length
