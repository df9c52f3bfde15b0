"""Rules about the code as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


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
