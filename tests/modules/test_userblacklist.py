"""Module userblacklist: prefixes of numbers that are allowed or not, of a user and for everybody."""

from __future__ import annotations

import pytest

from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.testing import Script
from tests.modules.conftest import SqliteScripts

TABLES = """
create table version(table_name char(32), table_version int);
insert into version values('userblacklist', 2), ('globalblacklist', 2);
create table userblacklist(username char(64), domain char(64), prefix char(64), whitelist int);
insert into userblacklist values('alice', 'x.example', '49', 0), ('alice', 'x.example', '49123', 1), ('bob', '', '', 0),
    ('bob', '', '1', 1);
create table globalblacklist(prefix char(64), whitelist int);
insert into globalblacklist values('900', 0), ('9001', 1), ('', 1);
create table mine as select * from userblacklist where prefix = '49123';
"""
FORMS = ["CALL;", "await(CALL);", "async(CALL, answer);"]


def start(sqlite: SqliteScripts, call: str, settings: str = "", form: str = FORMS[0]) -> Script:
    if not sqlite.path.exists():
        sqlite.execute(TABLES)
    return sqlite.start(
        f'loadmodule "userblacklist.so"\nmodparam("userblacklist", "db_url", "URL")\n{settings}'
        f"route {{ {form.replace('CALL', call)} route(answer); }}\n"
        'route[answer] { $avp(rc) = $rc; sl_send_reply(200, "OK"); exit; }'
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("user", "domain", "number", "codes"),
    [
        ("alice", "x.example", "4955", (-1, -1)),
        ("alice", "elsewhere", "4955", (-1, 1)),
        ("alice", "x.example", "+4955", (-1, -1)),
        ("alice", "x.example", "491234", (1, 1)),
        ("alice", "x.example", "30", (1, 1)),
        ("alice", "x.example", "name", (1, 1)),
        ("bob", "", "30", (-1, -1)),
        ("bob", "", "1999", (1, 1)),
        ("bob", "", "name", (-1, -1)),
        ("nobody", "", "4955", (1, 1)),
        ("o'hara", "", "4955", (1, 1)),
    ],
)
def test_the_longest_prefix_of_a_user_counts(
    sqlite: SqliteScripts, form: str, user: str, domain: str, number: str, codes: tuple[int, int]
) -> None:
    for mode, code in enumerate(codes):
        settings = f'modparam("userblacklist", "use_domain", {mode})\n'
        script = start(sqlite, f'check_user_blacklist("{user}", "{domain}")', settings, form)
        assert script.request("OPTIONS", f"sip:{number}@x")["$avp(rc)"] == code


def test_another_number_and_another_table(sqlite: SqliteScripts) -> None:
    assert start(sqlite, 'check_user_blacklist("alice", "", "4955")').request("OPTIONS")["$avp(rc)"] == -1
    assert start(sqlite, 'check_user_blacklist("alice", "", "4955", "mine")').request("OPTIONS")["$avp(rc)"] == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_database_that_fails_allows_nothing(sqlite: SqliteScripts, form: str) -> None:
    script = start(sqlite, 'check_user_blacklist("alice", "")', form=form)
    sqlite.execute("drop table userblacklist")
    assert script.request("OPTIONS", "sip:30@x")["$avp(rc)"] == -1


def test_a_table_for_everybody(sqlite: SqliteScripts) -> None:
    script = start(sqlite, 'check_blacklist("globalblacklist")')

    def code(number: str) -> object:
        return script.request("OPTIONS", f"sip:{number}@x")["$avp(rc)"]

    assert [code(number) for number in ("9002", "9001", "55", "bob", "9" * 500)] == [-1, 1, 1, 1, 1]
    sqlite.execute("insert into globalblacklist values('55', 0);")
    assert code("55") == 1
    assert script.mi("reload_blacklist") == {"result": "OK"}
    assert code("55") == -1
    sqlite.execute("drop table globalblacklist;")
    assert script.mi("reload_blacklist")["error"]["code"] == 500
    assert code("55") == -1, "what was there stays"


def test_a_table_that_the_script_does_not_name(sqlite: SqliteScripts) -> None:
    run = start(sqlite, '$var(t) = "globalblacklist"; check_blacklist($var(t))').request("OPTIONS")
    assert run["$avp(rc)"] == -1
    assert any("is not loaded" in line for line in run.log)


@pytest.mark.parametrize("call", ['check_user_blacklist("a", "b")', 'check_blacklist("globalblacklist")'])
def test_tables_of_another_version_are_refused(sqlite: SqliteScripts, call: str) -> None:
    sqlite.execute(TABLES + "update version set table_version = 1;")
    with pytest.raises(ConfigError, match="invalid version 1 for table"):
        start(sqlite, call)


@pytest.mark.parametrize(
    ("call", "settings", "text"),
    [
        ("exit", 'modparam("userblacklist", "db_url", "")\n', "there is no database"),
        ("exit", 'modparam("userblacklist", "db_table", "a b")\n', "db_table: [a b] is not a name"),
        ('check_blacklist("a b")', "", "[a b] is not a name"),
    ],
)
def test_mistakes(sqlite: SqliteScripts, call: str, settings: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        start(sqlite, call, settings)
    assert text in str(caught.value.diagnostics)
