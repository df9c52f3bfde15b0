"""What happens to the text of a script before it is read: inclusion of files, and the preprocessor of ``-p``.

``include_file "x"`` and ``import_file "x"`` (the same thing in 3.1) stand at the beginning of a line and are replaced
by the file's text. A relative name is tried from the working directory, then from the directory of the including
file; a missing file is an error. The result is one text whose every line remembers where it came from.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass

from opensips_py.script.diagnostics import Findings, Spot

MAX_DEPTH = 50
"""Nesting of inclusions (OpenSIPS limit)."""

_PIECES = re.compile(
    r"""(?P<directive>^[ \t]*(?P<word>include_file|import_file)[ \t]*(?P<quote>["'])(?P<path>[^"'\n]*)(?P=quote)[ \t]*;?[ \t\r]*$)
    |\#[^\n]*|/\*|\*/|"(?:[^"\\]|\\.)*"|'[^']*'""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_MARK = "__OSSPP_LINE__"
_MARKED = re.compile(rf"^[ \t]*{_MARK} (\d+) (\d+)[ \t]*$")


@dataclass(slots=True)
class Source:
    """The text of a script after inclusion."""

    text: str
    lines: list[tuple[str, int]]
    """File and line number of each line of ``text``."""


class Unreadable(Exception):
    """A file cannot be read, or the preprocessor failed; already among the findings."""


def flatten(path: str, findings: Findings, preprocessor: str | None = None) -> Source:
    """The script in ``path`` (``-``: standard input) with everything that it includes.

    ``preprocessor`` is a command, split as a shell would, but run without one; it gets the flattened text on standard
    input. Raises Unreadable.
    """
    text_lines: list[str] = []
    origin: list[tuple[str, int]] = []
    _include(path, path, _read(path, findings, None), text_lines, origin, findings, [os.path.realpath(path)])
    if preprocessor is not None:
        text_lines, origin = _pipe(preprocessor, text_lines, origin, findings, path)
    return Source("\n".join(text_lines) + "\n", origin)


def _read(path: str, findings: Findings, at: Spot | None) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as f:
                data = f.read()
    except OSError as e:
        where = at or Spot(path, 1, 1, 1)
        findings.error(where, f"cannot read {path}: {e.strerror}")
        raise Unreadable from e
    text = data.decode("latin-1")
    findings.sources[path] = [line.rstrip("\r") for line in text.split("\n")]
    return text


def _include(
    path: str, shown: str, text: str, out: list[str], origin: list[tuple[str, int]], findings: Findings, stack: list[str]
) -> None:
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    directives = _directives(text) if "_file" in text else {}
    for number, line in enumerate(lines, 1):
        name = directives.get(number)
        if name is None:
            out.append(line.rstrip("\r"))
            origin.append((shown, number))
            continue
        column = line.index(name) if name else 1
        at = Spot(shown, number, column, column + len(name) + 2)
        found = _locate(name, path)
        if found is None:
            findings.error(
                at,
                f'cannot open included file "{name}"',
                "a relative name is looked up in the working directory, then beside this file",
            )
            raise Unreadable
        if len(stack) >= MAX_DEPTH or os.path.realpath(found) in stack:
            reason = "it includes itself" if os.path.realpath(found) in stack else f"more than {MAX_DEPTH} levels"
            findings.error(at, f'inclusion of "{name}" goes too deep: {reason}')
            raise Unreadable
        inner = _read(found, findings, at)
        _include(found, found, inner, out, origin, findings, [*stack, os.path.realpath(found)])
        out.append("")
        origin.append((shown, number))


def _directives(text: str) -> dict[int, str]:
    """Included names by line number; comments and strings do not count."""
    found = {}
    depth = 0
    for m in _PIECES.finditer(text):
        piece = m.group()
        if piece == "/*":
            depth += 1
        elif piece == "*/":
            depth = max(0, depth - 1)
        elif m.group("directive") and not depth:
            found[text.count("\n", 0, m.start("word")) + 1] = m.group("path")
    return found


def _locate(name: str, including: str) -> str | None:
    if os.path.isfile(name):
        return name
    if not os.path.isabs(name):
        beside = os.path.join(os.path.dirname(including), name)
        if os.path.isfile(beside):
            return beside
    return None


def _pipe(
    command: str, lines: list[str], origin: list[tuple[str, int]], findings: Findings, path: str
) -> tuple[list[str], list[tuple[str, int]]]:
    """Run the preprocessor. A marker line before each line keeps file and line through whatever it does."""
    files = list(dict.fromkeys(file for file, _ in origin))
    index = {file: i for i, file in enumerate(files)}
    marked = []
    continued = False
    for line, (file, number) in zip(lines, origin, strict=True):
        if not continued:
            marked.append(f"{_MARK} {index[file]} {number}")
        marked.append(line)
        continued = line.endswith("\\")
    try:
        done = subprocess.run(
            shlex.split(command),
            input=("\n".join(marked) + "\n").encode("latin-1"),
            capture_output=True,
            check=False,
        )
    except OSError as e:
        findings.error(Spot(path, 1, 1, 1), f"cannot run the preprocessor {command!r}: {e.strerror}")
        raise Unreadable from e
    if done.returncode:
        detail = done.stderr.decode("latin-1").strip().splitlines()
        findings.error(
            Spot(path, 1, 1, 1),
            f"the preprocessor {command!r} failed with exit status {done.returncode}",
            detail[-1] if detail else None,
        )
        raise Unreadable
    out: list[str] = []
    where: list[tuple[str, int]] = []
    at = (path, 1)
    for line in done.stdout.decode("latin-1").split("\n"):
        m = _MARKED.match(line)
        if m:
            at = (files[int(m[1])], int(m[2]))
            continue
        out.append(line)
        where.append(at)
        at = (at[0], at[1] + 1)
    return out, where
