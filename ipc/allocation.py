"""Memory of the shared store, allocated before it is used.

A sparse file in /dev/shm promises nothing: when others have filled the file system, the next page that is touched ends the
process by SIGBUS. So there is always allocated memory ahead of what the store has reached. When no more can be had the store is
full; that is an error like any other.
"""

from __future__ import annotations

import fcntl
import os
from typing import TextIO

BEGIN = 32 << 20
"""Bytes allocated at the start; a smaller store is allocated wholly."""
STEP = 16 << 20
"""Bytes allocated at a time later (4 ms). So much is kept ahead, too: more than all processes write between two looks."""
ALLOCATED_FILE = "allocated"
"""File in the store's directory that says how far its memory is allocated, for all processes."""


class Allocation:
    """The memory of one store, as one process sees it. Nothing is done for a store whose allocation was not begun."""

    def __init__(self, directory: str, data_file: str, whole: int) -> None:
        """``whole``: size of the mapping."""
        self._data = os.path.join(directory, data_file)
        self._note = os.path.join(directory, ALLOCATED_FILE)
        self._whole = whole
        self._allocated = 0 if os.path.exists(self._note) else whole

    def begin(self) -> None:
        """The store has just been made. Raises OSError."""
        size = min(self._whole, BEGIN)
        self._allocate(0, size)
        with open(self._note, "w", encoding="ascii") as note:
            note.write(str(size))
        self._allocated = size

    def provide(self, reached: int, wanted: int) -> int:
        """The store has reached so many bytes: see that there is memory ahead. How large it may be: ``wanted``, or less."""
        if self._is_enough(reached):
            return wanted
        try:
            with open(self._note, "r+", encoding="ascii") as note:
                try:
                    fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return wanted  # another process is at it; what is ahead lasts until it has done it
                self._extend(note, reached)
        except OSError:
            pass  # there is no more memory; the next look tries again
        return wanted if self._is_enough(reached) else min(wanted, max(self._allocated - STEP, 0))

    def _is_enough(self, reached: int) -> bool:
        return reached + STEP <= self._allocated or self._allocated >= self._whole

    def _extend(self, note: TextIO, reached: int) -> None:
        self._allocated = int(note.read() or 0)  # another process may have done it
        if self._is_enough(reached):
            return
        size = min(self._whole, max(self._allocated, reached) + STEP)
        self._allocate(self._allocated, size - self._allocated)
        note.seek(0)
        note.write(str(size))
        note.flush()
        self._allocated = size

    def _allocate(self, start: int, length: int) -> None:
        if length <= 0:
            return
        fd = os.open(self._data, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(fd, start, length)
        finally:
            os.close(fd)
