"""What is said to a Redis server: commands and replies (RESP), and the login."""

from __future__ import annotations

import binascii
from typing import Any, NamedTuple

import hiredis

from opensips_py.core.service.description import ServiceError


def command(*words: bytes) -> bytes:
    """One command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


_HEAD = 256
"""Bytes that the beginning of the replies is known from."""


class Replies:
    """Reads a number of replies, of which each belongs to one command sent."""

    def __init__(self, count: int) -> None:
        self._reader = hiredis.Reader()
        self._count = count
        self.values: list[Any] = []
        """What came: ``bytes``, ``int``, ``None``, lists of these, and errors of type ``hiredis.ReplyError``."""
        self._head = b""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when all are there."""
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
        return self._head.split(b"\r\n", number)[number].startswith(b"+")

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
        self._replies = Replies(len(self._commands))

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
