"""Rules about the code as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("opensips_py", "workers", "ipc")
LARGEST_ROOM = 6000
"""Lines of a package of opensips_py, or of another top-level package."""
OPEN_ENDED = ("opensips_py.modules", "opensips_py.script")
"""Rooms that grow with what OpenSIPS has."""


def committed_files() -> list[Path]:
    """Text files of the repository; of the source tree when it is no repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\n") if name]
    else:
        paths = [p for p in ROOT.rglob("*") if not any(part.startswith((".venv", ".git")) for part in p.parts)]
    return [p for p in paths if p.is_file() and p.suffix not in (".dat", ".pem", ".pyc")]


def test_imports_point_one_way() -> None:
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def source_files() -> dict[str, Path]:
    """Files of the server by the name under which they are imported."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imported(source: str, files: Collection[str]) -> set[str]:
    """Those of ``files`` that a file imports anywhere: in functions and for types only, too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner in files else node.module)
    return names & set(files)


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The nodes that lead back to themselves, by circle (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        path.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
            if other in path:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == number[node]:
            at = path.index(node)
            if len(path) - at > 1:
                found.append(sorted(path[at:]))
            del path[at:]

    for node in graph:
        if node not in number:
            visit(node)
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    files = source_files()
    graph = {name: sorted(imported(path.read_text(), files) - {name}) for name, path in files.items()}
    assert circles(graph) == []


def test_imports_for_types_and_in_functions_count() -> None:
    files = ("a.b", "a.c", "a.d", "a.e")
    source = "from a import b\nif TYPE_CHECKING:\n    from a.c import C\ndef f():\n    import a.d\n"
    assert imported(source, files) == {"a.b", "a.c", "a.d"}
    assert circles({"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": []}) == [["a", "b", "c"]]


def test_no_room_is_too_large() -> None:
    lines: Counter[str] = Counter()
    for name, path in source_files().items():
        parts = name.split(".")
        lines[".".join(parts[:2]) if parts[0] == "opensips_py" else parts[0]] += len(path.read_text().splitlines())
    too_large = {room: count for room, count in lines.items() if count > LARGEST_ROOM and room not in OPEN_ENDED}
    assert not too_large


def test_no_file_names_a_place_of_one_machine() -> None:
    private = re.compile(r"/(?:wor[k]|far[m])/|/tmp/bash_job[s]|/hom[e]/\w+/")
    found = []
    for path in committed_files():
        for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
            if private.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_no_file_waits_to_be_finished() -> None:
    left = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b")
    found = []
    for path in committed_files():
        if path.suffix == ".py":
            for number, line in enumerate(path.read_text().splitlines(), 1):
                unfinished = "NotImplemented" + "Error" in line and "# abstract" not in line
                if left.search(line) or unfinished:
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)
