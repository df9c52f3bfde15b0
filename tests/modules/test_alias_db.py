"""Module alias_db: aliases in a table, plain and in async()."""

from __future__ import annotations

import pytest

from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.testing import Run
from tests.modules.conftest import SqliteScripts

TABLE = """
create table dbaliases(alias_username char(64), alias_domain char(64), username char(64), domain char(64));
insert into dbaliases values('sales', 'example.com', 'bob', 'home.example'), ('sales', 'other.example', 'zed', 'other.example'),
    ('multi', 'one.example', 'u1', 'home.example'), ('multi', 'two.example', 'u2', 'home.example'),
    ('none', 'example.com', '', 'x');
"""
FORMS = ["CALL;", "await(CALL);", "async(CALL, answer);"]


def ask(sqlite: SqliteScripts, call: str, uri: str = "sip:sales@example.com", form: str = FORMS[0], settings: str = "") -> Run:
    if not sqlite.path.exists():
        sqlite.execute(TABLE)
    script = sqlite.start(
        f'loadmodule "alias_db.so"\nmodparam("alias_db", "db_url", "URL")\n{settings}'
        f"route {{ {form.replace('CALL', call)} route(answer); }}\n"
        'route[answer] { $avp(rc) = $rc; $avp(ru) = $ru; $avp(branches) = $(branch(uri)[*]); sl_send_reply(200, "OK"); exit; }'
    )
    run = script.request("OPTIONS", uri)
    assert run.context is not None
    return run


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("uri", "flags", "found"),
    [
        ("sip:sales@example.com;p=1?h=2", "", "sip:bob@home.example"),
        ("sip:sales@other.example", "", "sip:zed@other.example"),
        ("sip:sales@nowhere", "", None),
        ("sip:sales@nowhere", "d", "sip:bob@home.example"),
        ("sip:bob@home.example", "r", "sip:sales@example.com"),
        ("sip:zed@nowhere", "rd", "sip:sales@other.example"),
        ("sip:none@example.com", "", None),
        ("sip:example.com", "d", None),
        ("sip:it's@example.com", "", None),
    ],
)
def test_the_r_uri_becomes_what_it_is_an_alias_of(
    sqlite: SqliteScripts, form: str, uri: str, flags: str, found: str | None
) -> None:
    run = ask(sqlite, f'alias_db_lookup("dbaliases", "{flags}")', uri, form)
    assert (run["$avp(rc)"], run["$avp(ru)"]) == ((1, found) if found else (-1, uri))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("append", "uris"), [(0, []), (1, ["sip:u2@home.example"])])
def test_further_rows_become_branches_when_that_is_wanted(sqlite: SqliteScripts, form: str, append: int, uris: list[str]) -> None:
    settings = f'modparam("alias_db", "append_branches", {append})\n'
    run = ask(sqlite, 'alias_db_lookup("dbaliases", "d")', "sip:multi@x", form, settings)
    assert run["$avp(ru)"] == "sip:u1@home.example"
    assert run["$avp(branches)"] == (uris[0] if uris else None)


@pytest.mark.parametrize("form", FORMS)
def test_alias_db_find_leaves_the_message_alone(sqlite: SqliteScripts, form: str) -> None:
    run = ask(sqlite, 'alias_db_find("dbaliases", "sip:sales@other.example", $avp(found))', "sip:me@x", form)
    assert (run["$avp(rc)"], run["$avp(found)"], run["$avp(ru)"]) == (1, "sip:zed@other.example", "sip:me@x")
    run = ask(sqlite, 'alias_db_find("dbaliases", "sip:no@x", $avp(found))', "sip:me@x", form)
    assert (run["$avp(rc)"], run["$avp(found)"]) == (-1, None)


def test_a_prefix_of_the_domain_is_left_out(sqlite: SqliteScripts) -> None:
    settings = 'modparam("alias_db", "domain_prefix", "sip.")\n'
    run = ask(sqlite, 'alias_db_lookup("dbaliases")', "sip:sales@sip.example.com", settings=settings)
    assert run["$avp(ru)"] == "sip:bob@home.example"


@pytest.mark.parametrize("form", FORMS)
def test_a_table_that_is_missing(sqlite: SqliteScripts, form: str) -> None:
    run = ask(sqlite, 'alias_db_lookup("nosuch")', form=form)
    assert (run["$avp(rc)"], run["$avp(ru)"]) == (-1, "sip:sales@example.com")
    assert any("no such table" in line for line in run.log)


def test_mistakes(sqlite: SqliteScripts) -> None:
    for call, settings, text in (
        ('alias_db_lookup("dbaliases", "q")', "", "unsupported flag 'q'"),
        ('alias_db_lookup("dbaliases")', 'modparam("alias_db", "db_url", "")\n', "there is no database"),
        ('alias_db_lookup("dbaliases")', 'modparam("alias_db", "user_column", "a b")\n', "user_column: [a b] is not a name"),
    ):
        with pytest.raises(ScriptErrors) as caught:
            ask(sqlite, call, settings=settings)
        assert text in str(caught.value.diagnostics)
