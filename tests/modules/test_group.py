"""Module group: users in groups, by a table and by regular expressions."""

from __future__ import annotations

import pytest

from opensips_py.db.statement import Select
from opensips_py.modules import group
from opensips_py.modules.auth import credentials
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.testing import Run
from tests.modules.conftest import SqliteScripts

TABLES = """
create table version(table_name char(32), table_version int);
insert into version values('grp', 3), ('re_grp', 2);
create table grp(username char(64), domain char(64), grp char(64));
insert into grp values('alice', 'example.org', 'local'), ('bob', 'example.com', 'int');
create table re_grp(reg_exp char(128), group_id int);
insert into re_grp values('^sip:alice@', 10), ('^sip:a', 20), ('example\\.com$', 30);
"""
FORMS = ["CALL;", "await(CALL);", "async(CALL, answer);"]


def ask(sqlite: SqliteScripts, call: str, settings: str = "", form: str = FORMS[0], caller: str = "alice@example.org") -> Run:
    if not sqlite.path.exists():
        sqlite.execute(TABLES)
    script = sqlite.start(
        f'loadmodule "auth.so"\nloadmodule "group.so"\nmodparam("group", "db_url", "URL")\n{settings}'
        f"route {{ {form.replace('CALL', call)} route(answer); }}\n"
        'route[answer] { $avp(rc) = $rc; sl_send_reply(200, "OK"); exit; }'
    )
    return script.request("OPTIONS", "sip:bob@example.com", caller=f"sip:{caller}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("user", "name", "caller", "codes"),
    [
        ("From", "local", "alice@example.org", (1, 1)),
        ("from", "local", "alice@elsewhere", (1, -6)),
        ("From", "int", "alice@example.org", (-6, -6)),
        ("To", "int", "x@y", (1, 1)),
        ("Request-URI", "int", "x@y", (1, 1)),
        ("sip:alice@example.org", "local", "x@y", (1, 1)),
        ("From", "local", "example.org", (-1, -1)),
        ("Credentials", "local", "x@y", (-1, -1)),
        ("Contact", "local", "x@y", (-1, -1)),
        ("$avp(unset)", "local", "x@y", (-1, -1)),
        ("From", "lo'cal", "alice@example.org", (-6, -6)),
    ],
)
def test_membership(sqlite: SqliteScripts, form: str, user: str, name: str, caller: str, codes: tuple[int, int]) -> None:
    for use_domain, code in enumerate(codes):
        settings = f'modparam("group", "use_domain", {use_domain})\n'
        assert ask(sqlite, f'db_is_user_in("{user}", "{name}")', settings, form, caller)["$avp(rc)"] == code


def test_credentials_count_when_they_were_found_right(sqlite: SqliteScripts) -> None:
    text = 'Digest username="alice", realm="example.org", nonce="1", uri="sip:x", response="2"'
    ask(sqlite, 'db_is_user_in("Credentials", "local")')
    run = sqlite.running[0].request("OPTIONS", headers={"Authorization": text})
    assert run["$avp(rc)"] == -1
    assert run.context is not None
    run.context.slots[credentials.authorized_slot(credentials.WWW)] = True
    asked = group.db_is_user_in(run.context, "Credentials", "local")
    assert isinstance(asked, group.IsUserIn)
    assert isinstance(asked.statement, Select)
    assert {one.column: one.value for one in asked.statement.where} == {"username": "alice", "grp": "local"}


@pytest.mark.parametrize(("multiple", "groups", "rc"), [(1, [10, 20], 2), (0, [20], 1)])
def test_groups_by_expression_the_last_row_first(sqlite: SqliteScripts, multiple: int, groups: list[int], rc: int) -> None:
    settings = f'modparam("group", "re_table", "re_grp")\nmodparam("group", "multiple_gid", {multiple})\n'
    run = ask(sqlite, 'db_get_user_group("From", $avp(g))', settings)
    assert run["$avp(rc)"] == rc
    assert [run[f"$(avp(g)[{i}])"] for i in range(len(groups) + 1)] == [*groups, None]
    none = ask(sqlite, 'db_get_user_group("From", $avp(g))', settings, caller="zoe@nowhere")
    assert (none["$avp(rc)"], none["$avp(g)"]) == (-1, None)


@pytest.mark.parametrize("form", FORMS)
def test_a_database_that_fails(sqlite: SqliteScripts, form: str) -> None:
    ask(sqlite, 'db_is_user_in("From", "local")', form=form)
    script = sqlite.running[0]
    sqlite.execute("drop table grp")
    assert script.request("OPTIONS", caller="sip:alice@example.org")["$avp(rc)"] == -5


def test_what_is_wrong_at_the_start(sqlite: SqliteScripts) -> None:
    sqlite.execute(TABLES + "update version set table_version=2 where table_name='grp';")
    with pytest.raises(ConfigError, match="invalid version 2 for table grp found, expected 3"):
        ask(sqlite, "exit")
    sqlite.execute("update version set table_version=3 where table_name='grp'; insert into re_grp values('(', 1);")
    with pytest.raises(ConfigError, match=r"re_grp: \[\(\]"):
        ask(sqlite, "exit", 'modparam("group", "re_table", "re_grp")\n')


@pytest.mark.parametrize(
    ("call", "settings", "text"),
    [
        ("exit", 'modparam("group", "db_url", "")\n', "there is no database"),
        ("exit", 'modparam("group", "table", "a b")\n', "table: [a b] is not a name"),
        ("exit", 'modparam("group", "aaa_url", "radius:x")\n', "not supported yet: parameter aaa_url"),
        ('aaa_is_user_in("From", "x")', "", "not supported yet: function aaa_is_user_in() of module group"),
    ],
)
def test_mistakes(sqlite: SqliteScripts, call: str, settings: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        ask(sqlite, call, settings)
    assert text in str(caught.value.diagnostics)
