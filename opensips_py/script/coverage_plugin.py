"""Tells coverage.py about routing scripts: which lines of an ``opensips.cfg`` can run, and which of them did.

Routes are Python functions whose code names the script's file and lines, so coverage.py measures them as it measures
Python; what it cannot know by itself is what a script is. In its configuration::

    [run]
    plugins = opensips_py.script.coverage_plugin
"""

from __future__ import annotations

import os
from typing import Any

from coverage import CoverageData, CoveragePlugin, FileReporter, FileTracer

from opensips_py.script import ast, lexer, parser, preprocess
from opensips_py.script.codegen import FOREIGN
from opensips_py.script.diagnostics import Findings
from opensips_py.script.walk import statements


class ScriptPlugin(CoveragePlugin):
    """The plugin."""

    def file_tracer(self, filename: str) -> FileTracer | None:
        """Everything that is run and is not Python's own is a script: only routes have such code."""
        if filename.endswith((".py", ".pyc", ".so")) or not os.path.isfile(filename):
            return None
        return ScriptTracer(filename)

    def file_reporter(self, filename: str) -> FileReporter:
        return ScriptReporter(filename)


class ScriptTracer(FileTracer):
    """Says which file a route belongs to. Lines of included files are sorted out at the end (:func:`finish`)."""

    def __init__(self, filename: str) -> None:
        self._filename = filename

    def source_filename(self) -> str:
        return self._filename


def finish(data: CoverageData, files: list[str]) -> None:
    """Give lines that were measured in a route to the included file that they stand in; name files without any.

    ``files`` are those of the script, in its order.
    """
    real = [os.path.realpath(file) for file in files]
    data.touch_files(real, f"{__name__}.{ScriptPlugin.__name__}")
    for file in real:
        for line in data.lines(file) or ():
            if line >= FOREIGN:
                data.add_lines({real[line // FOREIGN - 1]: {line % FOREIGN}})


class ScriptReporter(FileReporter):
    """Says which lines of a script can run: those on which a statement begins."""

    def lines(self) -> set[int]:
        return statement_lines(self.filename)

    def source(self) -> str:
        with open(self.filename, encoding="latin-1") as file:
            return file.read()


def statement_lines(path: str) -> set[int]:
    """Lines of ``path`` on which a statement of a route begins; of a script, or of a part of one."""
    whole = _lines_of(_whole(path), path)
    if whole:
        return whole
    with open(path, encoding="latin-1", newline="") as file:
        text = file.read()
    numbered = [(path, number) for number in range(1, text.count("\n") + 2)]
    return _lines_of(preprocess.Source("route { " + text + "\n}\n", [*numbered, (path, len(numbered))]), path)


def _whole(path: str) -> preprocess.Source:
    """The text of a script with what it includes; nothing when that cannot be read."""
    try:
        return preprocess.flatten(path, Findings())
    except preprocess.Unreadable:
        return preprocess.Source("", [])


def _lines_of(source: preprocess.Source, path: str) -> set[int]:
    findings = Findings()
    script = parser.parse(lexer.tokens(source, findings), findings)
    return {
        node.line for route in script.routes for node in statements(route.body) if _same(node.file, path) and not _vanishes(node)
    }


def _vanishes(node: ast.Statement) -> bool:
    """Statements of which no code is left: what does nothing, and tests of a number."""
    if isinstance(node, ast.If):
        return isinstance(node.condition, ast.Truth) and isinstance(node.condition.value, ast.Number)
    return isinstance(node, ast.Noop)


def _same(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def coverage_init(registry: Any, options: Any) -> None:
    """Called by coverage.py."""
    registry.add_file_tracer(ScriptPlugin())
