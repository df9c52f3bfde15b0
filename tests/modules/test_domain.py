"""Module domain: local domains asked of the database, or kept in memory and read again."""

from __future__ import annotations

from typing import Any

import pytest

from ipc.store import StoreFull
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.server.process import this
from opensips_py.testing import Run, Script
from tests.modules.conftest import SqliteScripts

TABLES = """
create table version(table_name char(32), table_version int);
insert into version values('domain', 3);
create table domain(domain char(64), attrs char(255));
insert into domain values('example.org', 'x=1'), ('Plain.example', null);
"""
FORMS = ["CALL;", "await(CALL);", "async(CALL, answer);"]
MEMORY = 'modparam("domain", "db_mode", 1)\n'


def start(sqlite: SqliteScripts, call: str, settings: str = "", form: str = FORMS[0]) -> Script:
    if not sqlite.path.exists():
        sqlite.execute(TABLES)
    return sqlite.start(
        f'loadmodule "domain.so"\nmodparam("domain", "db_url", "URL")\n{settings}'
        f"route {{ {form.replace('CALL', call)} route(answer); }}\n"
        'route[answer] { $avp(rc) = $rc; sl_send_reply(200, "OK"); exit; }'
    )


def codes(run: Run) -> tuple[Any, Any]:
    return run["$avp(rc)"], run["$avp(a)"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("settings", ["", MEMORY])
def test_both_modes_know_the_domains(sqlite: SqliteScripts, settings: str, form: str) -> None:
    script = start(sqlite, "is_from_local($avp(a))", settings, form)
    assert codes(script.request("OPTIONS", caller="sip:a@example.org:5099;x")) == (1, "x=1")
    assert codes(script.request("OPTIONS", caller="sip:a@Plain.example")) == (1, None)
    assert codes(script.request("OPTIONS", caller="sip:a@sub.example.org")) == (-1, None)
    script = start(sqlite, "is_uri_host_local($avp(a))", settings, form)
    assert codes(script.request("OPTIONS", "sip:b@example.org")) == (1, "x=1")
    assert codes(script.request("OPTIONS", "tel:123")) == (-1, None)
    script = start(sqlite, 'is_domain_local("$hdr(X)", $avp(a))', settings, form)
    assert codes(script.request("OPTIONS", headers={"X": "example.org"})) == (1, "x=1")
    assert codes(script.request("OPTIONS", headers={"X": ""})) == (-1, None)


@pytest.mark.parametrize(("settings", "code"), [("", -1), (MEMORY, 1)])
def test_the_case_of_letters_matters_to_the_database_alone(sqlite: SqliteScripts, settings: str, code: int) -> None:
    script = start(sqlite, 'is_domain_local("EXAMPLE.org")', settings)
    assert script.request("OPTIONS")["$avp(rc)"] == code


def test_domain_reload_brings_new_rows(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "is_uri_host_local($avp(a))", MEMORY)
    shown = [{"name": "example.org", "attrs": "x=1"}, {"name": "Plain.example"}]
    assert script.mi("domain_dump") == {"result": {"Domains": shown}}
    sqlite.execute("delete from domain; insert into domain values('new.example', 'y');")
    assert codes(script.request("OPTIONS", "sip:b@new.example")) == (-1, None)
    assert script.mi("domain_reload") == {"result": "OK"}
    assert codes(script.request("OPTIONS", "sip:b@new.example")) == (1, "y")
    assert codes(script.request("OPTIONS", "sip:b@example.org")) == (-1, None)
    sqlite.execute("drop table domain;")
    answer = script.mi("domain_reload")
    assert answer["error"]["code"] == 500
    assert codes(script.request("OPTIONS", "sip:b@new.example")) == (1, "y"), "what was there stays"


def test_a_store_without_room_leaves_the_old_rows(sqlite: SqliteScripts, monkeypatch: pytest.MonkeyPatch) -> None:
    script = start(sqlite, "is_uri_host_local($avp(a))", MEMORY)
    sqlite.execute("delete from domain")

    def full() -> None:
        raise StoreFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(this.store, "batch", full)
        answer = script.mi("domain_reload")
    assert answer["error"]["code"] == 500
    assert codes(script.request("OPTIONS", "sip:b@example.org")) == (1, "x=1")


def test_without_memory_there_is_nothing_to_reload(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "is_from_local()")
    for command in ("domain_reload", "domain_dump"):
        assert script.mi(command)["error"] == {"code": 500, "message": "command not activated"}


@pytest.mark.parametrize(("settings", "code"), [("", -1), (MEMORY, 1)])
def test_is_myself_knows_domains_in_memory(sqlite: SqliteScripts, settings: str, code: int) -> None:
    script = start(sqlite, 'is_myself("$rd", 5060)', settings)
    assert script.request("OPTIONS", "sip:b@example.org")["$avp(rc)"] == code
    assert script.request("OPTIONS", "sip:b@other.example")["$avp(rc)"] == -1


@pytest.mark.parametrize("form", FORMS)
def test_a_database_that_fails(sqlite: SqliteScripts, form: str) -> None:
    script = start(sqlite, "is_from_local()", form=form)
    sqlite.execute("drop table domain")
    assert script.request("OPTIONS", caller="sip:a@example.org")["$avp(rc)"] == -1


def test_a_table_of_another_version_is_refused(sqlite: SqliteScripts) -> None:
    sqlite.execute(TABLES + "update version set table_version = 2;")
    with pytest.raises(ConfigError, match="invalid version 2 for table domain found, expected 3"):
        start(sqlite, "is_from_local()")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ('modparam("domain", "db_url", "")\n', "there is no database"),
        ('modparam("domain", "db_mode", 2)\n', "db_mode is 0 or 1"),
        ('modparam("domain", "attrs_col", "a b")\n', "attrs_col: [a b] is not a name"),
    ],
)
def test_mistakes(sqlite: SqliteScripts, settings: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        start(sqlite, "is_from_local()", settings)
    assert text in str(caught.value.diagnostics)
