"""What stands for an operation whose descriptors could not be handed over."""

from __future__ import annotations

import os

from opensips_py.engine.operation import LOST, Done, Operation


class LostOperation(Operation):
    """Stands for an operation whose descriptors could not be handed over."""

    name = "lost"

    def start(self) -> Done:
        return Done(LOST)

    def fileno(self) -> int:
        return -1

    def advance(self) -> Done:
        return Done(LOST)

    def expire(self) -> Done:
        return Done(LOST)

    def freeze(self) -> bytes:
        return b""

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        close_all(fds)
        return cls()


def close_all(fds: list[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)
