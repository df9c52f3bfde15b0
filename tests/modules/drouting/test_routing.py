"""drouting in scripts: do_routing(), use_next_gw() and their kin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.modules.drouting import routing
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError
from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.server.process import this
from tests.modules.drouting.conftest import Case, Routed
from tests.tm.world import reply_to

OUTPUTS = "$avp(ra), $avp(ga), $avp(ca)"


def given(routed: Routed) -> tuple[object, object, object]:
    return routed["ra"], routed["ga"], routed["ca"]


def test_the_rule_its_gateway_and_their_attributes(case: Case) -> None:
    routed = case.route(f"$avp(rc) = do_routing(1, , , {OUTPUTS});", "sip:442071@example.com;x=1")
    assert (routed.rc, routed.ruri, routed.ids) == (1, "sip:992071@192.0.2.2;x=1", "g2, g1")
    assert given(routed) == ("london", "ga2", "")
    assert (routed["rule_id_avp"], routed["rule_prefix_avp"], routed["gw_priprefix_avp"]) == (2, "4420", "99")
    assert routed["carrier_id_avp"] == ""


def test_the_highest_priority_and_a_carrier_of_which_only_the_first_gateway_is_used(case: Case) -> None:
    routed = case.route(f"$avp(rc) = do_routing(2, , , {OUTPUTS});", "sip:123@example.com")
    assert (routed.rc, routed.ids, routed["carrier_id_avp"], given(routed)) == (1, "g2, g4", "first", ("high", "ga2", "caf"))


@pytest.mark.parametrize(
    ("uri", "code"), [("sip:example.com", -1), ("sip:@example.com", -1), ("sip:999@example.com", 1), ("tel:+44123", 1)]
)
def test_requests_without_a_number_have_no_rule(case: Case, uri: str, code: int) -> None:
    assert case.route("$avp(rc) = do_routing(1);", uri).rc == code


def test_without_a_rule_the_request_stays_and_nothing_is_left_of_an_earlier_routing(case: Case) -> None:
    routed = case.route(f"do_routing(1, , , {OUTPUTS}); $ru = 'sip:7@x'; $avp(rc) = do_routing(2);".replace("'", '"'))
    assert (routed.rc, routed.ruri, routed.ids, routed["rule_id_avp"]) == (-1, "sip:7@x", None, None)


def test_the_next_gateways_and_then_no_more(case: Case) -> None:
    routed = case.route(
        "do_routing(1); $avp(a) = $ru; $avp(rc) = use_next_gw($avp(ra), $avp(ga)); $avp(b) = $ru; $avp(c) = use_next_gw();"
        "$avp(d) = use_next_gw();"
    )
    assert (routed["a"], routed["b"]) == ("sip:44123@192.0.2.1:5061", "sip:99123@192.0.2.2")
    assert (routed.rc, routed["c"], routed["d"], routed.gateway) == (1, -1, -1, None)
    assert (routed["ra"], routed["ga"], routed["rule_id_avp"]) == ("uk", "ga2", 1)
    assert case.route("$avp(rc) = use_next_gw();").rc == -1


def test_another_process_goes_on_with_the_next_gateway(case: Case) -> None:
    """All that is left to be tried travels with the transaction."""
    routed = case.route("$avp(rc) = do_routing(1);")
    assert routed.run.context is not None
    other = Context.thaw(routed.run.context.freeze(), this.sockets_by_name)
    other.start_over()
    assert routing.use_next_gw(other) == 1
    assert other.ruri == "sip:99123@192.0.2.2"


def test_the_next_gateway_in_a_failure_route(case: Case) -> None:
    script = case.start(
        'do_routing(1); t_on_failure("next"); t_relay(); exit;',
        routes="failure_route[next] { if (use_next_gw()) t_relay(); }",
    )
    [first] = [m for m in script.request("INVITE", "sip:44123@example.com").sent if m.is_request]
    assert first.ruri == "sip:44123@192.0.2.1:5061"
    then = script.receive(reply_to(first, 503), ("192.0.2.1", 5061)).sent
    assert [m.ruri for m in then if m.is_request and m.method == "INVITE"] == ["sip:99123@192.0.2.2"]


def test_a_gateway_that_is_disabled_or_gone_meanwhile_is_passed_over(case: Case) -> None:
    case.execute("update dr_rules set gwlist = 'g1,g2,g3,g4' where ruleid = 1")
    script = case.start("if ($rU == '44123') $avp(rc) = do_routing(1);".replace("'", '"'))
    context = case.ask(script).run.context
    assert context is not None
    script.mi("dr_gw_status", {"gw_id": "g2", "status": 0})
    case.execute("delete from dr_gateways where gwid = 'g3'")
    assert script.mi("dr_reload") == {"result": "OK"}
    assert routing.use_next_gw(context) == 1
    assert context.ruri == "sip:44123@192.0.2.4"


# --- flags ----------------------------------------------------------------------------------------------------------


def test_with_c_nothing_is_changed(case: Case) -> None:
    routed = case.route(f'$avp(rc) = do_routing(1, "C", , {OUTPUTS});')
    assert (routed.rc, routed.ruri, routed.gateway, given(routed)) == (1, "sip:44123@example.com", None, ("uk", None, None))
    assert routed["rule_prefix_avp"] == "44"


def test_with_l_the_prefix_is_the_whole_number(case: Case) -> None:
    assert case.route('$avp(rc) = do_routing(1, "L");').rc == -1
    assert case.route('$avp(rc) = do_routing(1, "L");', "sip:4420@x").rc == 1


def test_with_f_rules_with_shorter_prefixes_follow(case: Case) -> None:
    statements = (
        'do_routing(1, "F"); $avp(log) = $ru;' + "use_next_gw($avp(ra)); $avp(log) = $ru;" * 4 + "$avp(rc) = use_next_gw();"
    )
    routed = case.route(statements, "sip:4420@example.com;x=1")
    assert str(routed.run["$(avp(log)[*])"]).split(", ")[::-1] == [
        "sip:9920@192.0.2.2;x=1",
        "sip:4420@192.0.2.1:5061;x=1",
        "sip:4420@192.0.2.1:5061;x=1",
        "sip:9920@192.0.2.2;x=1",
        "sip:4420@192.0.2.4;x=1",
    ]
    assert (routed.rc, routed["ra"], routed["rule_id_avp"]) == (-1, "default", 3)


def test_with_f_rules_with_lower_priority_follow_and_the_whitelist_stays(case: Case) -> None:
    routed = case.route('do_routing(2, "F", "#first,g1"); $avp(a) = $avp(gw_id_avp); $avp(rc) = use_next_gw();', "sip:12@x")
    assert (routed["a"], routed.rc, routed.gateway, routed["carrier_id_avp"]) == ("g2", 1, "g1", "c1")


def test_with_f_a_rule_whose_gateways_are_all_down_is_passed_over(case: Case) -> None:
    script = case.start('$avp(rc) = do_routing(1, "F"); $avp(plain) = do_routing(1);')
    for name in ("g1", "g2"):
        script.mi("dr_gw_status", {"gw_id": name, "status": 0})
    routed = case.ask(script)
    assert (routed.rc, routed.ruri, routed["plain"]) == (1, "sip:44123@192.0.2.4", -1)


def test_with_f_tables_that_are_read_again_meanwhile_do_not_lead_back(case: Case) -> None:
    script = case.start('$avp(rc) = do_routing(1, "F");')
    context = case.ask(script, "sip:4420@x").run.context
    assert context is not None
    case.execute("insert into dr_rules(groupid, prefix, priority, gwlist) values('1', '44201', 9, 'g4'), ('1', '4420', 9, 'g4')")
    script.mi("dr_reload")
    assert [routing.use_next_gw(context) for _ in range(2)] == [1, 1]
    assert context.ruri == "sip:4420@192.0.2.4", "a new rule with that prefix"
    assert routing.use_next_gw(context) == 1
    assert context.ruri == "sip:4420@192.0.2.1:5061", "then the shorter prefix; not rule 2 again"


@pytest.mark.parametrize(
    ("whitelist", "ids"),
    [("g1", "g1"), ("g2,g4", "g2"), ("#c1", "g1, g2"), ("#c1,g2", "g1, g2"), ("#first", None), ("nosuch", None), (" ", "g1, g2")],
)
def test_the_whitelist(case: Case, whitelist: str, ids: str | None) -> None:
    case.execute("update dr_rules set gwlist = '#c1' where ruleid = 1")
    assert case.route(f'$avp(rc) = do_routing(1, , "{whitelist}");').ids == ids


# --- time, routes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("timerec", "gateway"), [("20260101T000000Z|PT1H", "g1"), ("20260101T000000Z||daily", "g1")])
def test_a_rule_holds_at_its_time(case: Case, wall: Callable[[float], None], timerec: str, gateway: str) -> None:
    """A rule that does not hold leaves the number to shorter prefixes."""
    case.execute(f"update dr_rules set timerec = '{timerec}' where ruleid = 1")
    script = case.start("$avp(rc) = do_routing(1);")
    wall(1767225600 + 60)  # 2026-01-01 00:01:00 UTC
    assert case.ask(script).gateway == gateway
    wall(1767225600 - 60)
    assert case.ask(script).gateway == "g4"


def test_the_route_that_a_rule_names_runs_before(case: Case) -> None:
    case.execute("update dr_rules set routeid = 'hook' where ruleid = 1")
    routed = case.route("$avp(rc) = do_routing(1);", routes='route[hook] { $avp(seen) = $ru; $rU = "44999"; exit; }')
    assert (routed["seen"], routed.rc, routed.ruri) == ("sip:44123@example.com", 1, "sip:44999@192.0.2.1:5061")


def test_a_route_that_is_not_defined_is_logged(case: Case) -> None:
    case.execute("update dr_rules set routeid = 'nosuch' where ruleid = 1")
    routed = case.route("$avp(rc) = do_routing(1);")
    assert routed.rc == 1
    assert any("route [nosuch], which is not defined" in line for line in routed.run.log)


# --- groups ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "caller", "code", "gateway"),
    [
        ("", "sip:alice@example.com", 1, "g2"),
        ("", "sip:alice@example.net", -1, None),
        ('modparam("drouting", "use_domain", 0)\n', "sip:alice@example.net", 1, "g2"),
        ('modparam("drouting", "use_domain", 0)\n', "sip:bob@example.net", 1, "g4"),
        ('modparam("drouting", "default_group", 1)\n', "sip:carol@example.com", 1, "g4"),
        ("", "sip:carol@example.com", -1, None),
        ('modparam("drouting", "default_group", 1)\n', "sip:example.com", -1, None),
    ],
)
@pytest.mark.parametrize("form", ["$avp(rc) = do_routing();", "await(do_routing()); $avp(rc) = $rc;"])
def test_the_group_of_the_caller_is_asked_for(
    case: Case, settings: str, caller: str, code: int, gateway: str | None, form: str
) -> None:
    routed = case.route(form, "sip:123@example.com", settings=settings, caller=caller)
    assert (routed.rc, routed.gateway) == (code, gateway)


def test_the_group_is_asked_for_in_async_too(case: Case) -> None:
    script = case.start(
        f'async(do_routing(, "F", , {OUTPUTS}), done);',
        routes='route[done] { t_reply(200, "$rc $ru $avp(ga) $avp(ra)"); }',
    )
    replies = script.request("INVITE", "sip:123@example.com").replies
    assert replies == ["200 1 sip:993@192.0.2.2 ga2 high"]


def test_a_change_of_the_table_of_groups_holds_at_once(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing();")
    assert case.ask(script, "sip:123@x").gateway == "g2"
    case.execute("update dr_groups set groupid = 1")
    assert case.ask(script, "sip:123@x").gateway == "g4"


def test_a_database_that_refuses_means_that_there_is_no_group(case: Case) -> None:
    script = case.start("$avp(rc) = do_routing();", settings='modparam("drouting", "default_group", 1)\n')
    case.execute("drop table dr_groups")
    assert case.ask(script).rc == -1


# --- to gateways and carriers directly ------------------------------------------------------------------------------


def test_to_a_carrier(case: Case) -> None:
    routed = case.route('$avp(rc) = route_to_carrier("c1", $avp(ga), $avp(ca));')
    assert (routed.rc, routed.ids, routed["ga"], routed["ca"]) == (1, "g1, g2", "ga1", "ca1")
    routed = case.route('do_routing(1); $avp(rc) = route_to_carrier("nosuch");')
    assert (routed.rc, routed.gateway, routed["rule_id_avp"]) == (-1, None, None)


def test_to_gateways_whether_they_work_or_not(case: Case) -> None:
    script = case.start('$avp(rc) = route_to_gw("g2, nosuch,g1", $avp(ga));')
    script.mi("dr_gw_status", {"gw_id": "g2", "status": 0})
    routed = case.ask(script)
    assert (routed.rc, routed.ruri, routed.ids, routed["ga"]) == (1, "sip:99123@192.0.2.2", "g2, g1", "ga2")
    assert case.route('$avp(rc) = route_to_gw("nosuch");').rc == -1


@pytest.mark.parametrize(
    ("arguments", "code", "attrs"),
    [('1, , "44201"', 1, "london"), ('1, "L", "44201"', -1, None), ('1, "L", "4420"', 1, "london"), ('9, , "1"', -1, None)],
)
def test_whether_a_number_has_a_rule(case: Case, arguments: str, code: int, attrs: str | None) -> None:
    routed = case.route(f"$avp(rc) = dr_match({arguments}, $avp(ra));")
    assert (routed.rc, routed["ra"], routed.ruri) == (code, attrs, "sip:44123@example.com")


def test_the_socket_of_a_gateway(case: Case) -> None:
    case.execute("update dr_gateways set socket = 'udp:127.0.0.2:5062' where gwid = 'g2'")
    sockets = "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.2:5062\n"
    context = case.route("$avp(rc) = do_routing(1);", settings=sockets).run.context
    assert context is not None
    ports = [None if context.send_socket is None else context.send_socket.port]
    assert routing.use_next_gw(context) == 1
    ports.append(None if context.send_socket is None else context.send_socket.port)
    assert ports == [None, 5062]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('modparam("drouting", "gw_id_avp", "$var(x)")', "is not an AVP"),
        ('modparam("drouting", "drd_table", "a b")', "drd_table"),
        ('modparam("drouting", "probing_interval", -1)', "probing_interval is not negative"),
        ('modparam("drouting", "probing_reply_codes", "4xx")', "is not a status code"),
        ('modparam("drouting", "probing_method", "OP TIONS")', "is not a method"),
        ('modparam("drouting", "probing_method", "ACK")', "is not a method of probes"),
        ('modparam("drouting", "probing_from", "x")', "is not a SIP URI"),
        ('modparam("drouting", "use_partitions", 1)', "needs db_partitions_url"),
        ('modparam("drouting", "partition_id_pvar", "$var(p)")', "needs use_partitions"),
        ('modparam("drouting", "define_blacklist", "bl=1,2")', "not supported yet: parameter define_blacklist"),
        ('modparam("drouting", "cluster_id", 1)', "not supported yet: parameter cluster_id"),
        ('route[x] { do_routing(1, , , , , , "p"); }', "there are no partitions"),
    ],
)
def test_mistakes_are_found_when_the_script_is_checked(case: Case, line: str, message: str) -> None:
    with pytest.raises(ScriptErrors, match=message):
        case.start("$avp(rc) = do_routing(1); route(x);", settings=f"{line}\n")


def test_a_probing_socket_that_the_server_does_not_have(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"no socket udp:192\.0\.2\.99:5060"):
        case.start("exit;", settings='modparam("drouting", "probing_socket", "udp:192.0.2.99:5060")\n')


def test_a_table_of_another_version(case: Case) -> None:
    case.execute("update version set table_version = 3 where table_name = 'dr_rules'")
    with pytest.raises(ConfigError, match="invalid version 3 for table dr_rules found, expected 4"):
        case.start("exit;")
