from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tm.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(str(tmp_path / "store"), monkeypatch)
    yield made
    made.store.close()
