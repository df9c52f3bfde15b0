"""What compiled routes reach the server through (implements ``opensips_py.script.runtime.Runtime``)."""

from __future__ import annotations

from opensips_py.engine.engine import Engine
from opensips_py.server import log


class ScriptRuntime:
    """One process' runtime: waiting goes to the async engine, text to the log."""

    def __init__(self, engine: Engine) -> None:
        self.wait = engine.wait
        self.suspend = engine.suspend
        self.wait_here = engine.wait_here
        self.launch = engine.launch
        self.xlog = log.xlog

    @property
    def xlog_level(self) -> int:
        """Lines of xlog() up to this level are written."""
        return log.state.xlog_level

    @property
    def log_level(self) -> int:
        """Lines of log() up to this level are written."""
        return log.state.level

    @staticmethod
    def log(level: int, text: str) -> None:
        """Write the text of log()."""
        log.state.write(level, log.to_bytes(text))

    @staticmethod
    def problem(level: int, text: str, where: str) -> None:
        """Log what went wrong in a statement."""
        log.log(level, "core", "script", f"{where}: {text}")
