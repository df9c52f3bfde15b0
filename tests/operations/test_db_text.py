"""Tables in text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db.script_queries import AvpDbQuery, SqlInsert, SqlSelect
from opensips_py.db.statement import Raw
from opensips_py.db.text import database as text_database
from opensips_py.db.text.database import TextDatabase
from opensips_py.engine.operation import Done
from opensips_py.modules import db_text
from opensips_py.script.declarations import ConfigError, MIError
from tests.operations.driving import run

ADDRESS = """id(int,auto) grp(int) ip(string) weight(double,null) note(string,null)
1:2:127.0.0.1:1.5:it's \\: a \\\\ \\n
2:1:\xfc:::
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TextDatabase]:
    (tmp_path / "address").write_bytes(ADDRESS.replace(":::", "::").encode("latin-1"))
    (tmp_path / "version").write_text("table_name(string) table_version(int)\naddress:5\n")
    databases.forget_all()
    databases.register("text", TextDatabase)
    found = databases.open(f"text://{tmp_path}")
    assert isinstance(found, TextDatabase)
    yield found
    databases.forget_all()


def test_rows_in_their_types(database: TextDatabase) -> None:
    assert database.read(db.select([], "address")).rows == [
        [1, 2, "127.0.0.1", 1.5, "it's : a \\ \n"],
        [2, 1, "\xfc", None, None],
    ]
    assert run(SqlSelect(database, db.select(["weight"], "address", {"id": 1}), ["$avp(w)"])) == Done(1, [("$avp(w)", "1.5")])


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"grp": 1}, [2]),
        ({"grp": "2", "ip": "127.0.0.1"}, [1]),
        ({"note": None}, [2]),
        ([db.Condition("note", "!=", None)], [1]),
        ([db.Condition("weight", ">", 1)], [1]),
        ([db.Condition("weight", "<", 1)], []),
        ([db.Condition("grp", ">=", "x")], []),
        ([db.Condition("ip", "<>", "127.0.0.1")], [2]),
        ({}, [2, 1]),
    ],
)
def test_conditions_and_order(database: TextDatabase, where: db.statement.Where, found: list[int]) -> None:
    assert database.read(db.select(["id"], "address", where, order="grp")).rows == [[number] for number in found]
    assert database.read(db.select(["count(*)"], "address", where)).rows == [[len(found)]]


def test_order_with_null_and_a_limit(database: TextDatabase) -> None:
    assert database.read(db.select(["id"], "address", order="weight")).rows == [[2], [1]]
    assert database.read(db.select(["id"], "address", order="id", limit=1)).rows == [[1]]


def test_files_are_only_read(database: TextDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(db.query, "log", lambda level, module, function, text: logged.append(text))
    for operation in (
        SqlInsert(database, db.insert("address", {"id": 3})),
        SqlInsert(database, db.delete("address")),
        AvpDbQuery(database, Raw("select * from address")),
        SqlSelect(database, db.select([], "../address")),
    ):
        assert run(operation) == Done(-1)
    assert "only read" in logged[0] and len(logged) == 4


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_the_table_as_it_was(
    database: TextDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(text_database, "log", lambda level, module, function, text: logged.append(text))
    version = db.select(["table_version"], "version")
    for written, expected in (
        ("table_name(string) table_version(int)\naddress:6\n", 6),
        ("table_name(string) table_version(int)\naddress:x\n", 6),
        ("nonsense\n", 6),
        ("table_name(string) table_version(int)\naddress:7:8\n", 6),
        ("table_name(string) table_version(int)\naddress:70\n", 70),
    ):
        (tmp_path / "new").write_text(written)
        (tmp_path / "new").rename(tmp_path / "version")
        for _ in range(3):
            assert database.read(version).rows == [[expected]]
    assert [text.split(": ")[0].rsplit("/", 1)[1] for text in logged] == ["version:2", "version:1", "version:2"]
    (tmp_path / "version").unlink()
    assert database.read(version).rows == [[70]]


def test_what_cannot_be_read_at_first(database: TextDatabase, tmp_path: Path) -> None:
    with pytest.raises(db.DatabaseError, match="No such file"):
        database.read(db.select([], "missing"))
    with pytest.raises(db.DatabaseError, match="there is no column x"):
        database.read(db.select(["x"], "address"))
    (tmp_path / "bad").write_text("id(int) what\n")
    with pytest.raises(db.DatabaseError, match=r"bad:1: \[what\] is not a column"):
        database.read(db.select([], "bad"))
    with pytest.raises(db.DatabaseError, match=r"database \[/nonexistent/db\] does not exist!"):
        TextDatabase("text:///nonexistent/db").read(db.select([], "address"))
    with pytest.raises(ValueError, match="absolute"):
        TextDatabase("text://relative")


def test_versions(database: TextDatabase) -> None:
    database.check_version("address", 5)
    with pytest.raises(ConfigError, match="invalid version 5 for table address found, expected 6"):
        database.check_version("address", 6)


def test_management(database: TextDatabase, tmp_path: Path) -> None:
    database.read(db.select([], "version"))
    assert db_text.dbt_reload() == "OK"
    assert db_text.dbt_reload(str(tmp_path), "address") == "OK"
    (tmp_path / "version").write_text("nonsense\n")
    for arguments in ((), (str(tmp_path), "missing")):
        with pytest.raises(MIError, match="Failed to reload"):
            db_text.dbt_reload(*arguments)
    with pytest.raises(MIError, match="not found"):
        db_text.dbt_reload("/elsewhere")
