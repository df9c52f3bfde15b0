"""Module auth_db with SQLite: accounts, AVPs of a row, URIs of accounts. Scripts run in the test's process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opensips_py import db
from opensips_py.db import database as databases
from opensips_py.db.sqlite.database import SqliteDatabase
from opensips_py.engine.operation import BUSY, Done
from opensips_py.modules.auth import credentials, nonce
from opensips_py.modules.auth_db import uris
from opensips_py.modules.auth_db.authorize import WwwAuthorize
from opensips_py.script.context import Context, Source
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.server.process import this
from opensips_py.sip.digest import digest_response, ha1, parse_credentials
from opensips_py.sip.message import parse
from opensips_py.testing import Run, Script
from tests.support.digest_client import answer, parameters

HA1 = ha1("alice", "example.com", "secret")
HA1B = ha1("alice@example.org", "example.com", "secret")
SHA = ha1("alice", "example.com", "secret", "SHA-256")
TABLES = f"""
create table version(table_name char(32), table_version int);
insert into version values('subscriber', 7), ('old', 6), ('uri', 7);
create table subscriber(username char(64), domain char(64), password char(64), ha1 char(64), ha1b char(64), ha1_sha256 char(64),
    rpid char(64), credit int, rate float);
insert into subscriber values('alice', 'example.org', 'secret', '{HA1}', '{HA1B}', '{SHA}', 'sip:+1555@x', 7, 0.5);
insert into subscriber values('alice', 'other.org', 'otherpw', '', '', null, null, 8, 1.5);
insert into subscriber values('locked', 'example.org', null, null, null, null, null, null, null);
create table old(username char(64), ha1 char(64), rpid char(64));
create table uri(username char(64), domain char(64), uri_user char(64));
insert into uri values('alice', 'example.com', 'sales'), ('alice', 'example.org', 'alice'), ('bob', null, 'null');
"""
ANSWER = """
route[answer] {
    $avp(rc) = $rc;
    if ($avp(rc) < 0) www_challenge("example.com", "auth");
    sl_send_reply(200, "OK");
}
"""
FORMS = {
    "plain": "www_authorize({}); route(answer);",
    "async": "async(www_authorize({}), answer);",
    "await": "await(www_authorize({})); route(answer);",
}
PASSWORDS = 'modparam("auth_db", "calculate_ha1", 1)\nmodparam("auth_db", "password_column", "password")\n'

ARGUMENTS = '"example.com", "subscriber"'

Run_ = Callable[..., Script]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "accounts.db"
    with sqlite3.connect(made) as connection:
        connection.executescript(TABLES)
    connection.close()
    return made


@pytest.fixture
def run(file: Path) -> Iterator[Run_]:
    databases.forget_all()
    running: list[Script] = []

    def start(
        statement: str = FORMS["plain"], settings: str = PASSWORDS, arguments: str = '"example.com", "subscriber"'
    ) -> Script:
        route = f"route {{ {statement.format(arguments)} }}" + ANSWER
        modules = "".join(f'loadmodule "{name}.so"\n' for name in ("signaling", "db_sqlite", "auth", "auth_db"))
        running.append(Script(f'{modules}modparam("auth_db", "db_url", "sqlite://{file}")\n{settings}{route}'))
        return running[-1]

    yield start
    for script in running:
        script.close()
    databases.forget_all()


def register(script: Script, given: str | None = None, **more: Any) -> Run:
    return script.request("REGISTER", headers={"Authorization": given} if given else {}, **more)


def challenge(run: Run) -> str:
    return run.sent[-1].value("www-authenticate") or ""


def authorize(script: Script, user: str, password: str, **more: Any) -> Run:
    asked = register(script)
    assert asked["$avp(rc)"] == -4
    return register(script, answer(challenge(asked), user, password, "REGISTER", **more))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_codes(run: Run_, form: str) -> None:
    script = run(FORMS[form])
    cases = {("alice", "secret"): 1, ("alice", "wrong"): -2, ("bob", "secret"): -1, ("locked", ""): -2, ("locked", "x"): -2}
    for (user, password), code in cases.items():
        for qop in (None, "auth"):
            assert authorize(script, user, password, qop=qop)["$avp(rc)"] == code
    asked = challenge(register(script))
    right = answer(asked, "alice", "secret", "REGISTER")
    assert register(script, right)["$avp(rc)"] == 1
    replayed = register(script, right)
    assert replayed["$avp(rc)"] == -3
    assert parameters(challenge(replayed))["stale"] == "true"


def test_an_account_without_a_password_is_open_to_nobody(run: Run_) -> None:
    """Not to those either who answer for the hash that stands for none."""
    for settings in ("", PASSWORDS):
        script = run(settings=settings)
        asked = challenge(register(script))
        given = parse_credentials(answer(asked, "locked", "", "REGISTER"))
        response = digest_response(given, "0" * 32, "REGISTER")
        assert register(script, answer(asked, "locked", "", "REGISTER", response=response))["$avp(rc)"] == -2
        script.close()


def test_what_is_no_nonce_of_ours_asks_no_database(run: Run_, monkeypatch: pytest.MonkeyPatch) -> None:
    script = run()
    asked = challenge(register(script))

    def never(*_: object) -> None:
        raise AssertionError("the database is asked")

    monkeypatch.setattr(SqliteDatabase, "call", never)
    forged = answer(asked.replace(parameters(asked)["nonce"], "f" * 44), "alice", "secret", "REGISTER")
    assert register(script, forged)["$avp(rc)"] == -3
    assert register(script)["$avp(rc)"] == -4


@pytest.mark.parametrize(
    ("user", "algorithm", "code"),
    [("alice", "MD5", 1), ("alice@example.org", "MD5", 1), ("alice", "SHA-256", 1), ("alice@other.org", "MD5", -2)],
)
def test_columns_of_ha1(run: Run_, user: str, algorithm: str, code: int) -> None:
    settings = 'modparam("auth", "algorithms", "SHA-256,MD5")\nmodparam("auth_db", "use_domain", USE)\n'
    for use_domain in (0, 1):
        script = run(settings=settings.replace("USE", str(use_domain)))
        if use_domain and "@" not in user:
            expected = -1  # the realm is the domain
        elif user == "alice@other.org":
            expected = code
        else:
            expected = 1
        assert authorize(script, user, "secret", algorithm=algorithm)["$avp(rc)"] == expected
        script.close()


def test_with_passwords_the_whole_user_name_counts(run: Run_) -> None:
    script = run(settings=PASSWORDS + 'modparam("auth_db", "use_domain", 1)\n')
    assert authorize(script, "alice@other.org", "otherpw")["$avp(rc)"] == 1
    assert authorize(script, "alice@example.org", "secret")["$avp(rc)"] == 1
    assert authorize(script, "alice@example.org", "otherpw")["$avp(rc)"] == -2
    assert authorize(script, "alice", "secret")["$avp(rc)"] == -1


@pytest.mark.parametrize("form", FORMS)
def test_columns_go_to_avps_when_the_credentials_are_right(run: Run_, form: str) -> None:
    loaded = 'modparam("auth_db", "load_credentials", "rpid; $avp(money)=credit ;$avp(rate) = rate")\n'
    script = run(FORMS[form], PASSWORDS + loaded)
    right = authorize(script, "alice", "secret")
    assert (right["$avp(rpid)"], right["$avp(money)"], right["$avp(rate)"]) == ("sip:+1555@x", 7, "0.5")
    wrong = authorize(script, "alice", "wrong")
    assert wrong["$avp(money)"] is None
    script.close()
    script = run(FORMS[form], PASSWORDS + loaded + 'modparam("auth_db", "use_domain", 1)\n')
    other = authorize(script, "alice@other.org", "otherpw")
    assert (other["$avp(rpid)"], other["$avp(money)"]) == (None, 8)


@pytest.mark.parametrize("form", FORMS)
def test_a_database_that_does_not_answer_is_5(run: Run_, form: str, file: Path) -> None:
    script = run(FORMS[form])
    asked = challenge(register(script))
    with sqlite3.connect(file) as connection:
        connection.execute("drop table subscriber")
    connection.close()
    failed = register(script, answer(asked, "alice", "secret", "REGISTER"))
    assert failed["$avp(rc)"] == -5
    assert any("no such table" in line for line in failed.log)


def test_a_request_authorized_in_async_consumes_its_credentials(run: Run_) -> None:
    script = run('$du = "sip:192.0.2.9"; async(proxy_authorize({}), relay); }} route[relay] {{ consume_credentials(); t_relay();')
    given = answer(f'Digest realm="example.com", nonce="{nonce.make()}"', "alice", "secret", "INVITE")
    relayed = script.request("INVITE", headers={"Proxy-Authorization": given})
    [invite] = [msg for msg in relayed.sent if msg.is_request]
    assert not invite.has("proxy-authorization")


# --- URIs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "await({})"])
@pytest.mark.parametrize(
    ("call", "use_domain", "code"),
    [
        ('db_does_uri_exist("sip:alice@nowhere.org", "subscriber")', 0, 1),
        ('db_does_uri_exist("sip:alice@nowhere.org", "subscriber")', 1, -5),
        ('db_does_uri_exist("sip:alice@other.org", "subscriber")', 1, 1),
        ('db_does_uri_exist("sip:carol@other.org", "subscriber")', 0, -5),
        ('db_does_uri_exist("sip:other.org", "subscriber")', 0, -5),
        ('db_does_uri_exist("nonsense", "subscriber")', 0, -1),
        ('db_does_uri_exist("sip:x@y", $var(table))', 0, -8),
        ('db_get_auth_id("uri", "sip:sales@x", $avp(id), $avp(realm))', 0, 1),
        ('db_get_auth_id("uri", "sip:sales@x", $avp(id), $avp(realm))', 1, -4),
        ('db_get_auth_id("uri", "sip:nobody@x", $avp(id), $avp(realm))', 0, -4),
        ('db_get_auth_id("uri", "<>", $avp(id), $avp(realm))', 0, -1),
        ('db_get_auth_id("subscriber", "sip:x@x", $avp(id), $avp(realm))', 0, -8),
        ('db_is_from_authorized("uri")', 0, -2),
        ('db_is_to_authorized("uri")', 0, -2),
    ],
)
def test_uris(run: Run_, form: str, call: str, use_domain: int, code: int) -> None:
    statement = f'$var(table) = "missing"; {form.format(call)}; route(answer);'
    done = register(run(statement, f'modparam("auth_db", "use_domain", {use_domain})\n', arguments=""))
    assert done["$avp(rc)"] == code
    if call.startswith("db_get_auth_id") and code == 1:
        assert (done["$avp(id)"], done["$avp(realm)"]) == ("alice", "example.com")


@pytest.mark.parametrize(("function", "code"), [("from", 1), ("to", -9)])
def test_an_account_has_the_uris_of_its_realm(run: Run_, function: str, code: int) -> None:
    script = run(
        f'if (!www_authorize("example.com", "subscriber")) www_challenge("example.com"); '
        f'db_is_{function}_authorized("uri"); route(answer);'
    )
    names = {"caller": "sip:sales@anywhere", "callee": "sip:alice@example.com"}
    asked = register(script, **names)
    right = register(script, answer(challenge(asked), "alice", "secret", "REGISTER"), **names)
    assert right["$avp(rc)"] == code


# --- processes ------------------------------------------------------------------------------------------------------


def test_what_a_process_had_judged_when_it_died_is_judged_the_same_by_another(run: Run_, file: Path) -> None:
    """The nonce is used by then: by this very message."""
    script = run()
    asked = register(script)
    assert asked.context is not None
    given = answer(challenge(asked), "alice", "secret", "REGISTER")
    raw = asked.context.msg.raw.replace(b"Content-Length", f"Authorization: {given}\r\nContent-Length".encode(), 1)
    ctx = Context(parse(raw), Source("192.0.2.1", 5060), this.sockets[0])
    claim = credentials.claim(ctx, credentials.WWW, "example.com")
    assert isinstance(claim, credentials.Claim)
    query = WwwAuthorize(databases.open(f"sqlite://{file}"), db.select(["password", "rpid"], "subscriber"), claim)
    query.start()
    frozen, result = query.freeze(), db.Result([["secret", None]], 2)
    query.forget()
    assert query.answer(result).rc == 1
    heir = WwwAuthorize.thaw(frozen, [], b"")
    assert isinstance(heir, WwwAuthorize)
    assert heir.answer(result).rc == 1
    assert script.receive(raw, ("192.0.2.66", 5060))["$avp(rc)"] == -3


# --- at the start ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "found"), [("old", 6), ("nosuch", 0)], ids=["of another version", "that the database does not have"]
)
def test_a_table_is_refused_unless_its_version_is_not_to_be_checked(run: Run_, table: str, found: int) -> None:
    with pytest.raises(ConfigError, match=f"invalid version {found} for table {table} found, expected 7"):
        run(arguments=f'"example.com", "{table}"')
    run(settings=PASSWORDS + 'modparam("auth_db", "skip_version_check", 1)\n', arguments=f'"example.com", "{table}"')


@pytest.mark.parametrize(
    ("settings", "arguments", "text"),
    [
        ('modparam("auth_db", "db_url", "")\n', '"x", "subscriber"', "there is no database"),
        ('modparam("auth_db", "user_column", "a b")\n', '"x", "subscriber"', "user_column: [a b] is not a name"),
        ('modparam("auth_db", "load_credentials", "$var(x)=rpid")\n', '"x", "subscriber"', "must be an AVP"),
        ('modparam("auth_db", "load_credentials", "$avp(x)=a b")\n', '"x", "subscriber"', "[a b] is not a name"),
        ("", '"x", "a;b"', "[a;b] is not a name of a table or column"),
    ],
)
def test_mistakes(run: Run_, settings: str, arguments: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        run(settings=settings, arguments=arguments)
    assert text in str(caught.value.diagnostics)


def test_too_many_waiting_questions_are_no_missing_account() -> None:
    """-4 of the pool is not the -4 of db_get_auth_id()."""
    query = uris.GetAuthId.__new__(uris.GetAuthId)
    assert query.failed(Done(BUSY)) == Done(-8)
