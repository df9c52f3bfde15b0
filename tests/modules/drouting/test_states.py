"""drouting: which gateways work, who knows it, and how they are probed."""

from __future__ import annotations

from typing import Any

import pytest

from opensips_py.modules.drouting import probes, states
from opensips_py.modules.drouting.partitions import partitions
from opensips_py.modules.drouting.tables import ACTIVE, DISABLED, INACTIVE
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from opensips_py.testing import Script
from tests.modules.drouting.conftest import HEAD, Case

EVENT = """event_route[E_DROUTING_STATUS] { xlog("told: $param(partition) $param(gwid) $param(address) $param(status)\\n"); }\n"""


def status(script: Script, name: str) -> str:
    shown: str = script.mi("dr_gw_status", {"gw_id": name})["result"]["State"]
    return shown


def answer(name: str, code: int, partition: str = "Default") -> None:
    """A probe has been answered."""
    probes._answered(f"{partition}\0{name}".encode(), code)


def set_status(script: Script, name: str, status: int) -> None:
    assert script.mi("dr_gw_status", {"gw_id": name, "status": status}) == {"result": "OK"}


def forget() -> None:
    """What a process knows by heart is gone, as in one that replaces it."""
    states._seen.clear()


# --- states ---------------------------------------------------------------------------------------------------------


def test_a_state_outlives_the_process_that_has_set_it(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing(1);")
    set_status(script, "g1", 0)
    forget()
    assert status(script, "g1") == "Disabled MI"
    assert case.ask(script).ids == "g2"
    set_status(script, "g1", 1)
    forget()
    assert case.ask(script).ids == "g1, g2"


def test_states_come_from_the_table_unless_they_are_not_persistent(case: Case) -> None:
    case.execute("update dr_gateways set state = 1 where gwid = 'g1'; update dr_gateways set state = 2 where gwid = 'g4'")
    case.execute("update dr_carriers set state = 1 where carrierid = 'first'")
    script = case.start('$avp(rc) = do_routing(2, "F");')
    assert [status(script, name) for name in ("g1", "g2", "g4")] == ["Disabled MI", "Active", "Inactive"]
    routed = case.ask(script, "sip:1@x")
    assert (routed.ids, routed["carrier_id_avp"]) == ("g2", "c1")
    script = case.start("exit;", 'modparam("drouting", "persistent_state", 0)\n')
    assert {status(script, name) for name in ("g1", "g2", "g4")} == {"Active"}


def test_a_disabled_carrier_is_not_used(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing(2);")
    assert script.mi("dr_carrier_status", {"carrier_id": "first", "status": 0}) == {"result": "OK"}
    assert case.ask(script, "sip:1@x").ids == "g4"
    assert script.mi("dr_carrier_status")["result"] == {
        "Carriers": [{"ID": "c1", "Enabled": "yes"}, {"ID": "first", "Enabled": "no"}]
    }
    assert script.mi("dr_carrier_status", {"carrier_id": "first"})["result"] == {"Enabled": "no"}
    script.mi("dr_carrier_status", {"carrier_id": "first", "status": 1})
    assert case.ask(script, "sip:1@x").ids == "g2, g4"


def rows_of(case: Case) -> dict[str, int]:
    return dict(case.rows("select gwid, state from dr_gateways where state <> 0"))


def test_the_timer_process_writes_states_into_the_table(case: Case) -> None:
    script = case.start("exit;", process="timer")
    set_status(script, "g1", 0)
    answer("g2", 503)
    script.mi("dr_carrier_status", {"carrier_id": "c1", "status": 0})
    script.wait(lambda: not states.current(partitions["Default"]).unwritten)
    assert rows_of(case) == {"g1": DISABLED, "g2": INACTIVE}
    assert case.rows("select carrierid from dr_carriers where state = 1") == [("c1",)]


def test_what_is_not_written_yet_is_when_the_server_stops(case: Case) -> None:
    script = case.start("exit;", process="timer")
    set_status(script, "g1", 0)
    case.end()
    assert rows_of(case) == {"g1": DISABLED}
    script = case.start("exit;")
    assert status(script, "g1") == "Disabled MI"


def test_a_database_that_is_away_gets_the_states_when_it_is_back(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_WRITE_SECONDS", 0.01)
    script = case.start("exit;", process="timer")
    case.execute("alter table dr_gateways rename to away")
    set_status(script, "g1", 0)
    run_log: list[str] = script._run.log
    script.wait(lambda: any("no such table" in line for line in run_log))
    assert status(script, "g1") == "Disabled MI"
    case.execute("alter table away rename to dr_gateways")
    script.wait(lambda: not states.current(partitions["Default"]).unwritten)
    assert rows_of(case) == {"g1": DISABLED}


def test_a_state_that_changes_while_it_is_written_is_written_again(case: Case) -> None:
    script = case.start("exit;")
    set_status(script, "g1", 0)
    set_status(script, "g1", 1)
    states._written(partitions["Default"], False, "g1", DISABLED)
    assert states.current(partitions["Default"]).unwritten == [(False, "g1")]
    states._written(partitions["Default"], False, "g1", ACTIVE)
    assert states.current(partitions["Default"]).unwritten == []


def test_states_that_are_not_persistent_are_not_written(case: Case) -> None:
    script = case.start("exit;", 'modparam("drouting", "persistent_state", 0)\n', process="timer")
    set_status(script, "g1", 0)
    case.end()
    assert rows_of(case) == {}


def test_the_event_tells_of_changes_only(case: Case) -> None:
    script = case.start("exit;", routes=EVENT)
    run = script.request("OPTIONS")
    for name, wanted in (("g2", 0), ("g2", 0), ("g2", 1), ("g2", 1)):
        set_status(script, name, wanted)
    for name, code in (("g1", 408), ("g1", 503), ("g1", 200), ("g2", 500)):
        answer(name, code)
    script.mi("dr_gw_status")
    expected = ["g2 192.0.2.2 disabled MI", "g2 192.0.2.2 active", "g1 192.0.2.1:5061 inactive", "g1 192.0.2.1:5061 active"]
    told = [line.partition("told: Default ")[2] for line in run.log if "told: " in line]
    assert told == [*expected, "g2 192.0.2.2 probing"]


# --- probes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "code", "after"),
    [
        *(("Active", 200, "Active"), ("Active", 404, "Inactive"), ("Active", 408, "Inactive"), ("Active", 503, "Inactive")),
        *(("Active", 501, "Active"), ("Active", 302, "Active"), ("Active", 603, "Inactive")),
        *(("Inactive", 200, "Active"), ("Inactive", 501, "Active"), ("Inactive", 302, "Inactive"), ("Inactive", 404, "Inactive")),
        *(("Disabled MI", 200, "Disabled MI"), ("Disabled MI", 503, "Disabled MI")),
    ],
)
def test_what_the_answer_to_a_probe_means(case: Case, before: str, code: int, after: str) -> None:
    script = case.start("exit;", 'modparam("drouting", "probing_reply_codes", "501, 403")\n')
    if before == "Inactive":
        answer("g1", 500)
    elif before != "Active":
        set_status(script, "g1", 0)
    answer("g1", code)
    assert status(script, "g1") == after


def test_answers_about_gateways_that_are_gone_are_nothing(case: Case) -> None:
    script = case.start("exit;")
    for name, partition in (("nosuch", "Default"), ("g1", "nosuch")):
        answer(name, 503, partition)
    assert status(script, "g1") == "Active"


def test_who_is_probed(case: Case) -> None:
    script = case.start("exit;")

    def due() -> list[str]:
        return [probe.uri for _, probe in probes.due()]

    assert due() == ["sip:192.0.2.1:5061"], "probe_mode 2"
    answer("g2", 503)
    assert due() == ["sip:192.0.2.1:5061", "sip:192.0.2.2"], "probe_mode 1, inactive"
    set_status(script, "g1", 0)
    answer("g4", 503)
    assert due() == ["sip:192.0.2.2"], "one that a person has disabled is not; nor is one with probe_mode 0"
    assert script.mi("dr_enable_probing") == {"result": {"Status": 1}}
    assert script.mi("dr_enable_probing", {"status": 0}) == {"result": "OK"}
    assert (script.mi("dr_enable_probing"), due()) == ({"result": {"Status": 0}}, [])
    script.mi("dr_enable_probing", {"status": 1})
    assert due() == ["sip:192.0.2.2"]


def test_how_they_are_probed(case: Case) -> None:
    sockets = "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.2:5062\nsocket=udp:127.0.0.3:5063\n"
    case.execute("update dr_gateways set probe_mode = 2, socket = 'udp:127.0.0.2:5062' where gwid = 'g2'")
    settings = "".join(
        f'modparam("drouting", "{name}", "{value}")\n'
        for name, value in (("probing_method", "INFO"), ("probing_from", "sip:me@here"), ("probing_socket", "udp:127.0.0.3:5063"))
    )
    case.start("exit;", sockets + settings)
    found = {probe.uri: probe for _, probe in probes.due()}
    first, second = found["sip:192.0.2.1:5061"], found["sip:192.0.2.2"]
    assert (first.method, first.sender) == ("INFO", "sip:me@here")
    assert first.socket is not None
    assert second.socket is not None
    assert (first.socket.port, second.socket.port) == (5063, 5062)


def test_without_an_interval_nothing_is_probed(case: Case) -> None:
    script = case.start("exit;", 'modparam("drouting", "probing_interval", 0)\n')
    assert list(probes.due()) == []
    assert script.mi("dr_enable_probing", {"status": 1})["error"]["code"] == 400


def test_the_timer_process_sends_probes(case: Case) -> None:
    script = case.start("exit;", 'modparam("drouting", "probing_interval", 1)\n', process="timer")
    script.wait(lambda: bool(script._run.sent))
    assert [(m.method, m.ruri) for m in script._run.sent] == [("OPTIONS", "sip:192.0.2.1:5061")]


# --- management -----------------------------------------------------------------------------------------------------


def test_what_management_shows_of_gateways(case: Case) -> None:
    script = case.start("exit;")
    assert script.mi("dr_gw_status")["result"]["Gateways"][:3] == [
        {"ID": "g1", "IP": "192.0.2.1:5061", "ATTRS": "ga1", "State": "Active"},
        {"ID": "g2", "IP": "192.0.2.2", "ATTRS": "ga2", "State": "Active"},
        {"ID": "g3", "IP": "192.0.2.3;transport=tcp", "State": "Active"},
    ]
    assert script.mi("dr_gw_status", {"gw_id": "g1"}) == {"result": {"ATTRS": "ga1", "State": "Active"}}
    for command, name in (("dr_gw_status", "gw_id"), ("dr_carrier_status", "carrier_id")):
        assert script.mi(command, {name: "nosuch"})["error"]["code"] == 404
        assert script.mi(command, {"partition_name": "x", name: "g1"})["error"]["code"] == 400
    assert script.mi("dr_gw_status", {"gw_id": "g1", "status": 7})["error"]["code"] == -32602


def test_how_a_number_would_be_routed(case: Case) -> None:
    script = case.start("exit;", 'modparam("drouting", "default_group", 1)\n')
    assert script.mi("dr_number_routing", {"number": "4420", "group_id": 1})["result"] == {
        **{"Matched Prefix": "4420", "GW List": [{"GATEWAY": "g2"}, {"GATEWAY": "g1"}], "ATTRS": "london"},
    }
    assert script.mi("dr_number_routing", {"number": "1", "group_id": 2})["result"]["GW List"][0] == {"CARRIER": "first"}
    assert script.mi("dr_number_routing", {"number": "9"})["result"]["ATTRS"] == "default"
    assert script.mi("dr_number_routing", {"number": "9", "group_id": 2}) == {"result": "No match"}


# --- reading again --------------------------------------------------------------------------------------------------


def test_tables_are_read_again_all_of_them_or_none(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing(1);")
    case.execute(
        "update dr_rules set gwlist = 'new' where ruleid = 1; insert into dr_gateways(gwid, address) values('new', '192.0.2.9')"
    )
    assert case.ask(script).ids == "g1, g2"
    assert script.mi("dr_reload") == {"result": "OK"}
    assert case.ask(script).ruri == "sip:44123@192.0.2.9"
    case.execute("update dr_gateways set address = '192.0.2.10' where gwid = 'new'; drop table dr_rules")
    assert script.mi("dr_reload")["error"]["code"] == 500
    assert case.ask(script).ruri == "sip:44123@192.0.2.9", "what was there stays"
    assert "Date" in script.mi("dr_reload_status")["result"]


def test_a_database_that_is_away_leaves_the_tables_as_they_are(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing(1);")
    moved = case.path.with_name("away")
    case.path.rename(moved)
    case.path.mkdir()
    assert script.mi("dr_reload")["error"]["code"] == 500
    assert case.ask(script).ids == "g1, g2"
    case.path.rmdir()
    moved.rename(case.path)
    case.execute("update dr_rules set gwlist = 'g2' where ruleid = 1")
    assert script.mi("dr_reload") == {"result": "OK"}
    assert case.ask(script).ids == "g2"


def test_reading_again_keeps_the_states_of_what_stays(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing(1);")
    set_status(script, "g1", 0)
    set_status(script, "g4", 0)
    script.mi("dr_carrier_status", {"carrier_id": "c1", "status": 0})
    case.execute(
        "update dr_gateways set state = 1 where gwid = 'g2'; delete from dr_gateways where gwid = 'g4';"
        "insert into dr_gateways(gwid, address, state) values('new', '192.0.2.9', 1), ('fresh', '192.0.2.8', 0)"
    )
    assert script.mi("dr_reload") == {"result": "OK"}
    assert [status(script, name) for name in ("g1", "g2", "new", "fresh")] == ["Disabled MI", "Active", "Disabled MI", "Active"]
    assert script.mi("dr_carrier_status", {"carrier_id": "c1"})["result"] == {"Enabled": "no"}
    assert sorted(name for _, name in states.current(partitions["Default"]).unwritten) == ["c1", "g1"]


def test_only_one_reload_at_a_time_if_that_is_wanted(case: Case) -> None:
    script = case.start("exit;", 'modparam("drouting", "no_concurrent_reload", 1)\n')
    this.counters.status(this.slot).incarnation = this.incarnation
    answers: list[Any] = []
    command = script._dispatcher.commands["dr_reload"].handler
    command().deliver(lambda result, error: answers.append(result))
    assert script.mi("dr_reload")["error"]["message"].startswith("ongoing reload")
    script.wait(lambda: bool(answers))
    assert script.mi("dr_reload") == {"result": "OK"}


def test_a_reload_whose_process_has_died_hinders_no_other(case: Case) -> None:
    script = case.start("exit;", 'modparam("drouting", "no_concurrent_reload", 1)\n')
    this.store.put(b"mdrouting_reloading", b"1:%d" % (this.incarnation + 1))
    assert script.mi("dr_reload") == {"result": "OK"}


# --- partitions -----------------------------------------------------------------------------------------------------

PARTITIONS = (
    HEAD + 'modparam("drouting", "use_partitions", 1)\nmodparam("drouting", "db_partitions_url", "URL")\n'
    'modparam("drouting", "partition_id_pvar", "$avp(part)")\n'
)


@pytest.fixture
def parted(case: Case) -> Case:
    """Two partitions; in the second one number 44 goes to g4."""
    case.execute(
        "create table rules2 as select * from dr_rules; update rules2 set gwlist = 'g4', prefix = '55' where prefix = '44';"
        "insert into version values('rules2', 4); delete from rules2 where prefix in ('', '4420');"
        "delete from dr_rules where prefix = '';"
        f"insert into dr_partitions(partition_name, db_url, drr_table, gw_id_avp) values('one', '{case.url}', null, '$avp(gw)'),"
        f" ('two', '{case.url}', 'rules2', null)"
    )
    return case


def start(case: Case, statements: str) -> Script:
    case.end()
    case._running = Script((PARTITIONS + f'route {{ {statements} sl_send_reply(200, "OK"); }}\n').replace("URL", case.url))
    return case._running


def test_partitions_have_their_own_tables_and_avps(parted: Case) -> None:
    script = start(
        parted,
        '$avp(a) = do_routing(1, , , , , , "one"); $avp(b) = do_routing(1, , , , , , "two"); $avp(c) = do_routing(1);'
        '$avp(d) = do_routing(1, , , , , , "nosuch"); $avp(e) = use_next_gw( , , , "one"); $avp(f) = use_next_gw( , , , "*");',
    )
    run = script.request("OPTIONS", "sip:441@x")
    assert [run[f"$avp({name})"] for name in "abcdef"] == [1, -1, -1, -1, 1, -1]
    assert run["$avp(gw)"] == "g2"
    run = script.request("OPTIONS", "sip:551@x")
    assert [run[f"$avp({name})"] for name in "ab"] == [-1, 1]
    assert run["$avp(___dr_gw_id__two)"] == "g4"


def test_a_star_means_the_first_partition_that_has_a_rule(parted: Case) -> None:
    script = start(parted, '$avp(a) = do_routing(1, , , , , , "*"); $avp(m) = dr_match(1, , "551", , "*");')
    run, run2 = script.request("OPTIONS", "sip:551@x"), script.request("OPTIONS", "sip:441@x")
    assert [(one["$avp(a)"], one["$avp(m)"]) for one in (run, run2)] == [(1, 1), (1, 1)]
    assert (run["$(avp(part)[*])"], run2["$(avp(part)[*])"]) == ("two, two", "two, one")


def test_the_groups_of_a_caller_are_asked_for_in_each_partition(parted: Case) -> None:
    parted.execute(
        "create table groups2 as select * from dr_groups; insert into version values('groups2', 2);"
        "update groups2 set groupid = 1; update dr_partitions set drg_table = 'groups2' where partition_name = 'two'"
    )
    script = start(parted, '$avp(a) = do_routing(, , , , , , "*");')
    run = script.request("OPTIONS", "sip:551@x", caller="sip:alice@example.com")
    assert (run["$avp(a)"], run["$avp(part)"]) == (1, "two")


def test_management_of_partitions(parted: Case) -> None:
    script = start(parted, "exit;")
    assert [one["Partition"] for one in script.mi("dr_reload_status")["result"]["Partitions"]] == ["one", "two"]
    assert script.mi("dr_gw_status")["error"]["code"] == 400
    assert script.mi("dr_gw_status", {"partition_name": "x"})["error"]["code"] == 404
    script.mi("dr_gw_status", {"partition_name": "two", "gw_id": "g4", "status": 0})
    shown = [script.mi("dr_gw_status", {"partition_name": name, "gw_id": "g4"})["result"]["State"] for name in ("one", "two")]
    assert shown == ["Active", "Disabled MI"]
    parted.execute("update rules2 set prefix = '66' where prefix = '55'; update dr_rules set prefix = '77' where prefix = '44'")
    assert script.mi("dr_reload", {"partition_name": "two"}) == {"result": "OK"}
    numbers = [("one", "441"), ("one", "771"), ("two", "661"), ("two", "551")]
    found = [
        script.mi("dr_number_routing", {"partition_name": name, "group_id": 1, "number": number})["result"] != "No match"
        for name, number in numbers
    ]
    assert found == [True, False, True, False]


def test_a_partition_with_nonsense_is_refused(parted: Case) -> None:
    for change, message in (
        ("drr_table = 'a b'", "partition two"),
        ("db_url = 'nosuch://x'", "partition two"),
        ("gw_id_avp = 'x'", "is not an AVP"),
        ("partition_name = '*'", "is not a name"),
        ("partition_name = 'one'", "there are two"),
    ):
        before = parted.rows("select * from dr_partitions")
        parted.execute(f"update dr_partitions set {change} where partition_name = 'two'")
        with pytest.raises(ConfigError, match=message):
            start(parted, "exit;")
        parted.execute("delete from dr_partitions")
        for row in before:
            parted.execute(f"insert into dr_partitions values({', '.join('null' if c is None else repr(c) for c in row)})")
