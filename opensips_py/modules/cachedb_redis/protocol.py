"""What is said to a Redis server: commands and replies (RESP), and the login."""

from __future__ import annotations

import binascii
from typing import Any, NamedTuple

import hiredis

from opensips_py.clients.service.description import ServiceError
from opensips_py.engine.holding import VALUE, Holding


def command(*words: bytes) -> bytes:
    """One command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


_HEAD = 256
"""Bytes that the beginning of the replies is known from."""


_LONGEST_LINE = 65_536
"""Bytes of a status, an error or a number."""
_DEEPEST = 8
"""Arrays within arrays."""


class _Shape:
    """Follows what is received from length to length, before the parser, which would make room for whatever is announced."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._line = b""
        """The beginning of a line."""
        self._skip = 0
        """Bytes of a text that are still to come."""
        self._open: list[int] = []
        """Elements that are still to come, of each array that is not complete."""

    def follow(self, data: bytes) -> None:
        """Take received bytes. Raises ServiceError and TooMuch."""
        at, size = 0, len(data)
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                continue
            end = data.find(b"\n", at)
            stop = size if end < 0 else end
            if len(self._line) + stop - at > _LONGEST_LINE:
                raise ServiceError("a line of the reply is too long")
            line = self._line + data[at:stop]
            if end < 0:
                self._line = line
                return
            self._line = b""
            at = end + 1
            self._begin(line)

    def _begin(self, line: bytes) -> None:
        kind = line[:1]
        self._holding.take(VALUE)
        while self._open and self._open[-1] == 0:
            self._open.pop()
        if self._open:
            self._open[-1] -= 1
        if kind in (b"+", b"-", b":"):
            return
        number = _number(line[1:])
        if kind == b"$":
            self._skip = number + 2 if number >= 0 else 0
        elif kind == b"*":
            self._open.append(max(0, number))
            if len(self._open) > _DEEPEST:
                raise ServiceError("arrays within arrays, too deep")
            self._holding.announced(VALUE * number)
            return
        else:
            raise ServiceError(f"not a reply of Redis (RESP 2): {line[:20]!r}")
        self._holding.announced(self._skip)


def _number(digits: bytes) -> int:
    text = digits.strip()
    if not text.removeprefix(b"-").isdigit() or len(text) > 19:
        raise ServiceError(f"not a length: {digits[:20]!r}")
    return int(text)


class Replies:
    """Reads a number of replies, of which each belongs to one command sent. ``holding`` counts what they take."""

    def __init__(self, count: int, holding: Holding) -> None:
        self._shape = _Shape(holding)
        self._reader = hiredis.Reader()
        self._count = count
        self.values: list[Any] = []
        """What came: ``bytes``, ``int``, ``None``, lists of these, and errors of type ``hiredis.ReplyError``."""
        self._head = b""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when all are there."""
        self._shape.follow(data)
        if len(self._head) < _HEAD:
            self._head += data[:_HEAD]
        self._reader.feed(data)
        try:
            while len(self.values) < self._count:
                value = self._reader.gets()
                if value is False:
                    return False
                self.values.append(value)
        except hiredis.ProtocolError as error:
            raise ServiceError(str(error)) from None
        return True

    def is_status(self, number: int) -> bool:
        """Whether a reply is a status (``+OK``), which looks like a text in ``values``. Those before it have one line."""
        lines = self._head.split(b"\r\n", number)  # a long error before it may have left no room
        return number < len(lines) and lines[number].startswith(b"+")

    def checked(self) -> list[Any]:
        """The replies; ServiceError when one is an error."""
        for value in self.values:
            if isinstance(value, hiredis.ReplyError):
                raise ServiceError(str(value))
        return self.values


class Redirection(NamedTuple):
    """``MOVED slot host:port`` or ``ASK slot host:port``: another server of the cluster has the key."""

    slot: int
    host: str
    """Empty: the one that has answered."""
    port: int
    for_ever: bool
    """MOVED: it has all keys of the slot from now on."""


def redirection(reply: object) -> Redirection | None:
    """What a reply says about where the key is; None when it is no such reply."""
    if not isinstance(reply, hiredis.ReplyError):
        return None
    words = str(reply).split()
    if len(words) != 3 or words[0] not in ("MOVED", "ASK") or not words[1].isdigit():
        return None
    host, _, port = words[2].rpartition(":")
    return Redirection(int(words[1]), host, int(port), words[0] == "MOVED") if port.isdigit() else None


def slot_of(key: bytes) -> int:
    """The slot of a key (Redis Cluster Specification, "Key distribution model")."""
    begin = key.find(b"{")
    end = key.find(b"}", begin + 1) if begin >= 0 else -1
    return binascii.crc_hqx(key[begin + 1 : end] if end > begin + 1 else key, 0) % 16384


class RedisLogin:
    """AUTH and SELECT."""

    def __init__(self, password: str, database: int) -> None:
        self._commands: list[bytes] = []
        if password:
            self._commands.append(command(b"AUTH", password.encode("latin-1")))
        if database:
            self._commands.append(command(b"SELECT", b"%d" % database))
        self._replies = Replies(len(self._commands), Holding(_LONGEST_LINE, "login"))

    def begin(self) -> bytes:
        """The commands, all at once."""
        return b"".join(self._commands)

    def feed(self, data: bytes) -> bool:
        """True when the server has accepted all."""
        if not self._replies.feed(data):
            return False
        self._replies.checked()
        return True


def words_of(query: str, quoting: bool) -> list[str]:
    """The words of a raw query; with ``quoting`` one in quotes may have blanks. ServiceError when a quote is not closed."""
    if not quoting:
        return query.split()
    words: list[str] = []
    rest = query.strip()
    while rest:
        if rest[0] in "\"'":
            end = rest.find(rest[0], 1)
            if end < 0:
                raise ServiceError(f"a quote is not closed in [{query}]")
            words.append(rest[1:end])
            rest = rest[end + 1 :].lstrip()
        else:
            word, _, rest = rest.partition(" ")
            words.append(word)
            rest = rest.lstrip()
    return words
