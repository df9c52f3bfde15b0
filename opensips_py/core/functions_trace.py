"""script_trace(): a line in the log for every statement that runs (OpenSIPS core function), through Python's own tracing.

Compiled routes are Python functions whose files and lines are those of the script, so a trace function of the interpreter
sees each statement. Nothing is paid for it while it is off.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any

from opensips_py.core.core_module import module
from opensips_py.core.log import ALERT, DBG, ERROR, log
from opensips_py.core.process import this
from opensips_py.script.codegen import FOREIGN
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL
from opensips_py.script.formats import compile_format
from opensips_py.script.variables import Registry, VariableError, current


def _fault(text: str, registry: Registry) -> str | None:
    try:
        compile_format(text, registry)
    except VariableError as error:
        return error.message
    return None


class _Tracer:
    """What one process traces."""

    def __init__(self, level: int, text: str | Callable[[Context], str], info: str | None) -> None:
        self._level = level
        self._text = text
        self._info = "" if info is None else f"[{info}]"
        self._files = frozenset(this.program.files)

    def begin(self, frame: FrameType | None) -> None:
        """Trace from now on, also the routes that are running already."""
        while frame is not None:
            if frame.f_code.co_filename in self._files:
                frame.f_trace = self._statement
            frame = frame.f_back
        sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._statement if frame.f_code.co_filename in self._files else None

    def _statement(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            ctx = frame.f_locals.get("ctx")
            if isinstance(ctx, Context):
                self._write(ctx, frame.f_code.co_filename, frame.f_lineno)
        return self._statement

    def _write(self, ctx: Context, file: str, line: int) -> None:
        if line >= FOREIGN:
            file, line = this.program.files[line // FOREIGN - 1], line % FOREIGN
        text = self._text if isinstance(self._text, str) else self._text(ctx)
        source = linecache.getline(file, line).strip()
        log(self._level, "core", "script_trace", f"[Script Trace][{file}:{line}]{self._info}[{source}] -> ({text})")


@module.function(routes=ALL)
def script_trace(
    ctx: Context,
    level: int | None = None,
    text: Annotated[str, "static", _fault] | None = None,
    info: str | None = None,
) -> int:
    """Log every statement that this process runs from now on, at ``level`` (-3 alert … 4 debug).

    ``text`` is expanded anew for each (``"$rm from $si"``), ``info`` now. Without parameters: stop it.
    """
    if level is None:
        sys.settrace(None)
        return 1
    if not ALERT <= level <= DBG:
        log(ERROR, "core", "script_trace", f"{level} is no log level: {ALERT} to {DBG}")
        return -1
    _Tracer(level, compile_format(text or "", current()), info).begin(sys._getframe())
    return 1
