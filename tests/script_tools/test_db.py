"""``opensips-py-db`` with real databases."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py import db
from opensips_py.db import tables
from opensips_py.db.statement import Raw
from scripts.db import main
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.postgres import Postgres

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module", params=["sqlite", "mysql", "postgres"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database that is not there yet; a name is to be added."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path_factory.mktemp('databases')}/"
        return
    server = MariaDB() if request.param == "mysql" else Postgres()
    yield server.url.removesuffix(server.database)
    server.remove()


@pytest.fixture
def url(base: str, request: pytest.FixtureRequest) -> str:
    return base + f"db_{abs(hash(request.node.name))}"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], url: str) -> Run:
    def command(*arguments: str, to: str = url) -> tuple[int, str]:
        status = main([*arguments, to])
        out = capsys.readouterr()
        return status, out.out + out.err

    return command


def rows(url: str, query: str) -> list[db.Row]:
    return db.open(url).read(Raw(query)).rows


@pytest.fixture
def some() -> list[str]:
    """Options for the tables that the test needs."""
    wanted = ("subscriber", "address", "dr_gateways", "domain", "dbaliases", "dispatcher")
    return [option for table in wanted for option in ("-t", table)]


def test_all_tables_are_made_checked_and_removed_also_twice(run: Run, url: str) -> None:
    assert run("create") == (0, f"{db.open(url).name}: {len(tables.tables())} tables made\n")
    assert run("create") == (0, f"{db.open(url).name}: all tables are there\n")
    assert run("check")[0] == 0
    assert rows(url, "select table_version from version where table_name='location'") == [[1013]]
    db.open(url).check_version("subscriber", 7)
    assert "removed" in run("drop", "--yes")[1]
    assert run("drop", "--yes") == (0, f"{db.open(url).name}: 0 tables removed\n")
    status, text = run("check")
    assert status == 1 and "no table version" in text
    for left in ("version", "opensips_py_done"):
        assert not tables.exists(db.open(url), left)


def test_every_table_takes_a_row_with_its_defaults(run: Run, url: str) -> None:
    run("create")
    database = db.open(url)
    for name, table in tables.tables().items():
        given: dict[str, db.SqlValue] = {}
        for column in table.columns:
            title, kind = column.split(" ")[:2]
            if "NOT NULL" in column and "DEFAULT" not in column and "AUTOINCREMENT" not in column:
                text = kind.startswith(("CHAR", "TEXT", "BLOB"))
                given[title] = "x" if text else db.Time(86400) if kind == "DATETIME" else 5
        if not given:
            given = {table.names[1]: 1 if "INTEGER" in table.columns[1] else "x"}
        database.read(db.insert(name, given))
        [row] = database.read(db.select(list(given), name)).rows
        assert row == [value.seconds if isinstance(value, db.Time) else value for value in given.values()], name


def test_what_differs_from_3_1_is_told(run: Run, url: str) -> None:
    run("create", "-t", "domain", "-t", "address", "-t", "grp")
    database = db.open(url)
    database.read(db.update("version", {"table_version": 2}, {"table_name": "domain"}))
    database.read(Raw("drop table grp"))
    database.read(Raw("drop table address"))
    database.read(Raw("create table address(id int, grp int)"))
    status, text = run("check", "-t", "domain", "-t", "address", "-t", "grp")
    assert status == 1
    assert "table domain has version 2, not 3\n" in text
    assert "there is no table grp\n" in text
    assert "table address has no column ip\n" in text and "no column grp" not in text
    status, text = run("create", "-t", "grp", "-t", "domain")
    assert status == 1 and "table domain has version 2, not 3: it is of another version of OpenSIPS" in text


def test_accounts(run: Run, url: str, some: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run("create", *some)
    assert run("add-user", "-p", "se'cret", "alice@Example.org") == (0, "alice@example.org added\n")
    ha1 = hashlib.md5(b"alice:example.org:se'cret").hexdigest()
    ha1b = hashlib.md5(b"alice@example.org:example.org:se'cret").hexdigest()
    account = "select username, domain, password, ha1, ha1b from subscriber"
    assert rows(url, account) == [["alice", "example.org", "", ha1, ha1b]]
    status, text = run("add-user", "-p", "other", "alice@example.org")
    assert status == 0 and "already" in text
    assert rows(url, account) == [["alice", "example.org", "", ha1, ha1b]]
    monkeypatch.setattr("sys.stdin", io.StringIO("pass word\n"))
    assert run("passwd", "--plain", "alice@example.org") == (0, "alice@example.org: password changed\n")
    ha1 = hashlib.md5(b"alice:example.org:pass word").hexdigest()
    assert [row[2:4] for row in rows(url, account)] == [["pass word", ha1]]
    assert run("rm-user", "alice@example.org") == (0, "alice@example.org removed\n")
    assert run("rm-user", "alice@example.org") == (0, "there is no account alice@example.org\n")
    assert run("passwd", "-p", "x", "alice@example.org")[0] == 1
    assert rows(url, account) == []


def test_what_routing_needs(run: Run, url: str, some: list[str]) -> None:
    run("create", *some)
    for _ in range(2):  # the second time nothing is added
        for arguments in (
            ("add-address", "-g", "2", "-p", "5060", "--proto", "udp", "10.0.0.0/8"),
            ("add-address", "--info", "it's", "2001:db8::1"),
            ("add-gateway", "--prefix", "00", "gw1", "10.1.1.1:5070"),
            ("add-domain", "Example.org"),
            ("add-alias", "100@example.org", "alice@example.org"),
            ("add-destination", "--priority", "3", "7", "sip:192.0.2.1:5080"),
        ):
            assert run(*arguments)[0] == 0
    assert rows(url, "select grp, ip, mask, port, proto, pattern, context_info from address order by grp") == [
        [1, "2001:db8::1", 128, 0, "any", None, "it's"],
        [2, "10.0.0.0", 8, 5060, "udp", None, None],
    ]
    assert rows(url, "select gwid, address, pri_prefix, strip from dr_gateways") == [["gw1", "10.1.1.1:5070", "00", 0]]
    assert rows(url, "select domain from domain") == [["example.org"]]
    assert rows(url, "select alias_username, alias_domain, username, domain from dbaliases") == [
        ["100", "example.org", "alice", "example.org"]
    ]
    assert rows(url, "select setid, destination, weight, priority from dispatcher") == [[7, "sip:192.0.2.1:5080", "1", 3]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("add-user", "-p", "x", "alice"), "not an account"),
        (("add-user", "-p", "x", "@example.org"), "not an account"),
        (("add-user", "-p", "x", "a:b@example.org"), "not an account"),
        (("add-user", "-p", "", "a@example.org"), "empty"),
        (("add-user", "-p", "x" * 26, "--plain", "a@example.org"), "25 characters"),
        (("add-address", "10.0.0.0/99"), "10.0.0.0/99"),
        (("add-address", "-p", "70000", "10.0.0.1"), "70000"),
        (("add-gateway", "gw", "not a host"), "not the address"),
        (("add-domain", "a b"), "not a domain"),
        (("add-destination", "x", "sip:a"), "number of its set"),
    ],
)
def test_nonsense_is_refused(run: Run, url: str, some: list[str], arguments: tuple[str, ...], complaint: str) -> None:
    run("create", *some)
    status, text = run(*arguments)
    assert status == 1 and complaint in text
    assert text.startswith("opensips-py-db: ") and "Traceback" not in text


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:///nonexistent/dir/x.db", "No such file or directory"),
        ("mysql://u:p@127.0.0.1:1/d", "refused"),
        ("oracle://u:p@h/d", "not supported"),
        ("nonsense", "no database URL"),
    ],
)
def test_databases_that_cannot_be_used(url: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", url]) == 1
    assert complaint in capsys.readouterr().err


def test_the_url_may_come_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["create"])
    assert ended.value.code == 2 and "OPENSIPS_PY_DB" in capsys.readouterr().err
    monkeypatch.setenv("OPENSIPS_PY_DB", f"sqlite://{tmp_path}/x.db")
    assert main(["create", "-t", "domain"]) == main(["add-domain", "example.org"]) == 0


def test_what_passwords_are_checked_by_is_not_for_everybody(tmp_path: Path) -> None:
    assert main(["create", "-t", "subscriber", f"sqlite://{tmp_path}/x.db"]) == 0
    assert (tmp_path / "x.db").stat().st_mode & 0o007 == 0


def test_names_with_any_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite://{tmp_path}/Zürich.db"
    assert main(["create", "-t", "dispatcher", url]) == 0
    assert main(["add-destination", "--description", "Zürich", "1", "sip:192.0.2.1", url]) == 0
    assert "Zürich.db" in capsys.readouterr().out
    assert (tmp_path / "Zürich.db").exists()
