"""Module dialplan: rules of a database, the same in every process, read again on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from opensips_py.modules.dialplan.rules import BadRule, Row, RuleSet, compile_rule
from opensips_py.script.diagnostics import ScriptErrors
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import MIError, Server
from tests.modules.conftest import SqliteScripts
from tests.support.script_context import put, registry, request
from tests.support.sip_client import SipClient


def row(
    match: str, repl: str = "", *, op: int = 1, subst: str = "", pr: int = 0, flags: int = 0, attrs: str = "", timerec: str = "",
    disabled: int = 0, dpid: int = 1,
) -> Row:  # fmt: skip
    return Row(dpid, pr, op, match, flags, subst, repl, attrs, timerec, disabled)


def translated(text: str, *rows: Row) -> str | None:
    rule = RuleSet(list(rows), registry(), "test").find(1, text)
    ctx = request()
    put(ctx, "$avp(prefix)", "77")
    return None if rule is None else rule.translate(ctx, text)


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (row("^0([1-9].*)$", r"+49\1", subst="^0([1-9].*)$"), "0301234", "+49301234"),
        (row("^0", r"+\1", subst="^00(.*)$"), "0301234", None),
        (row("^0", "fixed"), "0301234", "fixed"),
        (row("^0"), "0301234", "0301234"),
        (row("^1", "x"), "0301234", None),
        (row("110", "police", op=0), "110", "police"),
        (row("110", "police", op=0), "1100", None),
        (row("ABC", "x", op=0), "abc", None),
        (row("ABC", "x", op=0, flags=1), "abc", "x"),
        (row("^ABC", "x"), "abcd", None),
        (row("^ABC", "x", flags=1), "abcd", "x"),
        (row(r"^\d{3}(?=4)", r"$avp(prefix)\0", subst=r"^\d+"), "1234", "771234"),
        (row("^0", "x", disabled=1), "0", None),
        (row("^0", "x", timerec="20200101T000000|20200102T000000"), "0", None),
        (row("^0", "x", timerec="20200101T000000"), "0", "x"),
        (row("^0", "x", dpid=2), "0", None),
    ],
)
def test_a_rule(rule: Row, text: str, expected: str | None) -> None:
    assert translated(text, rule) == expected


def test_the_lowest_priority_number_comes_first_and_equality_before_expressions() -> None:
    rows = (row(".", "any", pr=5), row("^1", "one", pr=2), row("1", "equal", op=0, pr=2), row("^2", "two", pr=9))
    assert [translated(text, *rows) for text in ("1", "12", "2", "x")] == ["equal", "one", "any", "any"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row("("), "bad regular expression"),
        (row("1", op=2), "match_op is 2"),
        (row("1", r"\2", subst="(1)"), "uses group 2"),
        (row("1", "$nothing"), "unknown variable"),
        (row("1", timerec="tomorrow"), "timerec"),
    ],
)
def test_a_rule_that_means_nothing_is_left_out(bad: Row, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadRule, match=why):
        compile_rule(bad, registry())
    assert translated("1", bad, row("1", "good", pr=7)) == "good"


TABLE = (
    "id INT AUTO_INCREMENT PRIMARY KEY, dpid INT NOT NULL, pr INT DEFAULT 0 NOT NULL, match_op INT NOT NULL, match_exp CHAR(64)"
    " NOT NULL, match_flags INT DEFAULT 0 NOT NULL, subst_exp CHAR(64), repl_exp CHAR(32), timerec CHAR(255),"
    " disabled INT DEFAULT 0 NOT NULL, attrs CHAR(255)"
)


@pytest.fixture
def tables(mariadb: MariaDB) -> Iterator[MariaDB]:
    """Two tables of rules."""
    for name in ("dialplan", "pstn_rules"):
        mariadb.execute(f"CREATE TABLE {name} ({TABLE})")
    mariadb.execute(
        "INSERT INTO dialplan (dpid, match_op, match_exp, subst_exp, repl_exp, attrs) "
        "VALUES (1, 1, '^0', '^0(.*)', '49\\\\1', 'de')"
    )
    mariadb.execute("INSERT INTO pstn_rules (dpid, match_op, match_exp, repl_exp) VALUES (7, 0, 'ab', 'cd')")
    yield mariadb
    for name in ("dialplan", "pstn_rules"):
        mariadb.execute(f"DROP TABLE {name}")


SCRIPT = """
loadmodule "sl.so"
loadmodule "db_mysql.so"
loadmodule "dialplan.so"
modparam("dialplan", "db_url", "%s")
modparam("dialplan", "partition", "pstn: table_name = pstn_rules; attrs_col = attrs")
route {
    if (dp_translate(1, "$rU", $var(out), $var(attrs)))
        sl_send_reply(200, "$var(out) $var(attrs)");
    else if (dp_translate(7, "$rU", $var(out), , "pstn"))
        sl_send_reply(200, "pstn $var(out)");
    else
        sl_send_reply(404, "$rc");
}
"""


def test_every_process_has_the_rules_and_gets_new_ones(
    tables: MariaDB, server: Callable[..., Server], client: Callable[..., SipClient]
) -> None:
    running = server(SCRIPT % tables.url, workers=2)
    user = client(running.address)

    def asked(number: str) -> str:
        user.request("OPTIONS", f"sip:{number}@127.0.0.1:{running.port}")
        return user.final().reason

    assert [asked(number) for number in ("0301", "ab", "9")] == ["49301 de", "pstn cd", "-1"]
    assert running.mi("dp_translate", {"dpid": 1, "input": "01"}) == {"Output": "491", "ATTRIBUTES": "de"}
    assert running.mi("dp_translate", {"dpid": 7, "input": "ab", "partition": "pstn"})["Output"] == "cd"
    for params, code in (({"dpid": 1, "input": "9"}, 404), ({"dpid": 2, "input": "9"}, 404)):
        with pytest.raises(MIError, match=str(code)):
            running.mi("dp_translate", params)
    tables.execute("UPDATE dialplan SET repl_exp='44\\\\1', attrs='uk'")
    tables.execute("UPDATE pstn_rules SET repl_exp='ef'")
    assert asked("0301") == "49301 de"
    assert running.mi("dp_reload", {"partition": "default"}) == "OK"
    assert {asked("0301") for _ in range(20)} == {"44301 uk"}
    assert asked("ab") == "pstn cd"
    assert running.mi("dp_reload") == "OK"
    assert {asked("ab") for _ in range(20)} == {"pstn ef"}
    tables.execute("RENAME TABLE dialplan TO gone")
    try:
        with pytest.raises(MIError, match="500"):
            running.mi("dp_reload")
        assert asked("0301") == "44301 uk"
    finally:
        tables.execute("RENAME TABLE gone TO dialplan")
    shown = running.mi("dp_show_partition")["Partitions"]
    assert [(each["name"], each["table"]) for each in shown] == [("default", "dialplan"), ("pstn", "pstn_rules")]
    with pytest.raises(MIError, match="400"):
        running.mi("dp_reload", {"partition": "none"})


def test_a_server_without_its_rules_does_not_start(mariadb: MariaDB, server: Callable[..., Server]) -> None:
    with pytest.raises(RuntimeError, match="cannot read table dialplan"):
        server(SCRIPT % mariadb.url)


RULES = """
create table dialplan(dpid int, pr int, match_op int, match_exp char(64), match_flags int, subst_exp char(64), repl_exp char(32),
    attrs char(64), timerec char(64), disabled int);
insert into dialplan values(1, 0, 0, '112', 0, null, null, 'emergency', null, 0),
    (1, 1, 1, '^0', 0, '^0(.*)', '+49\\1', null, null, 0);
"""


def test_a_rule_without_replacement_leaves_the_output_alone(sqlite: SqliteScripts) -> None:
    sqlite.execute(RULES)
    script = sqlite.start(
        'loadmodule "dialplan.so"\nmodparam("dialplan", "db_url", "URL")\n'
        'route { $avp(rc) = dp_translate(1, "$rU", $avp(out), $avp(attrs)); sl_send_reply(200, "OK"); }'
    )
    run = script.request("OPTIONS", "sip:112@x")
    assert (run["$avp(rc)"], run["$avp(out)"], run["$avp(attrs)"]) == (1, None, "emergency")
    run = script.request("OPTIONS", "sip:030@x")
    assert (run["$avp(rc)"], run["$avp(out)"], run["$avp(attrs)"]) == (1, "+4930", "")
    shown = {"name": "default", "table": "dialplan", "db_url": f"sqlite://@{sqlite.path}"}
    assert script.mi("dp_show_partition") == {"result": {"Partitions": [shown]}}


def test_a_partition_that_is_none_is_an_error_of_the_script(sqlite: SqliteScripts) -> None:
    sqlite.execute(RULES)
    text = 'loadmodule "dialplan.so"\nmodparam("dialplan", "db_url", "URL")\nroute { dp_translate(1, "1", $var(o), , "zz"); }'
    with pytest.raises(ScriptErrors) as caught:
        sqlite.start(text)
    assert "partition <zz> not found" in str(caught.value.diagnostics)
