"""Module permissions: addresses in a table, and files of rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opensips_py.modules.permissions import addresses
from opensips_py.modules.permissions.addresses import NO_GROUP, NO_MATCH, Address, Asked, made_of
from opensips_py.modules.permissions.rules import RuleError, read
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.testing import Script
from tests.modules.conftest import SqliteScripts

ROWS: list[list[Any]] = [
    [1, "192.0.2.1", 32, 0, "any", None, "single"],
    [1, "192.0.2.0", 24, 5062, "udp", None, "net"],
    [2, "10.0.0.0", 8, 0, "ANY", "gold*", "ten"],
    [2, "10.1.0.0", 16, 5060, "tcp", None, "narrow"],
    [0, "192.0.2.5", 32, 0, "any", None, "wild"],
    [3, "2001:db8::1", 128, 0, "any", None, "v6"],
    [3, "2001:db8:1::", 48, 0, "any", None, "v6net"],
    [4, "0.0.0.0", 0, 0, "none", None, "never"],
]


def info(group: int, ip: str, port: int = 5060, proto: str = "udp", pattern: str | None = None) -> str | int:
    found = made_of(ROWS).find(Asked(group, ip, port, proto, pattern))
    return found.info if isinstance(found, Address) else found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((1, "192.0.2.1"), "single"),
        ((0, "192.0.2.1"), "single"),
        ((2, "192.0.2.1"), NO_MATCH),
        ((9, "192.0.2.1"), NO_GROUP),
        ((1, "192.0.2.7"), NO_MATCH),
        ((1, "192.0.2.7", 5062), "net"),
        ((1, "192.0.2.7", 0), "net"),
        ((1, "192.0.2.7", 0, "tcp"), NO_MATCH),
        ((1, "192.0.2.7", 0, "any"), "net"),
        ((2, "192.0.2.5"), "wild"),
        ((9, "192.0.2.5"), NO_GROUP),
        ((2, "10.1.2.3", 5060, "tcp"), "ten"),
        ((2, "10.1.2.3", 5060, "tcp", "silver"), "narrow"),
        ((2, "10.1.2.3", 5060, "tcp", "golden"), "ten"),
        ((2, "10.9.2.3", 5060, "tcp", "silver"), NO_MATCH),
        ((3, "2001:db8:0::1"), "v6"),
        ((3, "[2001:db8::1]"), "v6"),
        ((3, "2001:db8:1:2::3"), "v6net"),
        ((3, "2001:db8:2::3"), NO_MATCH),
        ((4, "192.0.2.1", 5060, "any"), NO_MATCH),
        ((1, "nonsense"), NO_MATCH),
    ],
)
def test_what_an_address_matches(asked: tuple[Any, ...], found: str | int) -> None:
    assert info(*asked) == found


@pytest.mark.parametrize(
    "row",
    [
        *([1, "not-an-ip", 32, 0, "any", None, None], [1, "192.0.2.1", 33, 0, "any", None, None]),
        *([1, "192.0.2.1", 32, 65536, "any", None, None], [1, "192.0.2.1", 32, 0, "smoke", None, None]),
        *([-1, "192.0.2.1", 32, 0, "any", None, None], [1, "192.0.2.1", "0" * 20 + "9" * 50, 0, "any", None, None]),
        *([1, "", 32, 0, "any", None, None], [1, None, None, None, None, None, None], ["²", "192.0.2.1", 32, 0, "any", "", ""]),
    ],
)
def test_a_row_with_nonsense_is_left_out(row: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(addresses, "log", lambda level, module, function, text: logged.append(text))
    found = made_of([row, *ROWS])
    assert len(found.rows) == len(ROWS)
    assert "is left out" in logged[0]


URL = 'modparam("permissions", "db_url", "URL")\n'


# --- in scripts -----------------------------------------------------------------------------------------------------

TABLES = """
create table version(table_name char(32), table_version int);
insert into version values('address', 5), ('addr2', 5), ('old', 4);
create table address(grp int, ip char(50), mask int, port int, proto char(4), pattern char(64), context_info char(32));
insert into address values(1, '192.0.2.1', 32, 0, 'any', null, 'one'), (1, '198.51.100.0', 24, 0, 'UDP', null, null),
    (3, '2001:db8::1', 128, 0, 'any', 'x*', null);
create table addr2 as select grp + 10 as grp, ip, mask, port, proto, pattern, context_info from address;
create table old as select * from address;
"""


def start(sqlite: SqliteScripts, statements: str, settings: str = 'modparam("permissions", "db_url", "URL")\n') -> Script:
    if not sqlite.path.exists():
        sqlite.execute(TABLES)
    return sqlite.start(f'loadmodule "permissions.so"\n{settings}route {{ {statements} sl_send_reply(200, "OK"); }}')


def test_the_source_of_a_request(sqlite: SqliteScripts) -> None:
    script = start(
        sqlite,
        "$avp(rc) = check_source_address(1, $avp(info)); $avp(group) = -7; $avp(found) = get_source_group($avp(group));"
        '$avp(given) = check_address(1, "$si", $sp, "$socket_in(proto)");',
    )
    for source, expected in (
        ("192.0.2.1", (1, "one", 1, 1)),
        ("198.51.100.9", (1, "", 1, 1)),
        ("203.0.113.1", (-1, None, -7, -1)),
    ):
        run = script.request("OPTIONS", source=(source, 5070))
        assert (run["$avp(rc)"], run["$avp(info)"], run["$avp(group)"], run["$avp(given)"]) == expected


def test_partitions(sqlite: SqliteScripts) -> None:
    settings = (
        'modparam("permissions", "db_url", "URL")\nmodparam("permissions", "partition", "pa: table_name = addr2; db_url=URL;")\n'
    )
    script = start(sqlite, '$avp(rc) = check_source_address(11, , , "pa"); $avp(no) = check_source_address(11);', settings)
    run = script.request("OPTIONS")
    assert (run["$avp(rc)"], run["$avp(no)"]) == (1, -2)
    shown = script.mi("address_dump", {"partition": "pa"})["result"]
    assert (shown["part"], [one["grp"] for one in shown["Destinations"]]) == ("pa", [11, 13])
    assert script.mi("address_dump", {"partition": "pb"})["error"]["code"] == 404


def test_what_management_shows_and_reads_again(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "$avp(rc) = check_source_address(1);")
    [partition] = script.mi("address_dump")["result"]["Partitions"]
    first, second = partition["Destinations"]
    assert first == {
        **{"grp": 1, "ip": "192.0.2.1", "mask": "32", "port": 0, "proto": "any", "pattern": "", "context_info": "one"},
    }
    assert (second["ip"], second["mask"], second["pattern"]) == ("2001:db8:0:0:0:0:0:1", "128", "x*")
    [network] = script.mi("subnet_dump")["result"]["Partitions"][0]["Destinations"]
    assert (network["ip"], network["mask"], network["proto"]) == ("198.51.100.0", "255.255.255.0", "udp")
    sqlite.execute("delete from address where context_info = 'one';")
    assert script.request("OPTIONS")["$avp(rc)"] == 1
    assert script.mi("address_reload") == {"result": "OK"}
    assert script.request("OPTIONS")["$avp(rc)"] == -1
    sqlite.execute("drop table address;")
    assert script.mi("address_reload")["error"]["code"] == 500
    assert script.request("OPTIONS", source=("198.51.100.9", 1))["$avp(rc)"] == 1, "what was there stays"


def test_all_partitions_are_read_again_or_none(sqlite: SqliteScripts) -> None:
    settings = URL + 'modparam("permissions", "partition", "pa: table_name = addr2; db_url=URL;")\n'
    script = start(sqlite, "$avp(rc) = check_source_address(1);", settings)
    sqlite.execute("delete from address; alter table addr2 rename to gone;")
    assert script.mi("address_reload")["error"]["code"] == 500
    assert script.request("OPTIONS")["$avp(rc)"] == 1
    sqlite.execute("alter table gone rename to addr2;")
    assert script.mi("address_reload") == {"result": "OK"}
    assert script.request("OPTIONS")["$avp(rc)"] == -2


def test_what_is_wrong_at_the_start(sqlite: SqliteScripts) -> None:
    for settings, text in (
        ("", "invoked partition <default> not defined"),
        ('modparam("permissions", "db_url", "URL")\nmodparam("permissions", "address_table", "old")\n', "invalid version 4"),
        ('modparam("permissions", "db_url", "URL")\nmodparam("permissions", "address_table", "nosuch")\n', "invalid version 0"),
    ):
        with pytest.raises(ConfigError, match=text):
            start(sqlite, "check_source_address($var(g));", settings)


@pytest.mark.parametrize(
    ("statement", "settings", "text"),
    [
        ('check_address(1, "192.0.2.1", 0, "carrier");', URL, "unknown protocol <carrier>"),
        ('check_address(1, "192.0.2", 0, "any");', URL, "[192.0.2] is not an IP address"),
        ('check_source_address(1, , , "pb");', URL, "invoked partition <pb> not defined"),
        ("exit;", URL + 'modparam("permissions", "partition", "pa table_name=x")\n', "is not of the form"),
        ("exit;", URL + 'modparam("permissions", "partition", "pa: tabel=x")\n', "[tabel=x] is not one of"),
        ("exit;", URL + 'modparam("permissions", "partition", "default: table_name=x")\n', "two partitions default"),
        ("exit;", URL + 'modparam("permissions", "grp_col", "a b")\n', "grp_col: [a b] is not a name"),
    ],
)
def test_mistakes(sqlite: SqliteScripts, statement: str, settings: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        start(sqlite, statement, settings)
    assert text in str(caught.value.diagnostics)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "left", "right", "matches"),
    [
        ("ALL : ALL", "a", "b", True),
        ('"^sip:a" : ALL', "sip:alice@x", "", True),
        ('"^sip:a" : ALL', "sip:bob@x", "", False),
        ('"^sip:A" : all', "sip:alice@x", "", True),
        ('"x", "y" : "b"', "y", "abc", True),
        ('"x", "y" : "b"', "z", "abc", False),
        ('ALL EXCEPT "secret" : ALL', "secret", "b", False),
        ('ALL EXCEPT "a", "b" EXCEPT "bb" : ALL', "bb", "x", True),
        ('ALL EXCEPT "a", "b" EXCEPT "bb" : ALL', "b", "x", False),
        ('"a:b" : "c#d"  # a comment', "a:b", "c#d", True),
        ("# nothing\n\n  ", "a", "b", False),
        ('"no"\t:\tALL\nALL : "yes"', "a", "yes", True),
    ],
)
def test_rules(tmp_path: Path, rule: str, left: str, right: str, matches: bool) -> None:
    (tmp_path / "x.allow").write_text(rule)
    assert read(str(tmp_path / "x.allow")).match(left, right) == matches


@pytest.mark.parametrize(
    "rule", ["ALL", 'ALL : "("', "sip:a : ALL", '"a" "b" : ALL', '"a", : ALL', ": ALL", "ALL : ALL : ALL", '"a : ALL']
)
def test_a_rule_that_is_wrong_names_its_line(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "x.allow"
    path.write_text(f"# first\n{rule}\n")
    with pytest.raises(RuleError, match=r"x.allow:2: "):
        read(str(path))


def files(tmp_path: Path, **texts: str) -> str:
    for name, text in texts.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return "".join(
        f'modparam("permissions", "default_{kind}_file", "{tmp_path}/permissions.{kind}")\n' for kind in ("allow", "deny")
    )


def test_routing_by_files(sqlite: SqliteScripts, tmp_path: Path) -> None:
    settings = files(
        tmp_path,
        permissions_allow='"^sip:alice@" : "^sip:bob@"\n',
        permissions_deny="ALL : ALL\n",
        own_deny='ALL : "^sip:00"',
    )
    script = start(
        sqlite,
        f'if ($rU == "fork") {{ $ru = "sip:bob@x"; append_branch("sip:carol@x"); }} $avp(rc) = allow_routing();'
        f'$avp(own) = allow_routing("{tmp_path}/own"); $avp(none) = allow_routing("{tmp_path}/missing");',
        settings,
    )
    for caller, target, codes in (
        ("sip:alice@a;x=1", "sip:bob@b:5070;transport=tcp", (1, 1)),
        ("sip:alice@a", "sip:carol@b", (-1, 1)),
        ("sip:bob@a", "sip:bob@b", (-1, 1)),
        ("sip:alice@a", "sip:0049@b", (-1, -1)),
        ("sip:alice@a", "sip:fork@b", (-1, 1)),
    ):
        run = script.request("OPTIONS", target, caller=caller)
        assert (run["$avp(rc)"], run["$avp(own)"], run["$avp(none)"]) == (*codes, 1)


@pytest.mark.parametrize(
    ("contact", "code"),
    [
        ("<sip:alice@127.0.0.1>", 1),
        ("<sip:alice@10.0.0.1>", -1),
        ("<sip:alice@127.0.0.1>, <sip:alice@10.0.0.1>", -1),
        ("*", 1),
        (None, 1),
        ("<<>", -1),
    ],
)
def test_registering_by_files(sqlite: SqliteScripts, tmp_path: Path, contact: str | None, code: int) -> None:
    files(tmp_path, reg_allow='ALL : "@127\\.0\\.0\\."', reg_deny="ALL : ALL")
    script = start(sqlite, f'$avp(rc) = allow_register("{tmp_path}/reg");', "")
    headers = {} if contact is None else {"Contact": contact}
    assert script.request("REGISTER", headers=headers)["$avp(rc)"] == code


def test_uris_by_files(sqlite: SqliteScripts, tmp_path: Path) -> None:
    files(tmp_path, uri_allow='"^sip:good" : ALL', uri_deny="ALL : ALL")
    script = start(sqlite, f'$avp(rc) = allow_uri("{tmp_path}/uri", "$fu");', "")
    assert script.request("OPTIONS", caller="sip:good@x")["$avp(rc)"] == 1
    assert script.request("OPTIONS", caller="sip:bad@x")["$avp(rc)"] == -1
    given = {"basename": f"{tmp_path}/uri", "uri": "sip:good@x", "contact": "sip:y@z"}
    assert script.mi("allow_uri", given) == {"result": "OK"}
    assert script.mi("allow_uri", given | {"uri": "sip:bad@x"})["error"] == {"code": 403, "message": "Forbidden"}


def test_a_file_that_is_wrong_is_an_error_of_the_script(sqlite: SqliteScripts, tmp_path: Path) -> None:
    files(tmp_path, bad_allow="ALL")
    with pytest.raises(ScriptErrors) as caught:
        start(sqlite, f'allow_routing("{tmp_path}/bad");', "")
    assert "bad.allow:1: a rule has two sides" in str(caught.value.diagnostics)
