"""The routes of a running script, read again.

Parameters, modules and sockets stay as they are: the new routes are checked and compiled against them. One process
reads the files (:func:`read`) and checks them; every process then compiles the same text (:func:`compile_routes`), so
that all have the same routes, whatever happens to the files meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from opensips_py.script import ast, check, lexer, parser, preprocess
from opensips_py.script.declarations import Event
from opensips_py.script.diagnostics import ERROR, WARNING, Diagnostic, Findings, ScriptErrors
from opensips_py.script.environment import Environment
from opensips_py.script.event_names import events
from opensips_py.script.flag_names import branch_flags, message_flags
from opensips_py.script.program import Program, deep
from opensips_py.script.shape import shape


class Text(msgspec.Struct, array_like=True):
    """A script as one process has read it, for the others."""

    text: str
    """With everything that it includes."""
    files: list[str]
    lines: list[tuple[int, int]]
    """For each line of ``text`` the index in ``files`` and the number of the line there."""


def read(program: Program) -> tuple[Text, list[Diagnostic]]:
    """Read the files of ``program`` again and check them; the text and the warnings. Raises ScriptErrors."""
    findings = Findings()
    if program.path == "-":
        at = Diagnostic("-", 1, 1, 2, ERROR, "the script came from standard input, which cannot be read again")
        raise ScriptErrors([at])
    with _directory(program.directory):
        try:
            source = preprocess.flatten(program.path, findings, program.preprocessor)
        except preprocess.Unreadable:
            raise ScriptErrors(findings.sorted()) from None
    index = {file: i for i, file in enumerate(findings.sources)}
    text = Text(source.text, list(findings.sources), [(index[file], number) for file, number in source.lines])
    known = [list(flags.names) for flags in (message_flags, branch_flags)], dict(events.known)
    try:
        made = _compile(program, text, findings)
    finally:  # the process gets its new names when it takes the routes, as every other one
        _forget_names(*known)
    warnings = findings.sorted()
    if made.frame != program.frame:
        place = _first_difference(program, made)
        warnings.append(
            Diagnostic(
                *(place.file, place.line, place.column, place.end, WARNING),
                "only routes are read again: parameters, modules and sockets stay as they were",
                "restart the server to change them",
            )
        )
    made.release()
    return text, warnings


def compile_routes(program: Program, text: Text) -> Program:
    """A program with the settings and modules of ``program`` and the routes of ``text``. Raises ScriptErrors."""
    findings = Findings()
    findings.sources = {file: [] for file in text.files}
    known = [list(flags.names) for flags in (message_flags, branch_flags)], dict(events.known)
    try:
        return _compile(program, text, findings)
    except BaseException:
        _forget_names(*known)
        raise


def _compile(program: Program, text: Text, findings: Findings) -> Program:
    with deep(program.path):
        source = preprocess.Source(text.text, [(text.files[i], number) for i, number in text.lines])
        script = parser.parse(lexer.tokens(source, findings), findings)
        env = Environment(program.settings, program.registry, dict(program.modules), argv=dict(program.argv))
        for module in program.modules.values():
            env.functions.update(module.functions)
        check.check(script, env, findings, program.path)
        if findings.failed:
            raise ScriptErrors(findings.sorted())
        made = Program(program.path, script, env)
    made.sockets, made.aliases = program.sockets, program.aliases
    made.directory, made.preprocessor = program.directory, program.preprocessor
    made.generation = program.generation + 1
    return made


def _forget_names(flags: list[list[str]], known: dict[str, Event]) -> None:
    """Flags and events are again those that there were."""
    message_flags.names[:], branch_flags.names[:] = flags
    events.known = known


def _first_difference(old: Program, new: Program) -> ast.Node:
    """The first top-level statement of ``new`` that ``old`` does not have, or the place where one has gone."""
    before = [shape(node) for node in old.frame_nodes]
    for node in new.frame_nodes:
        if shape(node) not in before:
            return node
    return ast.Null(file=new.path, line=1, column=1, end=2)


@contextmanager
def _directory(path: str) -> Iterator[None]:
    """Names in a script are relative to the directory in which the server was started."""
    back = os.getcwd()
    try:
        os.chdir(path)
    except OSError as error:
        raise ScriptErrors([Diagnostic(path, 1, 1, 2, ERROR, f"cannot go to the directory: {error.strerror}")]) from None
    try:
        yield
    finally:
        os.chdir(back)
