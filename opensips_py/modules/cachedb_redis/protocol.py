"""What is said to a Redis server: commands and replies (RESP), and the login."""

from __future__ import annotations

from typing import Any

import hiredis

from opensips_py.core.service.description import ServiceError


def command(*words: bytes) -> bytes:
    """One command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Replies:
    """Reads a number of replies, of which each belongs to one command sent."""

    def __init__(self, count: int) -> None:
        self._reader = hiredis.Reader()
        self._count = count
        self.values: list[Any] = []
        """What came: ``bytes``, ``int``, ``None``, lists of these, and errors of type ``hiredis.ReplyError``."""
        self.kind = b""
        """First byte of the first reply: ``+`` for a status, ``$`` for a text …, which are the same in ``values``."""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when all are there."""
        self.kind = self.kind or data[:1]
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

    def checked(self) -> list[Any]:
        """The replies; ServiceError when one is an error."""
        for value in self.values:
            if isinstance(value, hiredis.ReplyError):
                raise ServiceError(explained(str(value)))
        return self.values


def explained(error: str) -> str:
    """An error of the server, with the way out where there is one."""
    if error.startswith(("MOVED", "ASK", "CLUSTERDOWN")):
        return f"{error} (a Redis cluster is not supported: name a server that has all keys)"
    return error


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
