"""Scripts of modules that keep their data in a database, which is an SQLite file here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensips_py.db import database as databases
from opensips_py.testing import Script


class SqliteScripts:
    """Starts scripts whose ``URL`` is the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite://{path}"
        self.running: list[Script] = []

    def execute(self, sql: str) -> None:
        """Change the file, as another program does."""
        connection = sqlite3.connect(self.path)
        connection.executescript(sql)
        connection.close()

    def start(self, text: str) -> Script:
        """Run a script; what ran before ends."""
        self.end()
        loads = 'loadmodule "db_sqlite.so"\nloadmodule "signaling.so"\n'
        self.running.append(Script(loads + text.replace("URL", self.url)))
        return self.running[-1]

    def end(self) -> None:
        while self.running:
            self.running.pop().close()
        databases.forget_all()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteScripts]:
    databases.forget_all()
    scripts = SqliteScripts(tmp_path / "case.db")
    yield scripts
    scripts.end()
