"""drouting: is_from_gw(), goes_to_gw(), dr_is_gw(), dr_disable()."""

from __future__ import annotations

import pytest

from opensips_py.server.process import this
from tests.modules.drouting.conftest import Case

G1, G2, G3 = ("192.0.2.1", 5061), ("192.0.2.2", 5060), ("192.0.2.3", 5060)


@pytest.mark.parametrize(
    ("source", "arguments", "code"),
    [
        (G1, "", 1),
        (G2, "", 1),
        (("192.0.2.2", 5099), "", -1),
        (("192.0.2.2", 5099), ', "n"', 1),
        (("203.0.113.1", 5060), ', "n"', -1),
        (G1, "1", 1),
        (G1, "2", -1),
        (G1, "-1", 1),
        (G3, "2", 1),
        (G3, '2, "r"', -1),
        (G1, '1, "r"', 1),
    ],
)
def test_whether_a_request_comes_from_a_gateway(case: Case, source: tuple[str, int], arguments: str, code: int) -> None:
    assert case.route(f"$avp(rc) = is_from_gw({arguments});", source=source).rc == code


def test_what_is_done_with_the_gateway_that_is_found(case: Case) -> None:
    routed = case.route('$avp(rc) = is_from_gw(-1, "ic", $avp(ga));', source=G2)
    assert (routed.rc, routed.ruri, routed.gateway, routed["carrier_id_avp"]) == (1, "sip:44123@example.com", "g2", "c1")
    assert routed["ga"] == "ga2"
    assert case.route('is_from_gw(-1, "s");', source=G2).ruri == "sip:123@example.com"
    assert case.route('is_from_gw(-1, "p");', source=G2).ruri == "sip:9944123@example.com"
    assert case.route('is_from_gw(-1, "sp");', source=G2).ruri == "sip:99123@example.com"
    assert case.route('is_from_gw(-1, "s");', "sip:4:pw@example.com;x", source=G2).ruri == "sip:example.com;x"
    assert case.route('is_from_gw(-1, "sp");', "sip:example.com", source=G2).ruri == "sip:99@example.com"
    assert case.route('is_from_gw(-1, "c");', source=G3)["carrier_id_avp"] is None


@pytest.mark.parametrize(
    ("ruri", "code"),
    [
        ("sip:1@192.0.2.1:5061", 1),
        ("sip:1@192.0.2.1", 1),
        ("sip:1@192.0.2.1:5099", -1),
        ("sip:1@203.0.113.1", -1),
        ("sip:1@example.com", -1),
        ("tel:1", -1),
    ],
)
def test_whether_a_request_goes_to_a_gateway(case: Case, ruri: str, code: int) -> None:
    assert case.route("$avp(rc) = goes_to_gw();", ruri).rc == code


def test_the_destination_uri_counts_before_the_r_uri(case: Case) -> None:
    assert case.route('$du = "sip:192.0.2.2"; $avp(rc) = goes_to_gw(1, "i");', "sip:1@x.invalid").gateway == "g2"
    assert case.route('$du = "sip:203.0.113.1"; $avp(rc) = goes_to_gw();', "sip:1@192.0.2.2").rc == -1


@pytest.mark.parametrize(
    ("uri", "arguments", "code"),
    [
        ("sip:x@192.0.2.1:5061", "", 1),
        ("sip:192.0.2.1:5099", "", -1),
        ("sip:192.0.2.1:5099", ', , "n"', 1),
        ("sip:localhost:5060", "", 1),
        ("sip:localhost:5060", ", 1", -1),
        ("not a uri", "", -1),
        ("tel:1", "", -1),
    ],
)
def test_whether_a_uri_names_a_gateway(case: Case, uri: str, arguments: str, code: int) -> None:
    case.execute("insert into dr_gateways(gwid, type, address) values('local', 7, '127.0.0.1')")
    assert case.route(f'$avp(rc) = dr_is_gw("{uri}"{arguments});').rc == code


def test_a_gateway_with_a_name_is_known_by_its_address(case: Case) -> None:
    case.execute("insert into dr_gateways(gwid, type, address) values('local', 7, 'localhost')")
    statements = '$avp(rc) = is_from_gw(7, "i");'
    assert case.route(statements, source=("127.0.0.1", 5060)).gateway == "local"
    no_dns = 'modparam("drouting", "force_dns", 0)\n'
    assert case.route(statements, source=("127.0.0.1", 5060), settings=no_dns).rc == -1
    script = case.start('is_from_gw(7, "i"); $avp(rc) = route_to_gw("local");', no_dns)
    assert case.ask(script).ruri == "sip:44123@localhost"


def test_the_gateway_of_a_call_is_disabled(case: Case) -> None:
    script = case.start("$avp(none) = dr_disable(); do_routing(1); $avp(rc) = dr_disable();")
    routed = case.ask(script)
    assert (routed["none"], routed.rc, routed.gateway) == (-1, 1, "g1")
    assert script.mi("dr_gw_status", {"gw_id": "g1"})["result"]["State"] == "Inactive"
    assert case.ask(script).gateway == "g2"
    assert script.mi("dr_gw_status", {"gw_id": "g2"})["result"]["State"] == "Probing", "its probe_mode is 1"
    assert case.ask(script).gateway is None


def test_dr_disable_does_not_weaken_what_a_person_has_said(case: Case) -> None:
    script = case.start('$avp(r) = route_to_gw("g1"); $avp(rc) = dr_disable();')
    script.mi("dr_gw_status", {"gw_id": "g1", "status": 0})
    assert case.ask(script).rc == 1
    assert script.mi("dr_gw_status", {"gw_id": "g1"})["result"]["State"] == "Disabled MI"


def test_unknown_flags_are_warned_of(case: Case) -> None:
    script = case.start('is_from_gw(-1, "x"); do_routing(1, "W"); $avp(rc) = do_routing(1, "FZ");')
    assert case.ask(script).rc == 1
    warnings = "\n".join(map(str, this.program.warnings))
    assert "unknown flag 'x'" in warnings
    assert "flag W has no effect" in warnings
    assert "unknown flag 'Z'" in warnings
