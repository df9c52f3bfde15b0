"""drouting: from rows to tables, and which rule a number has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from opensips_py.modules.drouting import rows
from opensips_py.modules.drouting.rows import Located, packing
from opensips_py.modules.drouting.tables import Address, Gateway, Rule, Tables
from opensips_py.net.destinations import hop_of_uri

GATEWAY = ["g1", "192.0.2.1:5062", 0, "", 1, None, 0, None, 0]
Row = list[Any]


def gateway(**given: Any) -> Row:
    names = ("id", "address", "strip", "prefix", "type", "attrs", "probe_mode", "socket", "state")
    return [given.get(name, usual) for name, usual in zip(names, GATEWAY, strict=True)]


def rule(number: int, prefix: str = "1", groups: Any = "1", priority: Any = 0, listed: str = "g1", **given: Any) -> Row:
    return [number, groups, prefix, given.get("time"), priority, None, listed, given.get("sort", "N"), given.get("attrs")]


def made(
    gateways: Sequence[Row] = (),
    carriers: Sequence[Row] = (),
    rules: Sequence[Row] = (),
    located: Located | None = None,
    extra: str = "",
) -> Tables:
    names = ("dr_gateways", "dr_carriers", "dr_rules")
    steps = packing((list(gateways), list(carriers), list(rules)), names, located, extra, 1000.0)
    [data] = filter(None, steps)
    return Tables(data)


def rules_for(tables: Tables, number: str, group: int = 1, **how: Any) -> list[int]:
    return [matched.rule.id for matched in tables.matching(group, number, **how)]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(rows, "log", lambda level, module, function, text: lines.append(text))
    return lines


# --- rules ----------------------------------------------------------------------------------------------------------


def test_the_longest_prefix_comes_first_then_the_highest_priority_then_the_order_of_the_table() -> None:
    tables = made(
        [gateway()],
        rules=[
            *(rule(1, "44"), rule(2, ""), rule(3, "4420", priority=1), rule(4, "4420", priority=7), rule(5, "4420", priority=1)),
            *(rule(6, "4420", priority=-3), rule(7, "33"), rule(8, "44201", groups="2")),
        ],
    )
    assert rules_for(tables, "442012") == [4, 3, 5, 6, 1, 2]
    assert rules_for(tables, "44") == [1, 2]
    assert rules_for(tables, "4") == [2]
    assert rules_for(tables, "") == [2]
    assert rules_for(tables, "442012", 2) == [8]
    assert rules_for(tables, "442012", 3) == []
    assert rules_for(tables, "442012", longest=2) == [1, 2]


def test_what_is_no_digit_ends_the_prefix() -> None:
    tables = made([gateway()], rules=[rule(1, "44"), rule(2, "")])
    assert rules_for(tables, "+44123") == [2]
    assert rules_for(tables, "44abc") == [1, 2]
    assert rules_for(tables, "abc") == [2]
    tables = made([gateway()], rules=[rule(1, "+44"), rule(2, "*#"), rule(3, "")], extra="+*#")
    assert rules_for(tables, "+44123") == [1, 3]
    assert rules_for(tables, "*#9") == [2, 3]


def test_exactly_a_number() -> None:
    tables = made([gateway()], rules=[rule(1, "44"), rule(2, "441"), rule(3, "")])
    assert rules_for(tables, "441", exact=True) == [2]
    assert rules_for(tables, "4412", exact=True) == []
    assert rules_for(tables, "", exact=True) == [3]
    assert rules_for(tables, "4" * 500, exact=True) == []


def test_a_rule_may_be_in_several_groups() -> None:
    tables = made([gateway()], rules=[rule(1, groups="1, 3;4"), rule(2, groups="3"), rule(3, groups=3)])
    assert [rules_for(tables, "12", group) for group in (1, 2, 3, 4)] == [[1], [], [1, 2, 3], [1]]


def test_a_rule_that_many_share_is_found_without_looking_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 rules with the same prefix in as many groups one is read."""
    tables = made([gateway()], rules=[rule(n, "", groups=str(n)) for n in range(2000)])
    read: list[int] = []
    decode = tables._decode

    def noted(number: int) -> Rule:
        read.append(number)
        return decode(number)

    monkeypatch.setattr(tables, "_decode", noted)
    assert rules_for(tables, "123", 1234) == [1234]
    assert read == [1234]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (rule(1, "3a"), "[3a] is not a prefix"),
        (rule(1, "1" * 65), "is not a prefix"),
        (rule(1, groups="x"), "[x] is not a valid group"),
        (rule(1, groups=""), "it has no group"),
        (rule(1, groups=None), "it has no group"),
        (rule(1, groups="1,-2"), "[-2] is not a valid group"),
        (rule(1, groups="9" * 30), "is not a valid group"),
        (rule(1, priority="high"), "[high] is not a valid priority"),
        (rule(1, time="garbage"), "timerec [garbage]"),
        (rule(1, time="20260101T000000||sometimes"), "timerec"),
        (rule(1, time="20260101T000000||daily||||MO,XX"), "timerec"),
        (rule(1, sort="Z"), "[Z] is not a way to sort"),
        (rule(1, listed="g1=ten"), "is not ID, #CARRIER, ID=WEIGHT"),
        (rule(1, listed="g1 g2"), "is not ID"),
        (rule(1, listed="g1=-5"), "is not ID"),
    ],
)
def test_a_rule_with_nonsense_is_logged_and_left_out(row: Row, reason: str, logged: list[str]) -> None:
    tables = made([gateway()], rules=[row, rule(2)])
    assert rules_for(tables, "12") == [2]
    assert reason in logged[0]
    assert "rule 1 is left out" in logged[0]


def test_gateways_that_are_not_there_are_left_out_of_lists(logged: list[str]) -> None:
    tables = made([gateway()], [["c1", "g1,gone", 0, "N", None, 0]], [rule(1, listed="nosuch, g1=3 ,#c1;#c2")])
    [matched] = tables.matching(1, "1")
    assert [(one.id, one.is_carrier, one.weight) for one in matched.rule.listed] == [("g1", False, 3), ("c1", True, 0)]
    assert [one.id for one in tables.carriers["c1"].gateways] == ["g1"]
    assert len(logged) == 3


def test_many_rows_with_nonsense_do_not_fill_the_log(logged: list[str]) -> None:
    made([gateway()], rules=[rule(n, "x") for n in range(500)])
    assert len(logged) == 21
    assert "480 more like these" in logged[-1]


def test_sorting_by_quality_leaves_the_order(logged: list[str]) -> None:
    tables = made([gateway()], rules=[rule(1, sort="Q")])
    assert next(tables.matching(1, "1")).rule.sort == "N"
    assert "qrouting" in logged[0]


def test_rules_are_looked_at_some_at_a_time() -> None:
    names = ("a", "b", "c")
    steps = list(packing(([gateway()], [], [rule(n) for n in range(2 * rows._STEP)]), names, None, "", 0.0))
    assert steps[:2] == [None, None]
    assert len(steps) == 3


# --- gateways -------------------------------------------------------------------------------------------------------


def only(row: Row, located: Located | None = None) -> Gateway:
    [found] = made([row], located=located).gateways.values()
    return found


@pytest.mark.parametrize(
    ("address", "shown", "uri", "where"),
    [
        ("192.0.2.1", "192.0.2.1", "sip:192.0.2.1", ("192.0.2.1", 5060, "udp")),
        ("192.0.2.1:5062", "192.0.2.1:5062", "sip:192.0.2.1:5062", ("192.0.2.1", 5062, "udp")),
        ("sip:192.0.2.1:5062", "192.0.2.1:5062", "sip:192.0.2.1:5062", ("192.0.2.1", 5062, "udp")),
        ("SIP:x@192.0.2.1;transport=tcp", "x@192.0.2.1;transport=tcp", "SIP:192.0.2.1;transport=tcp", ("192.0.2.1", 5060, "tcp")),
        ("sips:192.0.2.1", "192.0.2.1", "sips:192.0.2.1", ("192.0.2.1", 5061, "tls")),
        ("[2001:DB8:0::1]:5070", "[2001:DB8:0::1]:5070", "sip:[2001:DB8:0::1]:5070", ("2001:db8::1", 5070, "udp")),
    ],
)
def test_where_a_gateway_is(address: str, shown: str, uri: str, where: tuple[str, int, str]) -> None:
    found = only(gateway(address=address))
    assert (found.address, found.uri, found.addresses) == (shown, uri, (Address(*where),))


def test_a_gateway_with_a_name_has_the_addresses_of_the_name(logged: list[str]) -> None:
    row = gateway(address="gw.example.com")
    hop = hop_of_uri("sip:gw.example.com")
    assert hop is not None
    assert rows.hops_of([row, gateway()]) == [hop]
    addresses = (Address("192.0.2.8", 5060, "udp"), Address("192.0.2.9", 5080, "udp"))
    assert only(row, {hop: addresses}).addresses == addresses
    assert only(row, None).addresses == (), "with force_dns 0 it is used as it is"
    assert made([row], located={}).gateways == {}
    assert "has no address in the DNS" in logged[-1]


@pytest.mark.parametrize(
    "row",
    [
        *(gateway(id="g 5"), gateway(id=""), gateway(id=None), gateway(id="a,b"), gateway(id="#g"), gateway(id="g=1")),
        *(gateway(address="not a host"), gateway(address=""), gateway(address=None), gateway(address="192.0.2.1:99999")),
        *(gateway(address="sip:"), gateway(strip=-1), gateway(strip="two"), gateway(probe_mode=3), gateway(type="x")),
        *(gateway(state=3), gateway(strip="²")),
    ],
)
def test_a_gateway_with_nonsense_is_logged_and_left_out(row: Row, logged: list[str]) -> None:
    assert list(made([row, gateway(id="good")]).gateways) == ["good"]
    assert "a gateway is left out" in logged[0]


@pytest.mark.parametrize("id", ["g1", "gw_1", "gw-1.example", "1", "gw@x", "gw:1"])
def test_ids_may_have_other_characters(id: str) -> None:
    tables = made([gateway(id=id)], rules=[rule(1, listed=f"{id}=5")])
    assert next(tables.matching(1, "1")).rule.listed[0].id == id


def test_empty_cells_have_their_defaults() -> None:
    found = only(["g1", "192.0.2.1", None, None, None, None, None, None, None])
    assert (found.strip, found.prefix, found.type, found.attrs, found.probe_mode, found.state) == (0, "", 0, "", 0, 0)


@pytest.mark.parametrize(
    ("ip", "port", "proto", "type", "found"),
    [
        ("192.0.2.1", 5062, None, None, "g1"),
        ("192.0.2.1", 5060, None, None, "other"),
        ("192.0.2.1", 5099, None, None, None),
        ("192.0.2.1", None, None, None, "g1"),
        ("192.0.2.1", None, None, 2, "other"),
        ("192.0.2.1", None, "udp", None, "g1"),
        ("192.0.2.1", None, "tcp", None, "other"),
        ("192.0.2.9", None, None, None, None),
        ("2001:db8:0:0::1", 5060, None, None, "six"),
        ("[2001:db8::1]", 5060, None, None, "six"),
        ("nonsense", None, None, None, None),
    ],
)
def test_which_gateway_is_at_an_address(
    ip: str, port: int | None, proto: str | None, type: int | None, found: str | None
) -> None:  # fmt: skip
    tables = made(
        [
            gateway(),
            gateway(id="other", address="192.0.2.1;transport=tcp", type=2),
            gateway(id="six", address="[2001:db8::1]"),
        ]
    )
    gateway_found = tables.at(ip, port, proto, type)
    assert (None if gateway_found is None else gateway_found.id) == found


# --- carriers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        *(["c 1", "g1", 0, "N", None, 0], ["c1", "#c2", 0, "N", None, 0], ["c1", "g1", "x", "N", None, 0]),
        *(["c1", "g1", 0, "N", None, 2], ["c1", "g1", 0, "up", None, 0]),
    ],
)
def test_a_carrier_with_nonsense_is_logged_and_left_out(row: Row, logged: list[str]) -> None:
    assert made([gateway()], [row]).carriers == {}
    assert "a carrier is left out" in logged[0]


def test_without_states_a_flag_disables_a_carrier() -> None:
    carriers = made([gateway()], [["c1", "g1", 2, "N", None], ["c2", "g1", 0, "N", None]]).carriers
    assert [one.state for one in carriers.values()] == [1, 0]
    assert made([gateway()], [["c1", "g1", 2, "N", None, 0]]).carriers["c1"].state == 0
