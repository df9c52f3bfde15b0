"""How a process that raises an event wakes the process in which a script waits for it.

A message is a row of tokens. It says nothing that is not in the store: one that gets lost because its receiver dies is not
missed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ipc.mailbox import Mailboxes
from opensips_py.engine.operation import READ
from opensips_py.server.process import this

TOKEN = struct.calcsize(">HIQ")
"""Bytes of a token (``engine.parked.Tokens``)."""
_TOKENS = 1000
"""Tokens in one message."""
_RETRY = 0.005
"""Seconds before a message is sent again to a process that is behind with reading."""


class Mailbox:
    """The mailbox of this process, and the way to those of the others."""

    def __init__(self) -> None:
        self._boxes: Mailboxes | None = None
        self.waiting: dict[bytes, Callable[[], None]] = {}
        """By token, what to call when its operation has been told something."""

    def prepare(self, slots: int) -> None:
        """Make the boxes of the processes in slots 1 to ``slots`` - 1. Called before the fork."""
        self._boxes = Mailboxes(range(1, slots))

    def open(self) -> None:
        """Called in every process after the fork."""
        boxes = self._boxes
        if boxes is not None:
            boxes.attach(this.reactor)
            this.reactor.add(boxes.fileno(this.slot), READ, lambda events: self.read())

    def fileno(self) -> int:
        """Descriptor that becomes readable when a message comes; -1 when there is none."""
        return -1 if self._boxes is None else self._boxes.fileno(this.slot)

    def read(self) -> None:
        """Take all messages and wake whom they name."""
        boxes = self._boxes
        while boxes is not None and (packet := boxes.receive(this.slot)) is not None:
            message = packet[0]
            self._wake(message[i : i + TOKEN] for i in range(0, len(message), TOKEN))

    def _wake(self, tokens: Iterator[bytes]) -> None:
        for token in tokens:
            call = self.waiting.get(token)
            if call is not None:
                call()

    def wake(self, slot: int, tokens: list[bytes]) -> None:
        """Wake operations of the process in ``slot``."""
        if slot == this.slot or self._boxes is None:
            self._wake(iter(tokens))
            return
        for i in range(0, len(tokens), _TOKENS):
            self._post(slot, b"".join(tokens[i : i + _TOKENS]))

    def _post(self, slot: int, message: bytes) -> None:
        if self._boxes is not None and not self._boxes.post(slot, message):
            this.reactor.call_at(this.clock.now() + _RETRY, lambda: self._post(slot, message))


mailbox = Mailbox()
