"""Module dispatcher in scripts: choosing, failing over, states, tables, management."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from opensips_py.engine import outbox
from opensips_py.evi import events
from opensips_py.modules.dispatcher import probes
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.server.process import this
from opensips_py.testing import Run, Script
from opensips_py.tm import timers
from opensips_py.tm.receive import receive_message
from tests.modules.conftest import SqliteScripts
from tests.support.driven_clock import DrivenClock
from tests.tm.world import reply_to

TABLES = """
create table version(table_name char(32), table_version int);
insert into version values('dispatcher', 8), ('two', 8), ('old', 6);
create table dispatcher(id integer primary key, setid int default 0, destination char(192) default '', socket char(128),
    state int default 0, weight char(64) default '1', priority int default 0, attrs char(128) default '',
    description char(64) default '');
insert into dispatcher(setid, destination, socket, state, weight, priority, attrs, description) values
    (1, 'sip:10.0.0.1:5071', null, 0, '5', 10, 'a1', 'first'), (1, 'sip:10.0.0.2', null, 0, '3', 5, 'a2', ''),
    (1, 'sip:10.0.0.3;transport=udp', 'udp:192.0.2.11:5060', 0, '1', 1, '', ''),
    (2, 'sip:10.0.0.1:5071', null, 0, '1', 0, 'solo', ''),
    (3, 'sip:10.0.0.1:5071', null, 1, '1', 0, 'off', ''), (3, 'sip:10.0.0.2', null, 2, '1', 0, 'probed', '');
create table two as select * from dispatcher where setid < 3;
create table old as select * from dispatcher;
"""
FIRST, SECOND, THIRD = "sip:10.0.0.1:5071", "sip:10.0.0.2", "sip:10.0.0.3;transport=udp"
HEAD = """
socket=udp:192.0.2.10:5060
socket=udp:192.0.2.11:5060
loadmodule "cfgutils.so"
loadmodule "dispatcher.so"
modparam("dispatcher", "db_url", "URL")
modparam("dispatcher", "attrs_avp", "$avp(attrs)")
"""


def start(sqlite: SqliteScripts, statements: str, settings: str = "", more: str = "", head: str = HEAD) -> Script:
    if not sqlite.path.exists():
        sqlite.execute(TABLES)
    return sqlite.start(f'{head}{settings}route {{ {statements} sl_send_reply(200, "OK"); }}\n{more}')


def run(sqlite: SqliteScripts, statements: str, settings: str = "", more: str = "") -> Run:
    return start(sqlite, statements, settings, more).request("OPTIONS")


def rows(sqlite: SqliteScripts, what: str = "setid, destination, state") -> list[Any]:
    connection = sqlite3.connect(sqlite.path)
    try:
        return connection.execute(f"select {what} from dispatcher order by id").fetchall()
    finally:
        connection.close()


def written(script: Script) -> None:
    """Wait until nothing is to be written any more."""
    script.wait(lambda: not this.store.count(b"o"))


def state_of(script: Script, uri: str, group: int = 1) -> str:
    found = script.mi("ds_list")["result"]["PARTITIONS"][-1]["SETS"]
    [members] = [one["Destinations"] for one in found if one["id"] == group]
    return str(next(one["state"] for one in members if one["URI"] == uri))


# --- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "rc", "destination", "attrs"),
    [
        ("ds_select_dst(1, 8)", 1, FIRST, "a1"),
        ("ds_select_dst(1, 77)", 1, FIRST, "a1"),
        ("ds_select_dst(1, 9)", 1, FIRST, "a1"),
        ("ds_select_dst(1, 10)", 1, FIRST, "a1"),
        ("ds_select_dst(2, 6)", 1, FIRST, "solo"),
        ("ds_select_dst(3, 4)", -1, None, None),
        ("ds_select_dst(99, 8)", -1, None, None),
        ("ds_select_dst(1, 7)", -1, None, None),
    ],
)
def test_a_destination_is_chosen(sqlite: SqliteScripts, call: str, rc: int, destination: str | None, attrs: str | None) -> None:
    found = run(sqlite, f"$avp(rc) = {call};")
    assert (found["$avp(rc)"], found["$du"], found["$avp(attrs)"]) == (rc, destination, attrs)


def test_a_domain_is_chosen(sqlite: SqliteScripts) -> None:
    found = run(sqlite, 'ds_select_domain(1, 8, "f"); $avp(one) = $ru; ds_next_domain(); $avp(two) = $ru;')
    assert (found["$avp(one)"], found["$avp(two)"], found["$du"]) == ("sip:bob@10.0.0.1:5071", "sip:bob@10.0.0.2", None)


def test_the_others_follow_and_when_none_is_left_the_destination_stays(sqlite: SqliteScripts) -> None:
    found = run(
        sqlite,
        'ds_select_dst(1, 8, "f"); $avp(d1) = $du;'
        "ds_next_dst(); $avp(d2) = $du; $avp(a2) = $avp(attrs); $avp(c2) = $avp(ds_cnt_failover);"
        "ds_next_dst(); $avp(d3) = $du; $avp(s3) = $socket_out; $avp(a3) = $avp(attrs); $avp(rc4) = ds_next_dst();"
        "$avp(rc5) = ds_next_dst();",
    )
    assert [found[f"$avp(d{n})"] for n in (1, 2, 3)] == [FIRST, SECOND, THIRD]
    assert (found["$avp(a2)"], found["$avp(c2)"], found["$avp(a3)"]) == ("a2", 2, "")
    assert found["$avp(s3)"] == "udp:192.0.2.11:5060"
    assert (found["$avp(rc4)"], found["$avp(rc5)"], found["$du"], found["$avp(attrs)"]) == (-1, -1, THIRD, None)


def test_the_socket_of_one_destination_is_not_that_of_the_next(sqlite: SqliteScripts) -> None:
    sqlite.execute(TABLES + "update dispatcher set priority = 20 where socket is not null;")
    found = run(sqlite, 'ds_select_dst(1, 8, "f"); $avp(one) = $socket_out; ds_next_dst(); $avp(two) = $socket_out;')
    assert found["$avp(one)"] == "udp:192.0.2.11:5060"
    assert found["$avp(two)"] != "udp:192.0.2.11:5060"


def test_sets_are_put_before_each_other(sqlite: SqliteScripts) -> None:
    found = run(
        sqlite,
        'ds_select_dst(1, 8, "f", , 2); ds_select_dst(2, 8, "FA");'
        "$avp(list) = $(avp(ds_dst_failover)[*]); $avp(groups) = $(avp(ds_grp_failover)[*]);"
        "ds_next_dst(); $avp(a) = $avp(attrs); ds_next_dst(); $avp(b) = $avp(attrs); $avp(rc) = ds_next_dst();",
    )
    assert [found[f"$avp({name})"] for name in ("a", "b", "rc")] == ["a1", "a2", -1]


def test_without_flag_f_nothing_is_kept(sqlite: SqliteScripts) -> None:
    found = run(sqlite, "ds_select_dst(1, 8); $avp(next) = ds_next_dst(); $avp(mark) = ds_mark_dst();")
    assert (found["$avp(next)"], found["$avp(mark)"], found["$du"]) == (-1, -1, FIRST)


def test_a_list_stays_while_others_are_chosen_without_one(sqlite: SqliteScripts) -> None:
    found = run(sqlite, 'ds_select_dst(1, 8, "f"); ds_select_dst(2, 8); $avp(a) = $avp(attrs); ds_next_dst();')
    assert (found["$avp(a)"], found["$du"], found["$avp(attrs)"]) == ("solo", SECOND, "a2")


def test_the_user_of_the_credentials_decides_else_they_take_turns(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "ds_select_dst(1, 5);", 'modparam("dispatcher", "persistent_state", 0)\n')
    digest = 'Digest username="{}", realm="r", nonce="n", uri="sip:x", response="0"'
    chosen = {
        user: {script.request("OPTIONS", headers={"Proxy-Authorization": digest.format(user)})["$du"] for _ in range(3)}
        for user in ("alice", "bob", "carol", "dave", "erin", "frank")
    }
    assert all(len(found) == 1 for found in chosen.values())
    assert len(set.union(*chosen.values())) > 1
    assert [script.request("OPTIONS")["$du"] for _ in range(6)] == [FIRST] * 5 + [SECOND]


def test_a_text_of_variables_is_hashed(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "ds_select_dst(1, 7);", 'modparam("dispatcher", "hash_pvar", "$hdr(X-Key)")\n')
    assert [script.request("OPTIONS", headers={"X-Key": key})["$avp(attrs)"] for key in ("k1", "k2", "k3")] == ["a2", "a1", "a1"]


def test_loads_are_read_from_variables(sqlite: SqliteScripts) -> None:
    script = start(
        sqlite,
        '$shv(load_10.0.0.1) = $rU; ds_select_dst(4, 9, "f"); $avp(list) = $(avp(ds_dst_failover)[1]);',
        'modparam("dispatcher", "pvar_algo_pattern", "$shv(%u)")\nmodparam("cfgutils", "shvset", "sip:10.0.0.2=i:5")\n',
    )
    sqlite.execute("insert into dispatcher(setid, destination) values (4, 'sip:10.0.0.2'), (4, 'sip:10.0.0.5');")
    assert script.mi("ds_reload") == {"result": "OK"}
    found = script.request("OPTIONS")
    assert (found["$du"], found["$avp(list)"]) == ("sip:10.0.0.5", "sip:10.0.0.2")


ROUTED = """route[load] {
    xlog("@@$param(1) $param(dst_uri) $param(attrs) $param(script_attrs)\\n");
    if ($param(attrs) == "a2") return (-5);
    return (7);
}"""


def test_loads_are_returned_by_a_route(sqlite: SqliteScripts) -> None:
    found = run(
        sqlite,
        'ds_push_script_attrs("busy", "10.0.0.1", 5071, 1); ds_select_dst(1, 10, "f"); $avp(next) = $(avp(ds_dst_failover)[1]);',
        'modparam("dispatcher", "algo_route", "load")\n',
        ROUTED,
    )
    assert (found["$du"], found["$avp(next)"]) == (SECOND, FIRST)
    assert next(line.split("@@")[1] for line in found.log if "@@" in line) == f"{FIRST} {FIRST} a1 busy"


def test_a_route_for_loads_may_wait_in_line_only(sqlite: SqliteScripts) -> None:
    settings = 'modparam("dispatcher", "algo_route", "load")\n'
    assert run(sqlite, "ds_select_dst(1, 10);", settings, "route[load] { await(usleep(10)); return (1); }")["$du"] == FIRST
    leaving = 'route[load] { async(usleep(10), after); } route[after] { t_reply(480, "No"); }'
    found = run(sqlite, "ds_select_dst(1, 10);", settings, leaving)
    assert found.replies == ["480 No"]
    assert any("write await()" in line for line in found.log)


# --- states ---------------------------------------------------------------------------------------------------------


def test_what_is_marked_is_not_chosen_any_more(sqlite: SqliteScripts) -> None:
    script = start(sqlite, 'ds_select_dst(1, 8, "f"); ds_mark_dst($rU); $avp(rc) = $rc;')
    assert script.request("OPTIONS", "sip:i@x")["$du"] == FIRST
    assert script.request("OPTIONS", "sip:a@x")["$du"] == SECOND
    assert (state_of(script, FIRST), state_of(script, SECOND)) == ("Inactive", "Active")
    assert script.request("OPTIONS", "sip:nonsense@x")["$avp(rc)"] == -1
    written(script)
    assert rows(sqlite)[:2] == [(1, FIRST, 1), (1, SECOND, 0)]


def test_probing_begins_after_so_many_failures_in_a_row(sqlite: SqliteScripts) -> None:
    script = start(sqlite, 'ds_select_dst(1, 8, "f"); ds_mark_dst($rU);', 'modparam("dispatcher", "ds_probing_threshold", 2)\n')
    for state in ("p", "a", "P"):
        script.request("OPTIONS", f"sip:{state}@x")
        assert state_of(script, FIRST) == "Active"
    script.request("OPTIONS", "sip:2@x")
    assert state_of(script, FIRST) == "Probing"
    script = start(sqlite, 'ds_select_dst(2, 8, "f"); ds_mark_dst("p");', 'modparam("dispatcher", "ds_probing_threshhold", 1)\n')
    script.request("OPTIONS")
    assert state_of(script, FIRST, 2) == "Probing"


def test_changes_are_told_as_events(sqlite: SqliteScripts, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = 'loadmodule "event_route.so"\n'
    script = start(sqlite, "exit;", settings, "event_route[E_DISPATCHER_STATUS] { exit; }")
    told: list[Any] = []
    monkeypatch.setattr(events, "raise_event", lambda name, parameters: told.append(dict(parameters)))
    for state in "aippa":
        script.mi("ds_set_state", [state, 1, FIRST])
    assert [one["status"] for one in told] == ["inactive", "active"]
    assert told[0] == {"partition": "default", "group": 1, "address": FIRST, "status": "inactive"}


def test_states_outlive_a_restart_and_a_reload(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "exit;")
    assert script.mi("ds_set_state", {"state": "i", "group": 1, "address": FIRST}) == {"result": "OK"}
    written(script)
    script = start(sqlite, "exit;")
    assert state_of(script, FIRST) == "Inactive"
    sqlite.execute("update dispatcher set state = 0, attrs = 'new'; delete from dispatcher where setid = 2;")
    assert script.mi("ds_reload") == {"result": "OK"}
    assert (state_of(script, FIRST), state_of(script, SECOND, 3)) == ("Inactive", "Probing")
    [three, one] = script.mi("ds_list")["result"]["PARTITIONS"][0]["SETS"]
    assert (three["id"], one["Destinations"][0]["attr"]) == (3, "new")


def test_states_may_be_kept_out_of_the_table(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "exit;", 'modparam("dispatcher", "persistent_state", 0)\n')
    assert state_of(script, FIRST, 3) == "Active"
    script.mi("ds_set_state", ["i", 1, FIRST])
    written(script)
    assert state_of(script, FIRST) == "Inactive"
    assert rows(sqlite)[0] == (1, FIRST, 0)


def test_a_state_is_written_when_the_database_is_back(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "exit;")
    sqlite.execute("alter table dispatcher rename to away;")
    assert script.mi("ds_set_state", ["i", 1, FIRST]) == {"result": "OK"}
    assert script.mi("ds_set_state", ["p", 1, FIRST]) == {"result": "OK"}
    assert state_of(script, FIRST) == "Probing"
    sqlite.execute("alter table away rename to dispatcher;")

    def delivered() -> bool:
        outbox.sweep()
        return not this.store.count(b"o")

    script.wait(delivered)
    assert rows(sqlite)[0] == (1, FIRST, 2)


# --- asking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "rc"),
    [
        ('"10.0.0.1", 5071', 1),
        ('"10.0.0.1", 0', 1),
        ('"10.0.0.1", 5060', -1),
        ('"10.0.0.2", 5060', 1),
        ('"10.0.0.2", 5060, 2', -1),
        ('"10.0.0.2", 5060, -1', 1),
        ('"10.0.0.2", 5060, 3', 1),
        ('"10.0.0.2", 5060, 3, , 1', -1),
        ('"10.0.0.2", 5060, 3, , 0', 1),
        ('"10.0.0.9", 0', -1),
        ('"nonsense", 0', -1),
        ('"$si", $sp', -1),
    ],
)
def test_whether_an_address_is_in_a_list(sqlite: SqliteScripts, call: str, rc: int) -> None:
    assert run(sqlite, f"$avp(rc) = ds_is_in_list({call});")["$avp(rc)"] == rc


def test_the_set_in_which_an_address_is_found(sqlite: SqliteScripts) -> None:
    settings = 'modparam("dispatcher", "setid_pvar", "$avp(set)")\n'
    found = run(sqlite, 'ds_is_in_list("10.0.0.1", 5071);', settings)
    assert (found["$avp(set)"], found["$avp(attrs)"]) == (3, "off")
    found = run(sqlite, 'ds_is_in_list("10.0.0.1", 5071, 2);', settings)
    assert (found["$avp(set)"], found["$avp(attrs)"]) == (None, "solo")


def test_destinations_with_names_are_looked_up(sqlite: SqliteScripts) -> None:
    script = start(sqlite, '$avp(rc) = ds_is_in_list("127.0.0.1", 5060, 5); $avp(no) = ds_is_in_list("127.0.0.2", 5060, 5);')
    sqlite.execute("insert into dispatcher(setid, destination) values (5, 'sip:localhost:5060');")
    script.mi("ds_reload")
    found = script.request("OPTIONS")
    assert (found["$avp(rc)"], found["$avp(no)"]) == (1, -1)


@pytest.mark.parametrize(
    ("set_", "states", "rc", "count"),
    [(1, "a", 1, 3), (3, "i", 1, 1), (3, "p", 1, 1), (3, "aip", 1, 2), (3, "A", 1, 0), (3, "02", 1, 2), (9, "a", -1, None)],
)
def test_how_many_are_in_a_state(sqlite: SqliteScripts, set_: int, states: str, rc: int, count: int | None) -> None:
    found = run(sqlite, f'$var(f) = "{states}"; $avp(rc) = ds_count({set_}, $var(f), $avp(n));')
    assert (found["$avp(rc)"], found["$avp(n)"]) == (rc, count)


def test_texts_of_scripts_go_with_destinations(sqlite: SqliteScripts) -> None:
    script = start(
        sqlite,
        '$avp(pushed) = ds_push_script_attrs($hdr(X-Text), "10.0.0.1", 5071);'
        '$avp(nobody) = ds_push_script_attrs("x", "10.9.9.9", 0, 1); ds_select_dst(1, 8, "f"); $avp(read) = $avp(texts);'
        f'$avp(got) = ds_get_script_attrs("{FIRST}", 2, , $avp(value));'
        f'$avp(none) = ds_get_script_attrs("{SECOND}", 1, , $avp(x));',
        'modparam("dispatcher", "script_attrs_avp", "$avp(texts)")\n',
    )
    found = script.request("OPTIONS", headers={"X-Text": "load=7"})
    assert [found[f"$avp({name})"] for name in ("pushed", "nobody", "read", "got", "value", "none")] == [
        *(1, -1, "load=7", 1, "load=7", -1)
    ]
    assert script.request("OPTIONS", headers={"X-Text": "y" * 5000})["$avp(pushed)"] == -1
    assert script.mi("ds_push_script_attrs", ["by hand", "10.0.0.2", 0, 1, "default"]) == {"result": "OK"}
    shown = script.mi("ds_list")["result"]["PARTITIONS"][0]["SETS"][-1]["Destinations"]
    assert [one.get("script_attr") for one in shown] == ["load=7", "by hand", None]
    sqlite.execute("delete from dispatcher where destination = 'sip:10.0.0.2' and setid = 1;")
    script.mi("ds_reload")
    sqlite.execute("insert into dispatcher(setid, destination) values (1, 'sip:10.0.0.2');")
    script.mi("ds_reload")
    assert "script_attr" not in script.mi("ds_list")["result"]["PARTITIONS"][0]["SETS"][-1]["Destinations"][-1]


# --- tables and management ------------------------------------------------------------------------------------------


def test_what_management_lists(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "ds_select_dst(1, 8);")
    script.request("OPTIONS")
    script.request("OPTIONS")
    [partition] = script.mi("ds_list")["result"]["PARTITIONS"]
    assert [one["id"] for one in partition["SETS"]] == [3, 2, 1]
    assert partition["SETS"][2]["Destinations"][0] == {"URI": FIRST, "state": "Active", "first_hit_counter": 2, "attr": "a1"}
    assert "attr" not in partition["SETS"][2]["Destinations"][2]
    [partition] = script.mi("ds_list", {"full": "full"})["result"]["PARTITIONS"]
    assert partition["SETS"][2]["Destinations"][0] == {
        **{"URI": FIRST, "state": "Active", "first_hit_counter": 2, "weight": 5, "priority": 10},
        **{"attr": "a1", "description": "first"},
    }
    assert partition["SETS"][2]["Destinations"][2]["socket"] == "udp:192.0.2.11:5060"
    script.mi("ds_reload")
    assert script.mi("ds_list")["result"]["PARTITIONS"][0]["SETS"][2]["Destinations"][0]["first_hit_counter"] == 0


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        ("ds_set_state", ["x", 1, FIRST], 400),
        ("ds_set_state", ["1", 1, FIRST], 400),
        ("ds_set_state", ["a", "one", FIRST], 400),
        ("ds_set_state", ["a", 9, FIRST], 404),
        ("ds_set_state", ["a", 1, "sip:nobody"], 404),
        ("ds_set_state", ["a", "pa:1", FIRST], 404),
        ("ds_reload", ["pa"], 404),
        ("ds_push_script_attrs", ["x", "nonsense", 1, 1], 400),
        ("ds_push_script_attrs", ["x", "10.0.0.1", 99999, 1], 400),
        ("ds_push_script_attrs", ["x", "10.9.9.9", 0, 1], 404),
        ("ds_push_script_attrs", ["x" * 5000, "10.0.0.1", 0, 1], 400),
    ],
)
def test_mistakes_in_management(sqlite: SqliteScripts, command: str, arguments: list[Any], code: int) -> None:
    assert start(sqlite, "exit;").mi(command, arguments)["error"]["code"] == code


def test_a_reload_that_fails_changes_nothing(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "$avp(rc) = ds_select_dst(2, 8);")
    script.mi("ds_set_state", ["i", 1, FIRST])
    written(script)
    sqlite.execute("drop table dispatcher;")
    assert script.mi("ds_reload")["error"]["code"] == 500
    assert script.request("OPTIONS")["$avp(rc)"] == 1
    assert state_of(script, FIRST) == "Inactive"


def test_a_row_with_nonsense_is_logged_and_left_out(sqlite: SqliteScripts) -> None:
    script = start(sqlite, "ds_select_dst(1, 8);")
    sqlite.execute("update dispatcher set destination = 'nonsense' where attrs = 'a1';")
    before = script.request("OPTIONS")
    assert script.mi("ds_reload") == {"result": "OK"}
    assert any("[nonsense] is not a SIP URI" in line for line in before.log)
    assert (before["$du"], script.request("OPTIONS")["$du"]) == (FIRST, SECOND)


PARTITION = 'modparam("dispatcher", "partition", "pa: db_url = URL; table_name = two; attrs_avp = $avp(pattrs);")\n'


def test_partitions_have_tables_and_lists_of_their_own(sqlite: SqliteScripts) -> None:
    script = start(
        sqlite,
        'ds_select_dst(1, 8, "f", "pa"); $avp(a) = $avp(pattrs); ds_select_dst(2, 8, "f"); ds_next_dst("pa"); $avp(b) = $du;'
        '$avp(c) = ds_next_dst(); $var(p) = "nobody"; $avp(d) = ds_select_dst(1, 8, , $var(p)); ds_mark_dst("i", "pa");'
        "$avp(e) = $avp(ds_dst_failover_pa);",
        PARTITION,
    )
    found = script.request("OPTIONS")
    assert [found[f"$avp({name})"] for name in "abcde"] == ["a1", SECOND, -1, -1, SECOND]
    assert [one["name"] for one in script.mi("ds_list")["result"]["PARTITIONS"]] == ["pa", "default"]
    assert state_of(script, SECOND) == "Active"
    assert script.mi("ds_set_state", ["a", "pa:1", SECOND]) == {"result": "OK"}
    assert script.mi("ds_reload", {"partition": "pa"}) == {"result": "OK"}


def test_a_partition_can_be_the_default_one(sqlite: SqliteScripts) -> None:
    head = HEAD.replace('modparam("dispatcher", "db_url", "URL")\n', "")
    settings = PARTITION + 'modparam("dispatcher", "partition", "default: pa")\n'
    script = start(sqlite, "ds_select_dst(1, 8);", settings, head=head)
    assert script.request("OPTIONS")["$du"] == FIRST
    assert [one["name"] for one in script.mi("ds_list")["result"]["PARTITIONS"]] == ["pa"]


def test_a_view_without_numbers_of_rows_will_do(sqlite: SqliteScripts) -> None:
    sqlite.execute(
        TABLES + "alter table dispatcher rename to t; create view dispatcher as"
        " select setid, destination, socket, state, weight, priority, attrs, description from t;"
    )
    assert run(sqlite, "ds_select_dst(1, 8);", 'modparam("dispatcher", "persistent_state", 0)\n')["$du"] == FIRST


def test_tables_of_another_version_are_refused_but_the_one_before(sqlite: SqliteScripts) -> None:
    sqlite.execute(TABLES)
    with pytest.raises(ConfigError, match="invalid version 6 for table old found, expected 8"):
        start(sqlite, "exit;", 'modparam("dispatcher", "table_name", "old")\n')
    with pytest.raises(ConfigError, match="invalid version 0 for table new"):
        start(sqlite, "exit;", 'modparam("dispatcher", "table_name", "new")\n')
    sqlite.execute("update version set table_version = 7 where table_name = 'dispatcher';")
    start(sqlite, "exit;")


@pytest.mark.parametrize(
    ("statements", "settings", "text"),
    [
        ('ds_select_dst(1, 8, "zz");', "", "[z] is not a flag: there are f, u, d, a and s"),
        ('ds_select_dst(1, 8, "f", "pb");', "", "unknown partition <pb>"),
        ('ds_mark_dst("x");', "", "[x] is not a state"),
        ('ds_count(1, "x", $var(n));', "", "[x] is no row of states"),
        ("exit;", 'modparam("dispatcher", "db_url", "")\n', "there is no database"),
        ("exit;", 'modparam("dispatcher", "table_name", "a b")\n', "table_name: [a b] is not a name"),
        ("exit;", 'modparam("dispatcher", "dst_avp", "$var(x)")\n', 'it must be an AVP, as in "$avp(name)"'),
        ("exit;", 'modparam("dispatcher", "partition", "pa")\n', 'is not of the form "name: db_url = URL'),
        ("exit;", 'modparam("dispatcher", "partition", "pa: db_url = URL; x = y")\n', "[x] is not one of db_url"),
        ("exit;", 'modparam("dispatcher", "partition", "default: db_url = URL")\n', "there are two partitions default"),
        ("exit;", 'modparam("dispatcher", "partition", "default: pz")\n', "there is no partition pz"),
        ("exit;", PARTITION + PARTITION, "there are two partitions pa"),
        ("exit;", 'modparam("dispatcher", "hash_pvar", "$nosuch(x)")\n', "hash_pvar"),
        ("exit;", 'modparam("dispatcher", "setid_pvar", "$ci")\n', "$ci cannot be written"),
        ("exit;", 'modparam("dispatcher", "pvar_algo_pattern", "%u")\n', "a variable starts with $"),
        ("exit;", 'modparam("dispatcher", "algo_route", "nosuch")\n', "route [nosuch] is not defined"),
        ("exit;", 'modparam("dispatcher", "options_reply_codes", "4xx")\n', "[4xx] is not a status code"),
        ("exit;", 'modparam("dispatcher", "ds_probing_list", "1,x")\n', "[x] is not the number of a set"),
        ("exit;", 'modparam("dispatcher", "ds_ping_method", "A B")\n', "[A B] cannot be a method"),
        ("exit;", 'modparam("dispatcher", "ds_ping_from", "me")\n', "[me] is not a SIP URI"),
        ("exit;", 'modparam("dispatcher", "ds_ping_maxfwd", 256)\n', "from 0 to 255"),
        ("exit;", 'modparam("dispatcher", "ds_probing_threshold", 0)\n', "is 1 or more"),
        ("exit;", 'modparam("dispatcher", "cluster_id", 1)\n', "not supported yet: parameter cluster_id"),
        ("exit;", 'modparam("dispatcher", "cluster_sharing_tag", "a")\n', "not supported yet: parameter cluster_sharing_tag"),
        ("exit;", 'modparam("dispatcher", "fetch_freeswitch_stats", 1)\n', "not supported yet: parameter fetch_freeswitch_stats"),
        ("exit;", 'modparam("dispatcher", "ds_define_blacklist", "a = 1")\n', "not supported yet: parameter ds_define_blacklist"),
    ],
)
def test_mistakes_in_scripts(sqlite: SqliteScripts, statements: str, settings: str, text: str) -> None:
    with pytest.raises(ScriptErrors) as caught:
        start(sqlite, statements, settings)
    assert text in "\n".join(f"{one.message} {one.hint or ''}" for one in caught.value.diagnostics)


def test_a_socket_for_probes_that_is_not_there(sqlite: SqliteScripts) -> None:
    with pytest.raises(ConfigError, match=r"this server has no socket udp:10\.9\.9\.9:5060"):
        start(sqlite, "exit;", 'modparam("dispatcher", "ds_probing_sock", "udp:10.9.9.9:5060")\n')


# --- probing --------------------------------------------------------------------------------------------------------


def probed() -> list[tuple[str, str]]:
    """The destinations of a round by set."""
    return [(name.decode().split("\0")[1], probe.uri) for name, probe in probes.due()]


def answer(uri: str, code: int, group: int = 1) -> None:
    probes.answered(f"default\0{group}\0{uri}".encode(), code)


def test_which_destinations_are_probed(sqlite: SqliteScripts) -> None:
    start(sqlite, "exit;")
    assert probed() == [("3", SECOND)]
    start(sqlite, "exit;", 'modparam("dispatcher", "ds_probing_mode", 1)\n')
    assert probed() == [("3", SECOND), ("2", FIRST), ("1", FIRST), ("1", SECOND), ("1", THIRD)]
    start(
        sqlite,
        "exit;",
        'modparam("dispatcher", "ds_probing_mode", 1)\nmodparam("dispatcher", "ds_probing_list", "1, 2")\n',
    )
    assert {group for group, _ in probed()} == {"1", "2"}


def test_how_they_are_probed(sqlite: SqliteScripts) -> None:
    start(sqlite, "exit;", 'modparam("dispatcher", "ds_probing_mode", 1)\n')
    found = {probe.uri: probe for _, probe in probes.due()}
    assert (found[FIRST].method, found[FIRST].sender, found[FIRST].max_forwards) == ("OPTIONS", "sip:dispatcher@localhost", 70)
    assert (found[FIRST].socket, found[THIRD].socket) == (None, this.sockets[1])
    start(
        sqlite,
        "exit;",
        'modparam("dispatcher", "ds_ping_method", "INFO")\nmodparam("dispatcher", "ds_ping_maxfwd", 0)\n'
        'modparam("dispatcher", "ds_probing_sock", "192.0.2.11")\nmodparam("dispatcher", "ds_ping_from", "sip:p@x")\n',
    )
    [(_, probe)] = probes.due()
    assert (probe.method, probe.sender, probe.max_forwards, probe.socket) == ("INFO", "sip:p@x", 0, this.sockets[1])


def test_answers_to_probes(sqlite: SqliteScripts) -> None:
    script = start(
        sqlite,
        "exit;",
        'modparam("dispatcher", "options_reply_codes", "501")\nmodparam("dispatcher", "ds_probing_threshhold", 2)\n',
    )
    answer(SECOND, 486, 3)
    assert state_of(script, SECOND, 3) == "Probing"
    answer(SECOND, 501, 3)
    assert state_of(script, SECOND, 3) == "Active"
    for code, state in ((408, "Active"), (200, "Active"), (503, "Active"), (408, "Probing"), (200, "Active")):
        answer(FIRST, code)
        assert state_of(script, FIRST) == state
    script.mi("ds_set_state", ["i", 1, FIRST])
    answer(FIRST, 200)
    assert state_of(script, FIRST) == "Inactive", "a person has switched it off"
    answer("sip:gone", 200)
    answer("sip:gone", 408)
    probes.answered(b"gone\x001\x00sip:x", 200)
    written(script)
    assert rows(sqlite)[0] == (1, FIRST, 1)


def test_an_answer_that_changes_nothing_writes_nothing(sqlite: SqliteScripts, monkeypatch: pytest.MonkeyPatch) -> None:
    start(sqlite, "exit;")
    monkeypatch.setattr(this.store, "batch", None)
    answer(FIRST, 200)


def test_a_round_of_the_timer_process(sqlite: SqliteScripts) -> None:
    sqlite.execute(TABLES)
    text = f'loadmodule "db_sqlite.so"\n{HEAD}modparam("dispatcher", "ds_ping_interval", 1)\nroute {{ exit; }}'
    with Script(text.replace("URL", sqlite.url), process="timer") as script:
        script.wait(lambda: bool(script._run.sent), 5)
        sent = script._run.sent[0]
        assert (sent.method, sent.ruri, str(sent.value("from")).partition(";")[0]) == (
            *("OPTIONS", SECOND),
            "<sip:dispatcher@localhost>",
        )


def test_a_silent_destination_is_probed_until_it_answers(sqlite: SqliteScripts, clock: DrivenClock) -> None:
    script = start(
        sqlite,
        "exit;",
        'modparam("dispatcher", "ds_probing_mode", 1)\nmodparam("dispatcher", "ds_probing_list", "1")\n'
        'modparam("dispatcher", "ds_probing_threshhold", 1)\n',
    )
    for name, probe in probes.due():
        probes.prober.send(name, probe)
    sent = [message for message in script._run.sent if message.ruri == FIRST]
    assert len(sent) == 1
    clock.now += 40
    timers.fire_due(clock.now)
    assert [state_of(script, uri) for uri in (FIRST, SECOND, THIRD)] == ["Probing"] * 3
    for name, probe in probes.due():
        probes.prober.send(name, probe)
    again = [message for message in script._run.sent if message.ruri == FIRST][-1]
    receive_message(reply_to(again, 200), ("10.0.0.1", 5071), this.sockets[0])
    assert [state_of(script, uri) for uri in (FIRST, SECOND)] == ["Active", "Probing"]
