"""What compiled routes need from the rest of the server. ``core`` implements it; the compiler only calls it."""

from __future__ import annotations

from typing import Any, Protocol

from opensips_py.script.context import Context


class Runtime(Protocol):
    """One process' side of running scripts. ``where`` is always ``file:line`` of the statement."""

    @property
    def xlog_level(self) -> int:
        """Lines of xlog() up to this level are written. Read before anything is formatted."""
        ...

    @property
    def log_level(self) -> int:
        """The same for log()."""
        ...

    def wait(self, ctx: Context, operation: Any) -> int:
        """A function that may wait, called plainly: wait, set the outputs, give the return code.

        ``operation`` is an Operation, or an int when there is nothing to wait for.
        """
        ...

    def suspend(self, ctx: Context, operation: Any, route: str, seconds: float | None, where: str) -> int:
        """``async()``: always 0, the run of the script ends here.

        ``seconds``: None, the default; 0, no limit; -1, the script has given what is no time.
        """
        ...

    def wait_here(self, ctx: Context, operation: Any, seconds: float | None, where: str) -> int:
        """``await()``: the return code, once the operation is over; 0 ends the run of the script."""
        ...

    def launch(self, ctx: Context, operation: Any, route: str | None, text: str | None, seconds: float | None, where: str) -> int:
        """``launch()``: always 1; the report route is told how the operation ended, also when it could not start."""
        ...

    def xlog(self, level: int, text: str) -> None:
        """Write a line of the script; the level has been checked."""
        ...

    def log(self, level: int, text: str) -> None:
        """Write the text of log(); the level has been checked."""
        ...

    def problem(self, level: int, text: str, where: str) -> None:
        """Log what went wrong in a statement: a failed evaluation, an unknown route, a failed assertion."""
        ...
