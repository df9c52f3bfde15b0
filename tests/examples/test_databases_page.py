"""The example of docs/databases.md works as it stands there."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opensips_py.db import database as databases
from opensips_py.db.sqlite.database import SqliteDatabase
from opensips_py.engine.blocking_wait import drive
from opensips_py.engine.operation import Done, Operation
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this

PAGE = Path(__file__).resolve().parents[2] / "docs" / "databases.md"


def test_a_module_that_asks_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    databases.register("sqlite", SqliteDatabase)
    with sqlite3.connect(tmp_path / "case.db") as connection:
        connection.executescript(
            "create table users(username char(9), credit int); insert into users values('bob', 42);"
            "create table version(table_name char(9), table_version int); insert into version values('users', 7);"
            "create table carriers(id int, name char(9)); insert into carriers values(1, 'one');"
        )
    connection.close()
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile("from __future__ import annotations\n" + code, str(PAGE), "exec"), names)
    monkeypatch.setattr(
        this, "program", SimpleNamespace(settings=SimpleNamespace(db_default_url=None, async_memory=128)), raising=False
    )
    names["module"].params["db_url"].value = f"sqlite://{tmp_path}/case.db"

    names["load"]()
    output = SimpleNamespace(text="$var(credit)")
    assert drive(names["credit_of"](None, "bob", output)) == Done(1, [("$var(credit)", 42)])
    assert drive(names["credit_of"](None, "eve", output)) == Done(-1)
    heir = Operation.registry["credit_of"].thaw(names["credit_of"](None, "bob", output).freeze(), [], b"")
    assert drive(heir) == Done(1, [("$var(credit)", 42)])
    with sqlite3.connect(tmp_path / "case.db") as connection:
        connection.execute("update version set table_version = 6")
    connection.close()
    with pytest.raises(ConfigError, match="credit: invalid version 6 for table users found, expected 7"):
        names["load"]()
    del Operation.registry["credit_of"]
