"""Counters in shared memory: one row of 64-bit cells per process, one column per statistic.

A process counts with a plain write into its own row, so counting needs no lock and no message; who reads sums the
column over all rows. A row belongs to a place in the process table, not to a process: what a dead process has counted
stays, and its replacement counts on in the same row.

Layout of the file, all cells signed 64-bit, native order::

    row 0              base values (subtracted from the sums: resetting a counter moves its base) ...
    row 1 + slot       counts of the process in that slot

Each row ends with :data:`STATUS_CELLS` cells that say how the process fares (:class:`SlotStatus`); in row 0 the first of
them counts the columns in use.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence

from ipc.clock import clock
from ipc.load import LoadHistory

MAX_COLUMNS = 4096
"""Statistics that one server can have, those made by its script included."""
STATUS_CELLS = 16
_ROW = MAX_COLUMNS + STATUS_CELLS
_USED = MAX_COLUMNS
_FILE = "counters"


class CountersError(Exception):
    """Counters could not be made; the text says why."""


class SlotStatus(ctypes.Structure):
    """How the process in one slot fares. Written by the process itself unless said otherwise, read by anybody."""

    __slots__ = ()

    pid: int
    """Process id."""
    incarnation: int
    """Which holder of the slot."""
    busy_since_ns: int
    """``Clock.ticks()`` when the running callback began; 0: the process waits for work."""
    epoch: int
    """Take-over epoch: moved by the attendant when it takes operations from a process that is stuck or stopped."""
    parked: int
    """Parked operations that it drives."""
    log_level: int
    """Its log level, as the log has it."""
    busy_total_ns: int
    """Time spent in callbacks since the start, in nanoseconds."""
    unsettled: int
    """What it is working on that nobody else would finish (meaning is the user's); 0: nothing."""
    delivered: int
    """What it has done last and may not have noted anywhere else yet (meaning is the user's); 0: nothing."""
    connections: int
    """Connections that it owns; negative (set by the attendant): it cannot take any."""
    reading_since_ns: int
    """``Clock.ticks()`` when a SIP receiver took the message that it works on; 0: it reads none."""
    emptied_ns: int
    """``Clock.ticks()`` when it last found the queue of its socket empty."""
    watching_since_ns: int
    """``Clock.ticks()`` since when it is woken for its socket; 0: it has left that to others."""
    timers_ns: int
    """``Clock.ticks()`` when it last looked for timers that are due; 0: that is not for it to do."""


SlotStatus._fields_ = [(name, ctypes.c_int64) for name in SlotStatus.__annotations__]
assert ctypes.sizeof(SlotStatus) <= STATUS_CELLS * 8


class Counters:
    """The matrix. Created before the fork and inherited; all processes see the same memory."""

    def __init__(self, path: str, slots: int) -> None:
        self.slots = slots
        size = (1 + slots) * _ROW * 8
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size != size:
                os.ftruncate(fd, size)
            os.posix_fallocate(fd, 0, size)  # a page that the file system cannot provide would end a process by SIGBUS
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._cells: memoryview[int] = memoryview(self._map).cast("q")
        self._base = self._cells[:_ROW]
        self._load = LoadHistory(slots)

    @classmethod
    def create(cls, directory: str, slots: int) -> Counters:
        """A new matrix, all zero, for ``slots`` processes, in a file in ``directory``."""
        path = os.path.join(directory, _FILE)
        if os.path.lexists(path):
            os.unlink(path)
        try:
            return cls(path, slots)
        except OSError as error:
            raise CountersError(f"cannot allocate memory for the statistics in {directory}: {error.strerror}") from error

    # --- columns ------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> int:
        """How many columns are in use."""
        return self._base[_USED]

    def reserve(self, columns: int) -> None:
        """Take at least the first ``columns`` columns into use: those of the statistics that are known from the start."""
        if columns > MAX_COLUMNS:
            raise CountersError(f"{columns} statistics, more than {MAX_COLUMNS}")
        self._base[_USED] = max(columns, self._base[_USED])

    def add_column(self) -> int:
        """Take one more column into use. The caller sees to it that only one process does so at a time."""
        column = self._base[_USED]
        if column >= MAX_COLUMNS:
            raise CountersError(f"more than {MAX_COLUMNS} statistics")
        self._base[_USED] = column + 1
        return column

    def row(self, slot: int) -> memoryview[int]:
        """The cells of one process, for ``row[column] += n``."""
        start = (1 + slot) * _ROW
        return self._cells[start : start + _ROW]

    def value(self, column: int) -> int:
        """Sum over all processes since the last reset."""
        return sum(self._cells[_ROW + column :: _ROW]) - self._base[column]

    def values(self, columns: Sequence[int]) -> list[int]:
        """:meth:`value` of several columns."""
        return [self.value(column) for column in columns]

    def reset(self, column: int) -> None:
        """Let the column count from zero again. Counts that happen meanwhile are kept."""
        self._base[column] = sum(self._cells[_ROW + column :: _ROW])

    # --- processes ----------------------------------------------------------------------------------------------

    def status(self, slot: int) -> SlotStatus:
        """The status cells of one slot."""
        return SlotStatus.from_buffer(self._map, ((1 + slot) * _ROW + MAX_COLUMNS) * 8)

    def _busy_ns(self, slot: int, now_ns: int) -> int:
        """Total busy time, the running callback included: a process that is stuck must not look idle."""
        status = self.status(slot)
        since = status.busy_since_ns
        return status.busy_total_ns + (now_ns - since if 0 < since < now_ns else 0)

    def sample_load(self) -> None:
        """Note how busy every process is; one process does this each second."""
        now = clock.ticks()
        self._load.sample(now, [self._busy_ns(slot, now) for slot in range(self.slots)])

    def load(self, slot: int, seconds: int) -> int:
        """Percentage of the last ``seconds`` (up to 600) that the process in ``slot`` was busy."""
        now = clock.ticks()
        return self._load.percent(slot, seconds, now, self._busy_ns(slot, now))
