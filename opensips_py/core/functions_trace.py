"""script_trace(): a line in the log for every statement that runs (OpenSIPS core function), through Python's own tracing.

Compiled routes are Python functions whose files and lines are those of the script, so a trace function of the interpreter
sees each statement. Nothing is paid for it while it is off.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL
from opensips_py.script.formats import compile_format
from opensips_py.script.variables import Registry, VariableError, current
from opensips_py.server.log import ALERT, log
from opensips_py.server.process import this

_STATEMENT = re.compile(r"[A-Za-z_]\w*(?=\s*\()|\$[^\s=]+(?=\s*=)")
"""What a statement calls, or which variable it sets; for parameters and values the log has the line."""


def _fault(text: str, registry: Registry) -> str | None:
    try:
        compile_format(text, registry)
    except VariableError as error:
        return error.message
    return None


class _Tracer:
    """What one process traces."""

    def __init__(self, level: int, text: str | Callable[[Context], str], info: str | None) -> None:
        self._level = max(ALERT, level)
        self._text = text
        self._info = "" if info is None else f"[{info}]"

    def begin(self, frame: FrameType | None) -> None:
        """Trace from now on, also the routes that are running already."""
        while frame is not None:
            if this.program.place(frame.f_code, 0) is not None:
                frame.f_trace = self._statement
            frame = frame.f_back
        sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return None if this.program.place(frame.f_code, 0) is None else self._statement

    def _statement(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            ctx = frame.f_locals.get("ctx")
            place = this.program.place(frame.f_code, frame.f_lineno)
            if isinstance(ctx, Context) and place is not None:
                self._write(ctx, *place)
        return self._statement

    def _write(self, ctx: Context, file: str, line: int) -> None:
        text = self._text if isinstance(self._text, str) else self._text(ctx)
        source = linecache.getline(os.path.join(this.program.directory, file), line).strip()
        name = _STATEMENT.match(source)
        what = "" if name is None else name[0]
        log(self._level, "core", "script_trace", f"[Script Trace][{file}:{line}]{self._info}[{what}] -> ({text})")


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
    _Tracer(level, compile_format(text or "", current()), info).begin(sys._getframe())
    return 1
