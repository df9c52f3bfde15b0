"""Data that every process holds in memory, and how all of them get others at one moment.

They are there before the processes are forked. ``exchange()`` stores others under the next number; whoever uses the data compares
the number first, and takes what is stored when it is another one. A process that replaces a dead one finds it there as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ipc.store import Batch
from opensips_py.server.process import this

Made = TypeVar("Made")

_NUMBER = 8
"""Bytes of the number before the data."""


class Exchanged(Generic[Made]):
    """Bytes, and what is made of them."""

    def __init__(self, key: bytes, make: Callable[[bytes], Made]) -> None:
        """``key``: where they are in the shared store."""
        self._make = make
        self._number_key, self._data_key = key + b"\0number", key + b"\0rows"
        self._number = b""
        self._data = b""
        self._made: Made | None = None

    def hold(self, data: bytes) -> Made:
        """What holds at the start, before the fork. Raises what ``make`` does."""
        self._number, self._data, self._made = b"", data, self._make(data)
        return self._made

    @property
    def now(self) -> Made:
        """What holds at this moment."""
        number = this.store.get(self._number_key) or b""
        if number != self._number:
            data = this.store.get(self._data_key)
            if data is not None:
                self._number, self._data, self._made = data[:_NUMBER], data[_NUMBER:], None
        made = self._made
        if made is None:
            made = self._made = self._make(self._data)
        return made

    def make_again(self) -> None:
        """What is made of the data depends on something else that has changed."""
        self._made = None

    def before(self, batch: Batch) -> bytes:
        """The data that hold until :meth:`exchange` gives others."""
        if (batch.get(self._number_key) or b"") == self._number:
            return self._data
        data = batch.get(self._data_key)
        return self._data if data is None else data[_NUMBER:]

    def exchange(self, batch: Batch, data: bytes) -> None:
        """Give data to all processes, with the change that ``batch`` is."""
        number = (int.from_bytes(batch.get(self._number_key) or b"", "big") + 1).to_bytes(_NUMBER, "big")
        batch.put(self._number_key, number)
        batch.put(self._data_key, number + data)
