"""The database that a module's ``db_url`` names, or core parameter db_default_url."""

from __future__ import annotations

from pathlib import Path

import pytest

from opensips_py import db
from opensips_py.modules import alias_db
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from tests.script.script_runner import HEAD, Scripts

LOADED = 'loadmodule "db_sqlite.so"\nloadmodule "alias_db.so"\n'
ROUTE = "route { exit; }\n"


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nonsense", "[nonsense] is no database URL, which begins with mysql://, sqlite:// or another kind of database"),
        ("sqlite://x", "[sqlite://x] names no file: the path must be absolute, as in sqlite:///var/lib/opensips/opensips.db"),
        ("mysql://u:p@h/d", 'the database needs module db_mysql, which is not loaded: add loadmodule "db_mysql.so"'),
        ("cassandra://u:p@h/d", 'the database needs module db_cassandra, which is not loaded: add loadmodule "db_cassandra.so"'),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_at_its_line(scripts: Scripts, url: str, complaint: str) -> None:
    [found] = scripts.findings(f'{LOADED}modparam("alias_db", "db_url", "{url}")\n{ROUTE}')
    assert (found.severity, found.line, found.message) == ("error", 3 + HEAD.count("\n"), f"alias_db: db_url: {complaint}")
    [found] = scripts.findings(f'db_default_url = "{url}"\n{LOADED}{ROUTE}')
    assert (found.severity, found.message) == ("error", f"alias_db: core parameter db_default_url: {complaint}")


def test_the_core_s_database_stands_for_one_that_is_not_named(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = scripts.load(f'db_default_url = "sqlite:///a/b.db"\n{LOADED}{ROUTE}')
    monkeypatch.setattr(this, "program", loaded, raising=False)
    assert alias_db.database.open().name == "sqlite:///a/b.db"
    monkeypatch.setattr(
        this,
        "program",
        scripts.load(f'db_default_url = "sqlite:///a/b.db"\n{LOADED}modparam("alias_db", "db_url", "sqlite:///c")\n{ROUTE}'),
    )
    assert alias_db.database.open().name == "sqlite:///c"
    assert alias_db.database.open() is db.open("sqlite:///c"), "one for all modules of the process"


def test_a_module_without_a_database_does_not_start(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = scripts.findings(LOADED + ROUTE)
    assert found.message == "alias_db: there is no database: set db_url, or core parameter db_default_url"


def test_a_table_of_another_version_is_refused_with_the_parameter(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = f'{LOADED}modparam("alias_db", "db_url", "sqlite://{tmp_path}/missing.db")\n{ROUTE}'
    monkeypatch.setattr(this, "program", scripts.load(text), raising=False)
    with pytest.raises(ConfigError, match="alias_db: cannot read the version of table dbaliases") as refused:
        alias_db.database.check_version("dbaliases", 2)
    assert refused.value.parameter == "db_url"
