from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from ipc.lmdb_store import LmdbStore


@pytest.fixture
def directory() -> Iterator[str]:
    """A private directory in memory."""
    path = tempfile.mkdtemp(prefix="opensips-py-test-", dir="/dev/shm")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def store(directory: str) -> Iterator[LmdbStore]:
    """An empty store."""
    store = LmdbStore.create(directory, 64 << 20)
    yield store
    store.close()
