"""Every input that the fuzzer begins with, and every one that was once at fault, is read as it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.fuzz import SEEDS, seed_directories
from scripts.fuzzing.targets import TARGETS

CASES = [(target, path) for target in TARGETS for directory in seed_directories(target) for path in sorted(directory.iterdir())]


@pytest.mark.parametrize(("target", "path"), CASES, ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_seed(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


def test_every_target_has_seeds() -> None:
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)
