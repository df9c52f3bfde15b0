"""How a process that raises an event wakes the process in which a script waits for it.

A process' mailbox is a Unix datagram socket in the run directory; a message is a row of tokens. It says nothing that is
not in the store: one that gets lost because its receiver dies is not missed.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

from opensips_py.core.operation import READ
from opensips_py.core.process import this

TOKEN = struct.calcsize(">HIQ")
"""Bytes of a token (``core.parked.Tokens``)."""
_TOKENS = 1000
"""Tokens in one message."""
_RETRY = 0.005
"""Seconds before a message is sent again to a process that is behind with reading."""


class Mailbox:
    """The mailbox of this process."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.waiting: dict[bytes, Callable[[], None]] = {}
        """By token, what to call when its operation has been told something."""

    def open(self) -> None:
        """Called in every process after the fork."""
        path = _path(this.slot)
        if os.path.exists(path):
            os.unlink(path)  # of the process whose place this one has taken
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(path)
        self.waiting = {}
        this.reactor.add(self._socket.fileno(), READ, lambda events: self.read())

    def close(self) -> None:
        """The process ends."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """Descriptor that becomes readable when a message comes; -1 when there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def read(self) -> None:
        """Take all messages and wake whom they name."""
        while self._socket is not None:
            try:
                message = self._socket.recv(_TOKENS * TOKEN)
            except BlockingIOError:
                return
            self._wake(message[i : i + TOKEN] for i in range(0, len(message), TOKEN))

    def _wake(self, tokens: Iterator[bytes]) -> None:
        for token in tokens:
            call = self.waiting.get(token)
            if call is not None:
                call()

    def wake(self, slot: int, tokens: list[bytes]) -> None:
        """Wake operations of the process in ``slot``."""
        if slot == this.slot or self._socket is None:
            self._wake(iter(tokens))
            return
        for i in range(0, len(tokens), _TOKENS):
            self._post(slot, b"".join(tokens[i : i + _TOKENS]))

    def _post(self, slot: int, message: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message, _path(slot))
        except BlockingIOError:
            this.reactor.call_at(time.monotonic() + _RETRY, lambda: self._post(slot, message))
        except OSError:  # it has died: its operations are thawed elsewhere, and find what they were told
            return


def _path(slot: int) -> str:
    return f"{this.rundir}/events-{slot}"


mailbox = Mailbox()
