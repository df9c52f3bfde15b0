"""Module speeddial: short numbers of users, plain and in async()."""

from __future__ import annotations

import pytest

from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.testing import Run
from tests.modules.conftest import SqliteScripts

TABLE = """
create table speed_dial(username char(64), domain char(64), sd_username char(64), sd_domain char(64), new_uri char(255));
insert into speed_dial values('alice', 'home.example', '7', 'home.example', 'sip:seven@far.example;x=1'),
    ('alice', 'home.example', '8', 'other.example', 'sip:eight@far.example'), ('carol', 'x', '7', 'x', 'sip:c7@far.example'),
    ('alice', 'home.example', '9', 'home.example', '');
"""
FORMS = ["CALL;", "await(CALL);", "async(CALL, answer);"]


def dial(
    sqlite: SqliteScripts, call: str, uri: str, settings: str = "", form: str = FORMS[0], caller: str = "alice@home.example"
) -> Run:
    if not sqlite.path.exists():
        sqlite.execute(TABLE)
    script = sqlite.start(
        f'loadmodule "speeddial.so"\nmodparam("speeddial", "db_url", "URL")\n{settings}'
        f"route {{ {form.replace('CALL', call)} route(answer); }}\n"
        'route[answer] { $avp(rc) = $rc; $avp(ru) = $ru; sl_send_reply(200, "OK"); exit; }'
    )
    return script.request("OPTIONS", uri, caller=f"sip:{caller}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("number", "caller", "found"),
    [
        ("7@anywhere", "alice@anywhere", ["sip:seven@far.example;x=1", None, None]),
        ("7@sip.home.example", "alice@home.example", ["sip:seven@far.example;x=1"] * 3),
        ("8@home.example", "alice@sip.home.example", ["sip:eight@far.example"] * 2 + [None]),
        ("7@home.example", "carol@home.example", ["sip:c7@far.example", None, None]),
        ("7@home.example", "nobody@home.example", [None] * 3),
        ("9@home.example", "alice@home.example", [None] * 3),
        ("home.example", "alice@home.example", [None] * 3),
    ],
)
def test_short_numbers(sqlite: SqliteScripts, form: str, number: str, caller: str, found: list[str | None]) -> None:
    for use_domain, uri in enumerate(found):
        settings = f'modparam("speeddial", "use_domain", {use_domain})\nmodparam("speeddial", "domain_prefix", "sip.")\n'
        run = dial(sqlite, 'sd_lookup("speed_dial")', f"sip:{number}", settings, form, caller)
        assert (run["$avp(rc)"], run["$avp(ru)"]) == ((1, uri) if uri else (-1, f"sip:{number}"))


def test_the_numbers_of_somebody_else(sqlite: SqliteScripts) -> None:
    assert dial(sqlite, 'sd_lookup("speed_dial", "sip:carol@x")', "sip:7@x")["$avp(ru)"] == "sip:c7@far.example"
    assert dial(sqlite, 'sd_lookup("speed_dial", "nonsense")', "sip:7@x")["$avp(rc)"] == -1


def test_a_table_that_is_missing(sqlite: SqliteScripts) -> None:
    assert dial(sqlite, 'sd_lookup("nosuch")', "sip:7@x")["$avp(rc)"] == -1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ('modparam("speeddial", "db_url", "")\n', "there is no database"),
        ('modparam("speeddial", "sd_user_column", "a b")\n', "sd_user_column: [a b] is not a name"),
    ],
)
def test_mistakes(sqlite: SqliteScripts, settings: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        dial(sqlite, 'sd_lookup("speed_dial")', "sip:7@x", settings)
    assert text in str(caught.value.diagnostics)
