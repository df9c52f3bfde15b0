"""``make golden``: replay the cases recorded from the C server, and say which share of their assertions is as recorded.

Cases whose modules do not exist here are left out, and counted by module. A case that differs on purpose stands with its reason
in ``tests/golden-exceptions.txt``. The run fails when another case differs, and when a listed one does not differ any more: the
list says no more than is true. What differs is replayed once more, alone, before it counts: the recorded times are those of an
idle machine.

Arguments go to replay.py; with some (``--only 'tm.*' -v``) everything selected is run and nothing excepted.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from opensips_py.script import known_modules, migration
from opensips_py.script.modules import available
from scripts.testbed.mariadb import PASSWORD, USER, MariaDB
from scripts.testbed.preloaded import Preloaded

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "golden"
EXCEPTIONS = ROOT / "tests" / "golden-exceptions.txt"

KINDS = ("language", "flows", "badcfg")
AT_ONCE = 4
"""Cases replayed at the same time: they mostly wait."""
PROGRESS_SECONDS = 15.0
AGAIN = 30
"""More differing cases than these are not a matter of time, and are not replayed again."""
_LOADMODULE = re.compile(r'^\s*loadmodule\s+"(?:[^"]*/)?([^"/]+?)(?:\.so)?"', re.MULTILINE)
_DONE = re.compile(r"(ok|FAIL|skip) +(\S+)  \[")


class Case(msgspec.Struct):
    """A replayed case, as replay.py reports it."""

    id: str
    area: str
    ok: bool
    skipped: str | None
    assertions: int
    differ: int


class Results(msgspec.Struct):
    """What replay.py writes."""

    cases: list[Case]


class Replay:
    """replay.py, with a database and a process from which the servers are forked."""

    def __init__(self) -> None:
        self._database, self._preloaded = MariaDB("golden"), Preloaded()

    def close(self) -> None:
        """End both."""
        self._preloaded.close()
        self._database.remove()

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        port = self._database.port
        client = f"mariadb -h127.0.0.1 -P{port} -u{USER} -p{PASSWORD} golden"
        server = " ".join(map(shlex.quote, self._preloaded.command())) + " -F -E -f {cfg}"
        command = [sys.executable, "-u", str(CORPUS / "replay.py"), "--server", server, "--port-base", "23060"]
        return [*command, "--db", self._database.url, "--db-cli", client, *arguments]

    def run(self, say: Progress, *arguments: str) -> list[Case]:
        """Replay; ``say`` is told each line that is printed."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = self.command("--json", file.name, *arguments, *KINDS)
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
                assert process.stdout is not None
                for line in process.stdout:
                    say.line(line)
            return msgspec.json.decode(file.read(), type=Results).cases


class Progress:
    """Shows what differs unexpectedly when it is found, and now and then how far the run is."""

    def __init__(self, total: int, known: Iterable[str]) -> None:
        self._total, self._known = total, list(known)
        self._done = self._differ = 0
        self._showing = False
        self._began = self._said = time.monotonic()

    def line(self, line: str) -> None:
        """A line of replay.py: a case, or what differs in it."""
        case = _DONE.match(line)
        if case is not None:
            self._done += 1
            self._showing = case[1] == "FAIL" and not listed(case[2], self._known)
            self._differ += self._showing
        elif not line.startswith(" "):
            self._showing = False
        if self._showing:
            print(line, end="", flush=True)
        now = time.monotonic()
        if now - self._said > PROGRESS_SECONDS:
            self._said = now
            minutes, seconds = divmod(int(now - self._began), 60)
            print(f"golden: {self._done} of {self._total} cases, {self._differ} differ, {minutes}:{seconds:02}", flush=True)


def exceptions() -> dict[str, str]:
    """Case id or pattern -> reason."""
    out = {}
    for line in EXCEPTIONS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            case, _, reason = line.partition(" ")
            out[case] = reason.strip()
    return out


def listed(case: str, patterns: Iterable[str]) -> bool:
    """Whether a case is one of the exceptions."""
    return any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)


def corpus() -> Iterator[dict[str, Any]]:
    """All cases, as they are written."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for kind in KINDS:
        for file in sorted((CORPUS / "open" / kind).glob("**/*.yaml")):
            yield from yaml.load(file.read_bytes(), loader)


def missing_modules(case: dict[str, Any], existing: set[str]) -> set[str]:
    """Modules of OpenSIPS that a case loads and that do not exist here."""
    text = "\n".join(str(case.get(key) or "") for key in ("cfg", "globals", "modparams", "extra"))
    loaded = {*case.get("modules", ()), *_LOADMODULE.findall(text)}
    return (loaded & {*known_modules.exports(), *migration.LATER}) - existing


def main(arguments: list[str]) -> int:
    if not CORPUS.is_dir():
        print(f"golden: {CORPUS} is not there, nothing to replay")
        return 0
    replay = Replay()
    try:
        if arguments:
            return subprocess.run(replay.command("-j", "2", *arguments)).returncode
        return whole_corpus(replay)
    finally:
        replay.close()


def whole_corpus(replay: Replay) -> int:
    """Replay all; 0 when exactly the listed cases differ."""
    known, existing = exceptions(), set(available())
    cases = [case for case in corpus() if not case.get("upstream_bug")]
    missing = {case["id"]: modules for case in cases if (modules := missing_modules(case, existing))}
    say = Progress(len(cases) - len(missing), known)
    results = {case.id: case for case in replay.run(say, "-j", str(AT_ONCE), *(f"--not={case}" for case in missing))}
    wrong = [case for case in results if not results[case].ok and not listed(case, known)]
    if 0 < len(wrong) <= AGAIN:
        print(f"golden: once more, alone: {len(wrong)} cases")
        again = replay.run(Progress(len(wrong), known), *(f"--only={case}" for case in wrong))
        results |= {case.id: case for case in again}
    return judge([case for case in results.values() if not case.skipped], missing, known)


def judge(cases: list[Case], missing: dict[str, set[str]], known: dict[str, str]) -> int:
    """Print the shares and what is unexpected; the exit status."""
    for area in sorted({case.area for case in cases}):
        print_share(f"area {area}", [case for case in cases if case.area == area])
    counts = Counter(module for modules in missing.values() for module in modules)
    modules = ", ".join(f"{module} {count}" for module, count in sorted(counts.items()))
    print(f"module missing: {modules or 'none'} ({len(missing)} cases)")
    wrong = [case.id for case in cases if not case.ok]
    unexpected = [case for case in wrong if not listed(case, known)]
    right = [case.id for case in cases if case.ok]
    outdated = [pattern for pattern in known if fnmatch.filter(right, pattern) and not fnmatch.filter(wrong, pattern)]
    for case in unexpected:
        print(f"golden: {case} differs and is not in {EXCEPTIONS.name}")
    for pattern in outdated:
        print(f"golden: {pattern} does not differ any more: take it out of {EXCEPTIONS.name}")
    print_share("all", cases)
    print(f"golden: {len(unexpected)} cases differ unexpectedly, {len(wrong) - len(unexpected)} as listed")
    return 1 if unexpected or outdated else 0


def print_share(what: str, cases: list[Case]) -> None:
    """One line: cases and assertions as recorded, of how many."""
    good = sum(case.ok for case in cases)
    total = sum(case.assertions for case in cases)
    right = total - sum(case.differ for case in cases)
    share = 100 * right / total if total else 100.0
    print(f"{what:26} {good:5} of {len(cases):4} cases {right:6} of {total:5} assertions {share:6.2f} %")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
