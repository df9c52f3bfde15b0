"""``make golden``: replay the cases recorded from the C server whose areas are complete here.

A case that differs, on purpose or not yet, stands with its reason in ``tests/golden-exceptions.txt``. The run fails
when another case differs, and when a listed one does not differ any more: the list says no more than is true.
Arguments go to replay.py; with some (``--only 'tm.*' -v``) everything selected is run and nothing excepted.
"""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.testbed.mariadb import PASSWORD, USER, MariaDB
from scripts.testbed.preloaded import Preloaded

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "golden"
EXCEPTIONS = ROOT / "tests" / "golden-exceptions.txt"

AREAS = [
    # flows
    "async", "async.*", "mi", "rr", "sl", "tm.*",
    # language
    "arith", "compare", "corefn", "flags", "flow", "fn", "lex", "logic", "mix", "pv.*", "trans.*", "vars",
    # wrong configurations
    "badcfg",
]  # fmt: skip


def exceptions() -> dict[str, str]:
    """Case id or pattern -> reason."""
    out = {}
    for line in EXCEPTIONS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            case, _, reason = line.partition(" ")
            out[case] = reason.strip()
    return out


def main(arguments: list[str]) -> int:
    if not CORPUS.is_dir():
        print(f"golden: {CORPUS} is not there, nothing to replay")
        return 0
    database, preloaded = MariaDB("golden"), Preloaded()
    try:
        with tempfile.NamedTemporaryFile(suffix=".json") as results:
            server = f"{preloaded.command()} -F -E -f {{cfg}}"
            client = f"mariadb -h127.0.0.1 -P{database.port} -u{USER} -p{PASSWORD} golden"
            command = [sys.executable, str(CORPUS / "replay.py"), "--server", server, "--db", database.url, "--db-cli", client]
            command += ["--json", results.name, "-j", "2", "--port-base", "23060"]
            command += arguments or ["-q", *(word for area in AREAS for word in ("--only", area)), "language", "flows", "badcfg"]
            status = subprocess.run(command).returncode
            if arguments:
                return status
            return judge(json.load(results)["cases"])
    finally:
        preloaded.close()
        database.remove()


def judge(cases: list[dict[str, object]]) -> int:
    """0 when exactly the listed cases differ."""
    known = exceptions()
    counted = [case for case in cases if not case["upstream_bug"] and not case["skipped"]]
    wrong = [str(case["id"]) for case in counted if not case["ok"]]
    right = [str(case["id"]) for case in counted if case["ok"]]
    unexpected = [case for case in wrong if not any(fnmatch.fnmatch(case, pattern) for pattern in known)]
    outdated = [pattern for pattern in known if fnmatch.filter(right, pattern) and not fnmatch.filter(wrong, pattern)]
    for case in unexpected:
        print(f"golden: {case} differs and is not in {EXCEPTIONS.name}")
    for pattern in outdated:
        print(f"golden: {pattern} does not differ any more: take it out of {EXCEPTIONS.name}")
    print(f"golden: {len(right)} of {len(counted)} cases as recorded, {len(wrong) - len(unexpected)} known to differ")
    return 1 if unexpected or outdated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
