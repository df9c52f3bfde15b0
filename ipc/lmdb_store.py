"""The shared store in shared memory of one machine (LMDB in a private directory under /dev/shm).

Why LMDB: readers take no lock, every change is copy-on-write with one switch at the end, so a process killed at any
instruction leaves the state before or after its change, and the write permission is a robust mutex that the kernel
passes on when its holder dies.

How it is tuned (figures: CPU time on the development machine, values of 800 bytes):

- ``writemap``: pages are changed in the mapping instead of with ``pwrite``: put 2.4 µs instead of 13.
  What that gives up, protection against stray pointers and against a crash of the machine, does not matter here.
- no ``sync``: the directory is in memory, there is nothing to sync.
- A read transaction is opened and ended within each ``get`` (0.6 µs). None is ever kept: pages that an old reader
  might still see cannot be reused, and the map would grow until it is full.
- the mapping is sparse: it reserves addresses. Its memory is allocated ahead of what is used (:mod:`ipc.allocation`), because a
  page that the file system cannot provide ends a process by SIGBUS.
- LMDB copies pages on every change, deleting included: in a map that is really full nothing can be deleted any more. So
  putting is refused while there is still some room, and small entries, and such as become no larger, are taken longest: with them
  things come to an end. How full it is is looked at on every eighth write (0.1 µs for each).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, Self

import lmdb

from ipc.allocation import ALLOCATED_FILE, Allocation
from ipc.locks import HeldLock, Locks
from ipc.store import Row, StoreError, StoreFull, StoreInfo

try:
    import lmdb._envid  # lmdb 3 imports it when it opens a store, where a chroot or another user may not reach it
except ImportError:
    pass

MAP_SIZE = 8 << 30
"""Most that a store may hold, in bytes, if the file system has room."""
MIN_SIZE = 16 << 20
"""A file system with less room than this cannot hold a store."""
MAX_READERS = 1024
"""Processes that may have the store open."""

_PAGE = 4096
_DATA_FILE = "data.mdb"
_LOCK_FILE = "locks"
_SIZE_FILE = "size"
_LOOK_EVERY = 7
"""Bit mask: how many writes a process makes between two looks at the store's size."""
_SMALL = 256
"""Bytes of a value that is taken as long as there is any room: timer rows, marks, names."""


def _with_reserve(size: int) -> int:
    """Size of the mapping for a store of ``size`` bytes: what is beyond it is for deleting."""
    return size + max(1 << 20, size >> 4)


class LmdbBatch:
    """One write transaction (see :class:`ipc.store.Batch`). ``get put delete take`` are LMDB's own, without a layer between."""

    __slots__ = ("_put", "_store", "_txn", "delete", "get", "put", "take")

    delete: Callable[[bytes], bool]
    get: Callable[[bytes], bytes | None]
    put: Callable[[bytes, bytes], object]
    _put: Callable[..., bool]
    take: Callable[[bytes], bytes | None]
    _in_place = False
    """Values are not copied out of the store's memory."""

    def __init__(self, store: LmdbStore) -> None:
        self._store = store

    def __enter__(self) -> Self:
        store = self._store
        if store._writer:
            store._refuse_second()
        store._writes += 1
        if not store._writes & _LOOK_EVERY or store._is_full:
            store._look()
        txn = self._txn = store._begin(None, None, True, self._in_place)
        store._writer = get_ident()
        self.get = txn.get
        self.put = self._put = partial(store._put_if_small, txn) if store._is_full else txn.put
        self.delete = txn.delete
        self.take = txn.pop
        return self

    def put_new(self, key: bytes, value: bytes) -> bool:
        """Set a value unless the key exists; tells whether it was set."""
        return self._put(key, value, overwrite=False)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._store._writer = 0
        if kind is None:
            try:
                self._txn.commit()
            except lmdb.MapFullError as full:
                raise self._store._full() from full
            return
        self._txn.abort()
        if kind is lmdb.MapFullError:  # the batch alone is larger than what was left
            raise self._store._full() from error


class LmdbHeadBatch(LmdbBatch):
    """A write transaction that copies no values (see :class:`ipc.store.HeadBatch`)."""

    __slots__ = ()

    _in_place = True

    def head(self, key: bytes, size: int) -> bytes | None:
        """The first bytes of a value; None when it is not there."""
        value = self.get(key)  # a view, valid until the next change
        return None if value is None else bytes(value[:size])


class LmdbStore:
    """The store as one process sees it (implements :class:`ipc.store.Store`).

    A child made by ``fork`` cannot use its parent's store: it opens its own. The parent's goes on.
    """

    def __init__(self, directory: str, map_size: int) -> None:
        self._directory = directory
        self._map_size = map_size
        self._open()
        self._writer = 0
        """The thread that has a batch open, 0 if none. Another one waits for its end; the same would wait for ever."""
        self._writes = -1
        self.is_filling = self.is_low = self._is_full = False
        self._memory = Allocation(directory, _DATA_FILE, _with_reserve(map_size))
        self._locks = Locks(os.path.join(directory, _LOCK_FILE))
        self.try_lock = self._locks.try_acquire
        self.unlock = self._locks.release
        _opened.add(self)

    def _open(self) -> None:
        try:
            self._env: Any = lmdb.open(
                self._directory,
                map_size=_with_reserve(self._map_size),
                metasync=False,
                sync=False,
                mode=0o600,
                readahead=False,
                writemap=True,
                meminit=False,
                max_readers=MAX_READERS,
                max_spare_txns=4,
            )
        except lmdb.Error as error:
            raise StoreError(f"cannot open the shared store in {self._directory}: {error}") from error
        self._begin: Callable[..., Any] = self._env.begin

    @classmethod
    def create(cls, directory: str, map_size: int = MAP_SIZE, *, allocate: bool = False) -> LmdbStore:
        """A new, empty store in ``directory`` (made if it does not exist; an older store in it is removed).

        It may grow to ``map_size`` bytes, or to half of what the file system has free if that is less. ``allocate``: its memory
        is to be allocated ahead of its use.
        """
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in (_DATA_FILE, "lock.mdb", _LOCK_FILE, _SIZE_FILE, ALLOCATED_FILE):
            path = os.path.join(directory, name)
            if os.path.lexists(path):
                os.unlink(path)
        figures = os.statvfs(directory)
        size = min(map_size, figures.f_bavail * figures.f_frsize // 2) // _PAGE * _PAGE
        if size < min(map_size, MIN_SIZE):
            raise StoreError(
                f"{directory}: only {figures.f_bavail * figures.f_frsize >> 20} MiB are free on this file system, "
                f"the shared store needs {MIN_SIZE * 2 >> 20} MiB"
            )
        with open(os.path.join(directory, _SIZE_FILE), "w", encoding="ascii") as file:
            file.write(str(size))
        store = cls(directory, size)
        try:
            if allocate:
                store._memory.begin()
        except OSError as error:
            store.close()
            raise StoreError(f"cannot allocate memory for the shared store in {directory}: {error.strerror}") from error
        return store

    @classmethod
    def open(cls, directory: str) -> LmdbStore:
        """The store that another process has created. Call it after the fork."""
        try:
            with open(os.path.join(directory, _SIZE_FILE), encoding="ascii") as file:
                size = int(file.read())
        except FileNotFoundError:
            raise StoreError(f"there is no shared store in {directory}") from None
        return cls(directory, size)

    # --- single operations --------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        txn = self._begin()
        value: bytes | None = txn.get(key)
        txn.abort()
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value."""
        if self._writer:
            self._refuse_second()
        self._writes += 1
        if not self._writes & _LOOK_EVERY or self._is_full:
            self._look()
        txn = self._begin(None, None, True)
        try:
            if self._is_full:
                self._put_if_small(txn, key, value)
            else:
                txn.put(key, value)
            txn.commit()
        except lmdb.MapFullError as full:
            txn.abort()
            raise self._full() from full
        except StoreFull:
            txn.abort()
            raise

    def put_new(self, key: bytes, value: bytes) -> bool:
        """Set a value unless the key exists; tells whether it was set."""
        with LmdbBatch(self) as batch:
            return batch.put_new(key, value)

    def delete(self, key: bytes) -> bool:
        """Delete an entry; tells whether it was there."""
        if self._writer:
            self._refuse_second()
        txn = self._begin(None, None, True)
        try:
            there: bool = txn.delete(key)
            txn.commit()
        except lmdb.MapFullError as full:
            txn.abort()
            raise self._full() from full
        return there

    claim = delete

    def take(self, key: bytes) -> bytes | None:
        """Delete an entry and give its value; None when it was not there."""
        with LmdbBatch(self) as batch:
            return batch.take(key)

    def _look(self) -> None:
        """See how full the store is. Freed pages count as room: LMDB takes them before new ones."""
        reached = (self._env.info()["last_pgno"] + 1) * _PAGE
        size = self._memory.provide(reached, self._map_size)
        if reached < size - (size >> 2):
            self.is_filling = self.is_low = self._is_full = False
            return
        used = self._used()
        self.is_filling = used > size - (size >> 2)
        self.is_low = used > size - (size >> 3)
        self._is_full = used > size - (size >> 5) or size < min(reached, self._map_size)

    def look(self) -> None:
        """Bring ``is_low`` and ``is_filling`` up to date, for who writes nothing."""
        self._look()

    def _used(self) -> int:
        pages = self._env.stat()
        return int((pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"]) * pages["psize"])

    def _refuse_second(self) -> None:
        if self._writer == get_ident():
            raise StoreError("a batch is open in this thread: make the change through it")

    def _put_if_small(self, txn: Any, key: bytes, value: bytes, overwrite: bool = True, append: bool = False) -> bool:
        """Put what takes no room to speak of: the store is full."""
        if len(value) > _SMALL and len(value) > len(txn.get(key) or b""):
            raise self._full()
        return bool(txn.put(key, value, True, overwrite, append))

    # --- several ------------------------------------------------------------------------------------------------

    def scan(self, prefix: bytes, start: bytes = b"", limit: int | None = None, stop: bytes | None = None) -> list[Row]:
        """Entries whose key begins with ``prefix``, in order, from key ``start`` (inclusive) to ``stop`` (exclusive)."""
        rows: list[Row] = []
        if limit is not None and limit <= 0:
            return rows
        with self._begin() as txn:
            cursor = txn.cursor()
            first = start if start > prefix else prefix
            if cursor.set_range(first) if first else cursor.first():
                for row in cursor:
                    if not row[0].startswith(prefix) or (stop is not None and row[0] >= stop):
                        break
                    rows.append(row)
                    if limit is not None and len(rows) >= limit:
                        break
        return rows

    def count(self, prefix: bytes) -> int:
        """How many keys begin with ``prefix``."""
        with self._begin() as txn:
            if not prefix:
                return int(txn.stat()["entries"])
            number = 0
            cursor = txn.cursor()
            if cursor.set_range(prefix):
                for key in cursor.iternext(keys=True, values=False):
                    if not key.startswith(prefix):
                        break
                    number += 1
        return number

    def batch(self) -> LmdbBatch:
        """A set of changes that are made together."""
        return LmdbBatch(self)

    def batch_of_heads(self) -> LmdbHeadBatch:
        """One that looks at the beginnings of values only."""
        return LmdbHeadBatch(self)

    # --- locks --------------------------------------------------------------------------------------------------

    try_lock: Callable[[bytes], bool]
    unlock: Callable[[bytes], None]

    def lock(self, key: bytes) -> HeldLock:
        """Hold the lock named ``key`` for a ``with`` block."""
        return HeldLock(self._locks, key)

    # --- care ---------------------------------------------------------------------------------------------------

    def reap_readers(self) -> int:
        """Free the reader slots of processes that died while reading; how many they were."""
        return int(self._env.reader_check())

    def info(self) -> StoreInfo:
        """How full the store is."""
        info = self._env.info()
        return StoreInfo(self._map_size, self._used(), (info["last_pgno"] + 1) * _PAGE, self._env.stat()["entries"])

    def close(self) -> None:
        """This process needs it no more; its locks are released."""
        _opened.discard(self)
        self._env.close()
        self._locks.close()
        self._begin = _closed

    def _full(self) -> StoreFull:
        return StoreFull(f"the shared store is full ({self._map_size >> 20} MiB in {self._directory})")


def _closed(*arguments: object) -> Any:
    raise StoreError("the store is closed")


def _forked(*arguments: object) -> Any:
    raise StoreError("this store was opened before the fork: a process opens its own")


# A child that inherits an open LMDB environment can neither use it nor open its own beside it, and disturbs the parent's
# reader slots when it drops it. So a parent closes its environment for the moment of the fork (0.1 ms).

_opened: weakref.WeakSet[LmdbStore] = weakref.WeakSet()


def _before_fork() -> None:
    for store in _opened:
        store._env.close()


def _after_fork_in_parent() -> None:
    for store in _opened:
        store._open()


def _after_fork_in_child() -> None:
    for store in _opened:
        store._begin = _forked
    _opened.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
