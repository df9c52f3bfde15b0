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

_end = re.compile(rb"\r?\n\r?\n").search
_length = re.compile(rb"\n(?:content-length|l)[ \t]*:(?:[ \t]|\r?\n[ \t])*([^\r\n]*)", re.IGNORECASE).findall


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
    """Splits one stream into messages."""

    __slots__ = ("_buffer", "_need", "chunks")

    def __init__(self, rest: bytes = b"") -> None:
        """``rest``: what another framer of the stream had left."""
        self._buffer = rest
        self._need = 0
        """The message at the front cannot be whole before the buffer is so long."""
        self.chunks = 0
        """In how many pieces the unfinished message at the front has come so far."""

    @property
    def rest(self) -> bytes:
        """What no message has been made of yet."""
        return self._buffer

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return self.chunks > 0 and bool(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take what has been read."""
        self._buffer = self._buffer + data if self._buffer else data
        self.chunks += 1

    def next(self) -> bytes | None:
        """The next message, or :data:`PING`; None: more has to be read first. Raises FramingError."""
        buffer = self._buffer
        if not buffer or len(buffer) < self._need:
            return None
        if buffer[0] in b"\r\n":
            if self._skip_line_ends():
                return PING
            buffer = self._buffer
            if buffer[:1] in (b"", b"\r"):
                return None
        end = buffer.find(b"\r\n\r\n") + 4
        if end == 3 or buffer.find(b"\n\n", 0, end) >= 0:
            found = _end(buffer)
            if found is None:
                if len(buffer) > MAX_MESSAGE:
                    raise FramingError(400, f"no end of the headers in {MAX_MESSAGE} bytes")
                return None
            end = found.end()
        total = end + self._body_length(buffer[:end])
        if len(buffer) < total:
            self._need = total
            return None
        self._need = 0
        if len(buffer) == total:
            self._buffer = b""
            self.chunks = 0
            return buffer
        self._buffer = buffer[total:]
        self.chunks = 1
        return buffer[:total]

    def _skip_line_ends(self) -> bool:
        """Take line ends off the front. True: they are a ping."""
        buffer = self._buffer
        if buffer[:4] == PING:
            self._buffer = buffer[4:]
            self.chunks = 1
            return True
        if PING.startswith(buffer):  # half a ping, or a keep-alive that wants no answer
            self.chunks = 0
        else:
            self._buffer = buffer.lstrip(b"\r\n")
        return False

    @staticmethod
    def _body_length(head: bytes) -> int:
        given = _length(head)
        if not given:
            raise FramingError(400, "no Content-Length", head)
        text = given[0].strip(b" \t")
        if not text.isdigit() or len(text) > 19 or any(other.strip(b" \t") != text for other in given[1:]):
            raise FramingError(400, "bad Content-Length", head)
        length = int(text)
        if len(head) + length > MAX_MESSAGE:
            raise FramingError(513, "Message Too Large", head)
        return length
