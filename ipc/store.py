"""The shared store, as everybody sees it: an ordered map of byte strings that outlives any one process.

This file is the interface; :mod:`ipc.lmdb_store` keeps the map in shared memory of one machine. Nothing outside the
package depends on which one runs.

Rules for those who use it:

- A single operation is atomic. Several that belong together go through one :meth:`Store.batch`, which is all or nothing.
- A batch holds the only write permission of the whole server: no waiting, no sending, no script code inside.
- Who reads, decides and then writes a record holds the record's :meth:`Store.lock` meanwhile.
- Keys are 1 to 511 bytes long; the first byte says what kind of thing the key names.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Protocol

Row = tuple[bytes, bytes]
"""Key and value."""


class StoreError(Exception):
    """The shared store could not do what was asked; the text says why."""


class StoreFull(StoreError):
    """No room is left in the shared store. Nothing of the change was made."""


class StoreInfo(NamedTuple):
    """Figures about a store, in bytes unless the name says otherwise."""

    total_size: int
    """How much it may hold."""
    used_size: int
    """What its entries and their index occupy now."""
    max_used_size: int
    """The most that it has occupied since its creation."""
    entries: int
    """Number of entries."""


class Batch(Protocol):
    """Changes that are made together, when the ``with`` block ends without an exception, or not at all."""

    def get(self, key: bytes) -> bytes | None:
        """The value as this batch sees it, its own changes included."""

    def put(self, key: bytes, value: bytes) -> object:
        """Set a value."""

    def put_new(self, key: bytes, value: bytes) -> bool:
        """Set a value unless the key exists; tells whether it was set."""

    def delete(self, key: bytes) -> bool:
        """Delete an entry; tells whether it was there."""

    def take(self, key: bytes) -> bytes | None:
        """Delete an entry and give its value; None when it was not there."""

    def __enter__(self) -> Batch: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class HeadBatch(Protocol):
    """A :class:`Batch` that copies no values: how long others wait for it does not depend on how large they are."""

    def head(self, key: bytes, size: int) -> bytes | None:
        """The first bytes of a value; None when it is not there."""

    def put(self, key: bytes, value: bytes) -> object:
        """Set a value."""

    def delete(self, key: bytes) -> bool:
        """Delete an entry; tells whether it was there."""

    def __enter__(self) -> HeadBatch: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class Store(Protocol):
    """The shared store of one server.

    It is never filled to the last byte by what begins: new contacts and other data that stay long are to be refused from three
    quarters (``is_filling``), new transactions from seven eighths (``is_low``); what goes on may take the rest, and what ends,
    the reserve.
    """

    is_filling: bool
    """Nothing that stays long should be put there. As of the last look."""
    is_low: bool
    """Nothing new should be begun. As of the last look."""

    def look(self) -> None:
        """Bring ``is_filling`` and ``is_low`` up to date. Otherwise every eighth write of the process does."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value. Raises StoreFull."""

    def put_new(self, key: bytes, value: bytes) -> bool:
        """Set a value unless the key exists; tells whether it was set. Raises StoreFull."""

    def delete(self, key: bytes) -> bool:
        """Delete an entry; tells whether it was there."""

    def claim(self, key: bytes) -> bool:
        """Delete an entry and tell whether it was there: of any number of processes exactly one gets True."""

    def take(self, key: bytes) -> bytes | None:
        """As :meth:`claim`, giving the value."""

    def scan(self, prefix: bytes, start: bytes = b"", limit: int | None = None, stop: bytes | None = None) -> list[Row]:
        """Entries whose key begins with ``prefix``, in order of keys, from ``start`` (inclusive) to ``stop`` (exclusive)."""

    def count(self, prefix: bytes) -> int:
        """How many keys begin with ``prefix``."""

    def batch(self) -> Batch:
        """A set of changes that are made together."""

    def batch_of_heads(self) -> HeadBatch:
        """One that looks at the beginnings of values only."""

    def lock(self, key: bytes) -> AbstractContextManager[None]:
        """Hold the lock named ``key`` for a ``with`` block. Its holder's death, however sudden, releases it.

        A process that holds a lock may take it again; it is released at the outermost end.
        """

    def try_lock(self, key: bytes) -> bool:
        """Take the lock if nobody else holds it, without waiting; end it with :meth:`unlock`."""

    def unlock(self, key: bytes) -> None:
        """Release a lock taken with :meth:`try_lock`."""

    def reap_readers(self) -> int:
        """Free what processes that died while reading have left; how many they were."""

    def info(self) -> StoreInfo:
        """How full it is."""

    def close(self) -> None:
        """This process needs it no more."""
