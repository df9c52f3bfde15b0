"""What a module says about a server that its operations ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from opensips_py.engine.holding import READ_SIZE


class ServiceError(Exception):
    """The server refuses, or says what it should not; the text says what."""


class Login(Protocol):
    """What is said on a new connection before it may be used."""

    def begin(self) -> bytes:
        """What to send first; nothing when there is nothing to say."""

    def feed(self, data: bytes) -> bool:
        """Take received bytes; True when the server is content. Raises ServiceError."""


@dataclass(frozen=True)
class Service:
    """One service; it may be on several servers, of which one is used."""

    key: str
    """Its name in every process: ``redis:group``."""
    title: str
    """For people: ``Redis server group``."""
    module: str
    servers: tuple[tuple[str, int, str | None], ...]
    """Host, port and path of a Unix socket (then host and port do not matter), in the order in which they are tried."""
    login: Callable[[], Login]
    farewell: bytes = b""
    """What is said before closing."""
    connect_seconds: float = 5.0
    """For connecting and logging in."""
    answer_seconds: float = 5.0
    """For an answer; 0: any."""
    connections: int = 128
    """Most connections of one process."""
    queue: int = 65536
    """Operations of one process that may wait for a connection."""
    answer_bytes: int = 4096 * 1024
    """Longest answer, where each value counts ``holding.VALUE`` beside its own bytes; 0: any."""
    answer_parameter: str = "max_answer_size"
    """Where that is set, for people."""
    read_size: int = READ_SIZE
    """Bytes of an answer that are read, and worked on, in one turn."""
    idle_seconds: float = 300.0
    """How long an unused connection is kept; 0: as long as the server keeps it."""

    def address(self, number: int) -> str:
        """A server for people."""
        host, port, path = self.servers[number]
        return path or f"{host}:{port}"
