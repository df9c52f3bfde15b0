"""What the checker has to say about a script: errors, warnings and notices, each with its place.

The text of an error carries the words ``parse error in FILE:LINE:COL-COL:`` for tools that read OpenSIPS' log, and
then shows the line with a caret as compilers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

ERROR = "error"
WARNING = "warning"
NOTICE = "notice"

_RANK = {ERROR: "CRITICAL", WARNING: "WARNING", NOTICE: "NOTICE"}


class Place(Protocol):
    """Anything with a place in a script: a node, a token."""

    @property
    def file(self) -> str: ...

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...

    @property
    def end(self) -> int: ...


@dataclass(slots=True, frozen=True)
class Spot:
    """A place that belongs to no node or token."""

    file: str
    line: int
    column: int
    end: int


@dataclass(slots=True, frozen=True)
class Diagnostic:
    """One finding."""

    file: str
    line: int
    column: int
    end: int
    """Column after the last character meant."""
    severity: str
    """``error``, ``warning`` or ``notice``."""
    message: str
    hint: str | None = None
    """The way out, when one is known."""
    source: str | None = None
    """The line of the script."""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text

    def render(self) -> str:
        """For a person: place and message, the source line, a caret line, the hint."""
        lines = [f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"]
        if self.source is not None:
            lines.append("    " + self.source.replace("\t", " "))
            lines.append("    " + " " * (self.column - 1) + "^" + "~" * (self.end - self.column - 1))
        if self.hint:
            lines.append("    " + self.hint)
        return "\n".join(lines)

    def log_line(self) -> str:
        """As OpenSIPS logs it, without date and process number."""
        if self.severity == ERROR:
            return f"CRITICAL:core:yyerror: parse error in {self.file}:{self.line}:{self.column}-{self.end}: {self.message}"
        return f"{_RANK[self.severity]}:core:script: {self}"


class ScriptErrors(Exception):
    """The script cannot be used. ``diagnostics`` has all errors, and the warnings found on the way."""

    def __init__(self, diagnostics: list[Diagnostic], summary: str | None = None) -> None:
        super().__init__("\n".join(str(d) for d in diagnostics if d.severity == ERROR))
        self.diagnostics = diagnostics
        self.summary = summary
        """What is missing here, in one line."""

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.diagnostics if d.severity == ERROR]

    def render(self) -> str:
        """All findings for a person, and their number."""
        return render(self.diagnostics, self.summary)


def render(diagnostics: Iterable[Diagnostic], summary: str | None = None) -> str:
    """All findings for a person; errors also as OpenSIPS' log line, once each. The number of errors and ``summary`` end it."""
    out = []
    errors = 0
    for d in diagnostics:
        if d.severity == ERROR:
            errors += 1
            out.append(d.log_line())
        out.append(d.render())
    if errors:
        out.append(f"{errors} error" + ("" if errors == 1 else "s"))
    if summary:
        out.append(summary)
    return "\n".join(out)


class Findings:
    """Collects diagnostics. The same error at the same place is kept once."""

    def __init__(self) -> None:
        self.all: list[Diagnostic] = []
        self.sources: dict[str, list[str]] = {}
        """Lines of each file read so far."""
        self._seen: set[tuple[str, int, int, str]] = set()
        self.failed = False
        self.unclosed: list[tuple[str, int]] = []
        """File and line of strings and variables that are never closed."""
        self.routes_lost = self.modules_lost = False
        """Part of the script was not understood, in which routes, or modules, may stand."""

    def error(self, at: Place, message: str, hint: str | None = None) -> None:
        self._add(at, ERROR, message, hint)
        self.failed = True

    def warning(self, at: Place, message: str, hint: str | None = None) -> None:
        self._add(at, WARNING, message, hint)

    def notice(self, at: Place, message: str, hint: str | None = None) -> None:
        self._add(at, NOTICE, message, hint)

    def _add(self, at: Place, severity: str, message: str, hint: str | None) -> None:
        key = (at.file, at.line, at.column, message)
        if key in self._seen:
            return
        self._seen.add(key)
        lines = self.sources.get(at.file, [])
        source = lines[at.line - 1] if 0 < at.line <= len(lines) else None
        end = max(at.end, at.column + 1)
        if source is not None:
            end = max(min(end, len(source) + 1), at.column + 1)
        self.all.append(Diagnostic(at.file, at.line, at.column, end, severity, message, hint, source))

    def sorted(self) -> list[Diagnostic]:
        """By file and line, in the order in which the files were read."""
        order = {name: i for i, name in enumerate(self.sources)}
        return sorted(self.all, key=lambda d: (order.get(d.file, 0), d.line, d.column))
