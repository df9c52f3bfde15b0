"""Reading the answer to a query as its bytes come (MySQL client/server protocol, text result sets).

An answer is a run of packets: OK, or ERR, or the number of columns, their definitions, EOF, the rows, EOF. With the
"more results" bit another answer follows, which is read and thrown away.
"""

from __future__ import annotations

import struct
import time

from opensips_py.engine.holding import VALUE, Holding

_CONTINUED = 0xFFFFFF
"""Payload size of a packet that goes on in the next one."""
_MORE_RESULTS = 0x0008

_FIRST, _COLUMNS, _COLUMNS_END, _ROWS = range(4)

_INTEGERS = frozenset((1, 2, 3, 9, 13))  # TINY SHORT LONG INT24 YEAR
_BIGINT = 8
_TIMES = frozenset((7, 12))  # TIMESTAMP DATETIME

_MALFORMED = (2027, "malformed packet")
TOO_LARGE = 2008
"""CR_OUT_OF_MEMORY."""
UNUSABLE = frozenset((_MALFORMED[0], TOO_LARGE))
"""Errors that are not the server's: what follows on the connection cannot be understood."""

Cell = str | int | None


class ResultReader:
    """One answer. Feed it until :meth:`feed` returns True. ``holding`` counts what it takes."""

    __slots__ = ("_chunks", "_continued", "_discard", "_have", "_holding", "_left", "_need", "_state", "columns", "error", "rows")

    def __init__(self, holding: Holding | None = None) -> None:
        self._holding = holding or Holding(0, "")
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 4
        self._state = _FIRST
        self._left = 0
        self._continued = b""
        self._discard = False
        self.columns: list[int] = []
        """Types of the columns; empty when the query gave no rows by its nature."""
        self.rows: list[list[Cell]] = []
        self.error: tuple[int, str] | None = None
        """Number and text of the server's error."""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when the answer is complete. Raises TooMuch."""
        self._holding.take(len(data))
        try:
            return self._feed(data)
        except (IndexError, ValueError, OverflowError, struct.error):  # lengths that point nowhere, numbers that cannot be read
            return self._fail(_MALFORMED)

    def _feed(self, data: bytes) -> bool:
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:  # a long row: joined once, not with each piece of it
                return False
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._have = 0
        elif len(data) < 4:
            self._chunks.append(data)
            self._have = len(data)
            return False
        at, size = 0, len(data)
        while size - at >= 4:
            length = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            end = at + 4 + length
            if end > size:
                self._need = end - at
                break
            if length == _CONTINUED:
                self._continued += data[at + 4 : end]
            elif self._continued:
                payload = self._continued + data[at + 4 : end]
                self._continued = b""
                if self._packet(payload, 0, len(payload)):
                    return True
            elif self._packet(data, at + 4, end):
                return True
            at = end
        else:
            self._need = 4
        if at < size:
            self._chunks.append(data[at:])
            self._have = size - at
        return False

    def _packet(self, data: bytes, at: int, end: int) -> bool:
        """One packet; True when it was the last."""
        if at == end:
            return self._fail(_MALFORMED)
        state, head = self._state, data[at]
        if state == _ROWS:
            if head == 0xFE and end - at < 9:
                return self._end(data, at + 3, end)
            if head == 0xFF:
                return self._fail(_error(data[at:end]))
            if not self._discard:
                self.rows.append(self._row(data, at, end))
            return False
        if head == 0xFF:
            return self._fail(_error(data[at:end]))
        if state == _COLUMNS:
            if end - at < 7:
                return self._fail(_MALFORMED)
            if not self._discard:
                self.columns.append(data[end - 6])
            self._left -= 1
            if self._left == 0:
                self._state = _COLUMNS_END
            return False
        if state == _COLUMNS_END:
            self._state = _ROWS
            return False
        if head == 0x00:
            _, at = _number(data, at + 1)
            _, at = _number(data, at)
            return self._end(data, at, end)
        if head == 0xFB:
            return self._fail((2027, "the server asks for a local file"))
        self._left, at = _number(data, at)
        if not self._left or at > end:
            return self._fail(_MALFORMED)
        self._state = _COLUMNS
        return False

    def _end(self, data: bytes, at: int, end: int) -> bool:
        """A result is complete; the server's status stands at ``at``."""
        if at + 2 > end:  # cut short: what follows is not part of it
            return self._fail(_MALFORMED)
        if not data[at] & _MORE_RESULTS:
            return True
        self._state = _FIRST
        self._discard = True
        return False

    def _fail(self, error: tuple[int, str]) -> bool:
        self.error = error
        return True

    def _row(self, data: bytes, at: int, end: int) -> list[Cell]:
        self._holding.take(VALUE * (len(self.columns) + 1))
        row: list[Cell] = []
        for kind in self.columns:
            size = data[at]
            at += 1
            if size == 0xFB:
                row.append(None)
                continue
            if size > 0xFB:
                size, at = _number(data, at - 1)
            if at + size > end:
                raise IndexError
            value = data[at : at + size].decode("latin-1")
            at += size
            row.append(value if kind not in _CONVERTED else _convert(kind, value))
        if at > end:  # fewer values than columns
            raise IndexError
        return row


_CONVERTED = _INTEGERS | _TIMES | {_BIGINT}


def _convert(kind: int, text: str) -> Cell:
    """Integers where a script's 32 bits hold them; points in time as seconds since 1970 (both as OpenSIPS)."""
    if kind in _TIMES:
        try:
            return int(time.mktime(time.strptime(text[:19], "%Y-%m-%d %H:%M:%S")))
        except (ValueError, OverflowError):
            return text
    number = int(text)
    return number if -0x80000000 <= number <= 0x7FFFFFFF else text


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer, and the offset after it, which is beyond the packet when that is cut short."""
    head = data[at]
    if head < 0xFB:
        return head, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(head, 0)
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def _error(packet: bytes) -> tuple[int, str]:
    if len(packet) < 3:
        return _MALFORMED
    (number,) = struct.unpack_from("<H", packet, 1)
    text = packet[3:]
    if text[:1] == b"#":  # SQL state
        text = text[6:]
    return number, text.decode("latin-1")
