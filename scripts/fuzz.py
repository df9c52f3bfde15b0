"""make fuzz: everything that reads what strangers send, under a coverage-guided fuzzer (atheris, libFuzzer).

Starts from the files of tests/fuzz/seeds, one directory for each target. What raises anything but the errors that the reader
documents, or takes more than a second, is a fault: it is written to a file.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scripts.fuzzing.targets import TARGETS

ROOT = Path(__file__).parent.parent
SEEDS = ROOT / "tests/fuzz/seeds"
MORE_SEEDS = dict.fromkeys(("sip-message", "sip-stream"), (ROOT / "tests/sip/testdata",))
"""The messages of RFC 4475 begin these too."""
TURN = 20
"""Seconds for one target at a time, when there is no end."""
LIMITS = ["-max_len=8192", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1"]


class Turn(NamedTuple):
    """What one process has found."""

    target: str
    inputs: int
    reached: int
    fault: Path | None
    log: str


def seed_directories(target: str) -> list[Path]:
    """Where the first inputs of a target are."""
    return [SEEDS / target, *MORE_SEEDS.get(target, ())]


def _child(target: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "scripts.fuzzing.child", target, *arguments]


def fuzz(target: str, corpus: Path, seconds: int, seed: int, faults: Path) -> Turn:
    """Fuzz one target for so long; inputs that reach something new stay in ``corpus``."""
    mine = corpus / target
    mine.mkdir(parents=True, exist_ok=True)
    faults.mkdir(parents=True, exist_ok=True)
    command = _child(target, *LIMITS, f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={faults}/{target}-")
    command += [str(mine), *map(str, seed_directories(target))]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, errors="replace", env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    log = done.stdout + done.stderr
    counted = re.search(r"number_of_executed_units: (\d+)", log)
    reached = re.findall(r"\bcov: (\d+)", log)
    written = re.search(r"Test unit written to (\S+)", log)
    if done.returncode and written is None:
        raise SystemExit(f"fuzz: {target} could not be run:\n{log[-3000:]}")
    return Turn(
        target, int(counted[1]) if counted else 0, int(reached[-1]) if reached else 0, Path(written[1]) if written else None, log
    )


def _tell(turn: Turn) -> None:
    faults = "no fault" if turn.fault is None else "A FAULT"
    print(f"fuzz: {turn.target:16} {turn.inputs:9,} inputs  {turn.reached:5,} places of the code reached  {faults}", flush=True)
    if turn.fault is not None:
        begin = max(turn.log.find("Uncaught Python exception"), 0)
        print(re.split(r"\n==|\nINFO:", turn.log[begin : begin + 3000])[0])
        print(
            f"fuzz: the input is {turn.fault}; again: make fuzz FUZZ_ARGS='--replay {turn.target} {shlex.quote(str(turn.fault))}'"
        )
        print(f"fuzz: mended, it belongs into {(SEEDS / turn.target).relative_to(ROOT)}", flush=True)


def replay(target: str, path: str) -> None:
    """Run one file as it is; a fault is a traceback."""
    TARGETS[target](Path(path).read_bytes())
    print(f"fuzz: {target} reads {path} as it should")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=0, help="for all targets together; without: until Ctrl-C")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the random numbers (1): the same seed tries the same inputs in the same order"
    )
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (2)")
    parser.add_argument(
        "--corpus", type=Path, help="keep what has reached something new in this directory, and begin with what is there"
    )
    parser.add_argument("--faults", type=Path, default=Path(".fuzz"), help="where the inputs at fault are written (.fuzz)")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"), help="run one input")
    parser.add_argument("targets", nargs="*", help=f"which; without: all ({' '.join(TARGETS)})")
    given = parser.parse_args()
    unknown = [name for name in given.targets + (given.replay or [])[:1] if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}: {' '.join(TARGETS)}")
    return given


def main() -> None:
    """Run."""
    given = _arguments()
    if given.replay:
        replay(*given.replay)
        return
    names = given.targets or list(TARGETS)
    seconds = max(1, given.seconds * given.jobs // len(names)) if given.seconds else TURN
    begun, faults, seed = time.monotonic(), 0, given.seed
    with tempfile.TemporaryDirectory() as passing, ThreadPoolExecutor(given.jobs) as pool:
        corpus = (given.corpus or Path(passing)).resolve()
        try:
            while True:
                for turn in pool.map(
                    partial(fuzz, corpus=corpus, seconds=seconds, seed=seed, faults=given.faults.resolve()), names
                ):
                    _tell(turn)
                    faults += turn.fault is not None
                seed += 1
                if given.seconds:
                    break
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
    print(f"fuzz: {faults or 'no'} fault{'s' * (faults != 1)} in {time.monotonic() - begun:.0f} s")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
