"""Locks between processes that vanish with their holder.

A lock is one byte of a file, locked through the kernel (``fcntl``): whatever ends the holder, SIGKILL included,
releases it, and a child made by ``fork`` does not inherit it. The byte's offset is the CRC-32 of the lock's name; two
names that meet on one byte only wait for each other without need.

Such locks belong to the process: a second ``acquire`` in the process that holds it succeeds at once and is counted, so
that functions which lock may call each other. Threads are not told apart; only a process' main thread uses locks.
Waiting in a circle raises OSError (EDEADLK) in one of the processes, it does not hang.
"""

from __future__ import annotations

import fcntl
import os
from binascii import crc32
from types import TracebackType

_TAKE = fcntl.LOCK_EX
_TRY = fcntl.LOCK_EX | fcntl.LOCK_NB
_DROP = fcntl.LOCK_UN


class HeldLock:
    """``with`` block under one lock."""

    __slots__ = ("_key", "_locks")

    def __init__(self, locks: Locks, key: bytes) -> None:
        self._locks, self._key = locks, key

    def __enter__(self) -> None:
        self._locks.acquire(self._key)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._locks.release(self._key)


class Locks:
    """The locks of one file. Open it once per process, after the fork: closing any descriptor of the file drops them all."""

    __slots__ = ("_fd", "_held")

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held: dict[int, int] = {}

    def acquire(self, key: bytes) -> None:
        """Wait until this process has the lock. Raises OSError with EDEADLK when that can never be."""
        offset = crc32(key)
        held = self._held
        if offset in held:
            held[offset] += 1
            return
        fcntl.lockf(self._fd, _TAKE, 1, offset)
        held[offset] = 1

    def try_acquire(self, key: bytes) -> bool:
        """Take the lock if no other process has it."""
        offset = crc32(key)
        held = self._held
        if offset in held:
            held[offset] += 1
            return True
        try:
            fcntl.lockf(self._fd, _TRY, 1, offset)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX lets the kernel choose
            return False
        held[offset] = 1
        return True

    def release(self, key: bytes) -> None:
        """Give the lock back (once per acquire). Releasing what is not held is an error of the caller: KeyError."""
        offset = crc32(key)
        held = self._held
        depth = held[offset]
        if depth > 1:
            held[offset] = depth - 1
            return
        del held[offset]
        fcntl.lockf(self._fd, _DROP, 1, offset)

    def close(self) -> None:
        """Release everything."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._held.clear()
