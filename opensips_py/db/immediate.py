"""Statements that are done at once, in the process itself: nothing is waited for, and there is nothing to be handed over."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.db.database import Answered, Call, DatabaseError, Rejected, Result
from opensips_py.engine.operation import Done
from opensips_py.server.log import ERROR, log


class ImmediateCall(Call):
    """``run`` gives the result, or raises DatabaseError, which is logged with the module's name."""

    def __init__(self, module: str, run: Callable[[], Result]) -> None:
        self._module, self._run = module, run

    def start(self) -> Done:
        try:
            return Answered.of(self._run())
        except DatabaseError as error:
            log(ERROR, self._module, "query", str(error))
            return Rejected(-1)

    def fileno(self) -> int:
        return -1

    def advance(self) -> Done:
        return self.start()

    def expire(self) -> Done:
        return Done(-1)

    def freeze(self) -> bytes:
        return b"-"
