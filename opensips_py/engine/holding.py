"""What this process holds of unfinished answers and of questions that wait: bounded in bytes, singly and together.

A server that is asked may send more than it should, slowly or fast, on as many connections as there are questions under way.
Each operation counts what it holds in a :class:`Holding`; more than its limit, or more than all may hold together (core parameter
``async_memory``), ends it with the return code that its function has for an answer that is too large.

A value of a result (a column of a row, an element of a list) counts as :data:`VALUE` bytes beside its own: what Python needs.
"""

from __future__ import annotations

from opensips_py.script.declarations import Statistic
from opensips_py.server.process import this

VALUE = 128
"""Bytes counted for each value of a result."""
SMALL = 65_536
"""An answer of this size is taken however much others hold: a greedy server does not keep the others' answers away."""
READ_SIZE = 65_536
"""Bytes that a client reads in one turn of the loop: then others have theirs, and deadlines are looked at."""
MEGABYTE = 1 << 20

held = Statistic("held_bytes", "async", "bytes of unfinished answers and waiting questions", level=True, no_reset=True)
refused = Statistic("too_large", "async", "operations that ended because an answer was too large, or all together were")


class TooMuch(Exception):
    """More than allowed; the text says of what."""


class _Total:
    bytes = 0


_total = _Total()


def total() -> int:
    """Bytes held now in this process."""
    return _total.bytes


class Holding:
    """What one operation holds. It is given back by :meth:`release`, or when the operation is no more."""

    __slots__ = ("_held", "_limit", "_parameter")

    def __init__(self, limit: int, parameter: str) -> None:
        """``limit`` in bytes, 0: any; ``parameter`` is where it is set, for people."""
        self._held = 0
        self._limit = limit
        self._parameter = parameter

    def take(self, size: int) -> None:
        """It holds ``size`` bytes more. Raises TooMuch."""
        self._count(size)
        if self._held > self._limit > 0:
            refused.add()
            raise TooMuch(f"the answer is larger than {self._limit} bytes ({self._parameter})")
        if self._held > SMALL:
            self._look_at_all()

    def announced(self, size: int) -> None:
        """``size`` bytes more are said to come. Raises TooMuch when that is known to be too much."""
        if self._held + size > self._limit > 0:
            refused.add()
            raise TooMuch(f"the answer is larger than {self._limit} bytes ({self._parameter})")

    def wait_with(self, size: int) -> None:
        """A question of ``size`` bytes has to wait. Raises TooMuch when too many bytes do so."""
        self._count(size)
        self._look_at_all()

    def _count(self, size: int) -> None:
        self._held += size
        _total.bytes += size
        held.add(size)

    def _look_at_all(self) -> None:
        program = getattr(this, "program", None)
        most = program.settings.async_memory * MEGABYTE if program is not None else 0
        if _total.bytes > most > 0:
            refused.add()
            raise TooMuch(f"all answers together are larger than {most} bytes (core parameter async_memory)")

    def release(self) -> None:
        """It holds nothing any more. Idempotent."""
        size, self._held = self._held, 0
        if size:
            _total.bytes -= size
            held.add(-size)

    def __del__(self) -> None:
        self.release()


class Uncounted(Holding):
    """For whole tables, which are as large as the administrator has made them."""

    def __init__(self) -> None:
        super().__init__(0, "")

    def _count(self, size: int) -> None:
        pass
