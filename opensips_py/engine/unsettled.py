"""What this process has in hand, noted in shared memory: when it dies, the attendant has another process end it."""

from __future__ import annotations

from ipc.counters import SlotStatus


class Unsettled:
    """The stored transaction whose script runs in this process.

    Nothing else would ever end it if the process died now: no timer runs yet, and the caller's retransmissions are absorbed.
    The attendant then has another process answer it (:func:`opensips_py.tm.failure_route.interrupted`).
    """

    __slots__ = ("_noted", "row")

    def __init__(self) -> None:
        self.row: SlotStatus | None = None
        """Status row of this process; None in one that is not supervised."""
        self._noted = False

    def set(self, key: bytes) -> None:
        """A script runs over transaction ``key``. To be said before others can see that it has begun."""
        if self.row is not None:
            self._noted = True
            self.row.unsettled = int.from_bytes(key[1:9], "big", signed=True)

    def clear(self) -> None:
        """It has ended, or is parked."""
        if self._noted and self.row is not None:
            self._noted = False
            self.row.unsettled = 0

    @staticmethod
    def key(value: int) -> bytes:
        """The transaction that a process had noted."""
        return b"t" + value.to_bytes(8, "big", signed=True)


unsettled = Unsettled()
