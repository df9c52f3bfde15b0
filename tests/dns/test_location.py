"""RFC 3263 section 4 and RFC 2782 as functions of what is known."""

from __future__ import annotations

from collections import Counter

import pytest

from opensips_py.dns.records import FAILED, Answer, Naptr, Question, Record, Srv, Status
from opensips_py.dns.rfc3263 import MOST, MOST_WAYS, Abilities, Chance, Located, in_order, locate
from opensips_py.net.destinations import hop_of_proxy, hop_of_uri
from opensips_py.sip.uri import uri_or_none

ALL = Abilities(("udp", "tcp", "tls"), ipv4=True, ipv6=False)
UDP = Abilities(("udp",), ipv4=True, ipv6=False)

Zone = dict[tuple[str, str], list[Record]]

ZONE: Zone = {
    ("full.test", "NAPTR"): [
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.full.test"),
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.full.test"),
        Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.full.test"),
        Naptr(10, 50, "u", "E2U+sip", ""),
    ],
    ("_sips._tcp.full.test", "SRV"): [Srv(0, 1, 5061, "tls.full.test")],
    ("_sip._tcp.full.test", "SRV"): [Srv(0, 1, 5070, "tcp.full.test")],
    ("_sip._udp.full.test", "SRV"): [Srv(2, 0, 5080, "b.full.test"), Srv(1, 0, 5060, "a.full.test")],
    ("tls.full.test", "A"): ["192.0.2.1"],
    ("tcp.full.test", "A"): ["192.0.2.2"],
    ("a.full.test", "A"): ["192.0.2.3", "192.0.2.4"],
    ("b.full.test", "A"): ["192.0.2.5"],
    ("full.test", "A"): ["192.0.2.9"],
    ("_sip._tcp.srv.test", "SRV"): [Srv(0, 1, 5075, "192.0.2.2")],
    ("srv.test", "A"): ["192.0.2.9"],
    ("plain.test", "A"): ["192.0.2.7"],
    ("_sip._udp.gone.test", "SRV"): [Srv(0, 0, 0, "")],
    ("gone.test", "A"): ["192.0.2.9"],
    ("_sip._udp.drawn.test", "SRV"): [Srv(0, 1, 5060, "192.0.2.1"), Srv(0, 1, 5060, "192.0.2.2")],
    ("six.test", "AAAA"): ["2001:db8::6"],
    ("both.test", "A"): ["192.0.2.8"],
    ("both.test", "AAAA"): ["2001:db8::8"],
}


def known(question: Question) -> Answer | None:
    records = ZONE.get((question.name, question.type))
    return Answer(Status.NO_DATA) if records is None else Answer(Status.FOUND, tuple(records), 60)


def targets(uri: str, able: Abilities = ALL) -> list[str]:
    """``proto:address:port`` in order."""
    hop = hop_of_uri(uri)
    assert hop is not None
    located = locate(hop, able, known, 1)
    assert not located.missing
    return [f"{target.proto}:{target.ip}:{target.port}" for target in located.targets]


@pytest.mark.parametrize(
    ("uri", "proto"),
    [
        ("sip:a@192.0.2.1;transport=tcp;Transport=udp", "udp"),  # the last one, as in OpenSIPS
        ("sip:a@192.0.2.1;transport=udp;transport=tcp", "tcp"),
        ("sip:a@192.0.2.1?Subject=x;transport=tcp", "udp"),
        ("sip:a@192.0.2.1;transport=tcp?x=;transport=udp", "tcp"),
        ('sip:a@192.0.2.1;x="a;transport=tcp"', "udp"),
        ("sip:a@192.0.2.1;transport=", "udp"),
        ("sip:a@192.0.2.1 ;transport=tcp", None),
        ("sip:a b@192.0.2.1", None),
    ],
)
def test_the_next_hop_is_reached_over_the_transport_that_scripts_see(uri: str, proto: str | None) -> None:
    hop = hop_of_uri(uri)
    assert (hop and hop.proto) == proto
    read = uri_or_none(uri)
    assert (read and (read.transport or "udp")) == proto


def test_naptr_names_the_transport_and_the_others_follow() -> None:
    assert targets("sip:full.test") == [
        "tls:192.0.2.1:5061",
        "tcp:192.0.2.2:5070",
        "udp:192.0.2.3:5060",
        "udp:192.0.2.4:5060",
        "udp:192.0.2.5:5080",
    ]


def test_services_that_the_server_cannot_use_are_passed_over() -> None:
    assert targets("sip:full.test", UDP) == ["udp:192.0.2.3:5060", "udp:192.0.2.4:5060", "udp:192.0.2.5:5080"]


def test_sips_uses_nothing_but_tls() -> None:
    assert targets("sips:full.test") == ["tls:192.0.2.1:5061"]
    assert targets("sips:plain.test") == ["tls:192.0.2.7:5061"]
    assert targets("sips:full.test", UDP) == []
    assert targets("sips:full.test;transport=udp") == []


def test_a_transport_in_the_uri_goes_before_naptr() -> None:
    assert targets("sip:full.test;transport=tcp") == ["tcp:192.0.2.2:5070"]
    assert targets("sip:full.test;transport=tcp", UDP) == []


def test_a_port_in_the_uri_leaves_only_the_address_to_be_found() -> None:
    assert targets("sip:full.test:5099") == ["udp:192.0.2.9:5099"]
    assert targets("sip:full.test:5099;transport=tcp") == ["tcp:192.0.2.9:5099"]


def test_without_naptr_srv_of_each_transport_is_tried() -> None:
    assert targets("sip:srv.test") == ["tcp:192.0.2.2:5075"]
    assert targets("sip:srv.test", UDP) == ["udp:192.0.2.9:5060"]
    assert targets("sip:full.test", ALL._replace(naptr=False))[0] == "udp:192.0.2.3:5060"


def test_without_srv_the_default_port_of_the_transport_is_used() -> None:
    assert targets("sip:plain.test") == ["udp:192.0.2.7:5060"]
    assert targets("sip:plain.test;transport=tls") == ["tls:192.0.2.7:5061"]


def test_a_service_that_is_declared_not_to_exist_is_not_looked_for_elsewhere() -> None:
    assert targets("sip:gone.test", UDP) == []


def test_maddr_and_the_case_of_a_name() -> None:
    assert targets("sip:other.test;maddr=PLAIN.test") == ["udp:192.0.2.7:5060"]
    assert targets("sip:Plain.TEST.") == ["udp:192.0.2.7:5060"]


def test_ipv6_is_used_when_there_is_no_ipv4_and_it_is_wanted() -> None:
    six = ALL._replace(ipv6=True)
    assert targets("sip:six.test:5060") == []
    assert targets("sip:six.test:5060", six) == ["udp:2001:db8::6:5060"]
    assert targets("sip:both.test:5060", six) == ["udp:192.0.2.8:5060"]
    assert targets("sip:both.test:5060", six._replace(ipv4=False)) == ["udp:2001:db8::8:5060"]


def test_an_outbound_proxy_is_located_as_a_uri() -> None:
    hop = hop_of_proxy("tcp:full.test")
    assert hop is not None
    assert [target.port for target in locate(hop, ALL, known, 1).targets] == [5070]


def test_what_is_not_known_is_asked_step_by_step_and_addresses_together() -> None:
    asked: list[list[Question]] = []
    answers: dict[Question, Answer] = {}
    hop = hop_of_uri("sip:full.test")
    assert hop is not None
    while (located := locate(hop, UDP, answers.get, 1)).missing:
        asked.append(located.missing)
        for question in located.missing:
            answer = known(question)
            assert answer is not None
            answers[question] = answer
    assert [[f"{q.name} {q.type}" for q in step] for step in asked] == [
        ["full.test NAPTR"],
        ["_sip._udp.full.test SRV"],
        ["a.full.test A", "b.full.test A"],
    ]


def test_the_first_choice_is_usable_before_all_is_known() -> None:
    hop = hop_of_uri("sip:full.test;transport=udp")
    assert hop is not None

    def partly(*hidden: str) -> Located:
        return locate(hop, UDP, lambda question: None if question.name in hidden else known(question), 1)

    assert partly("b.full.test").usable
    assert not partly("a.full.test").usable
    assert not partly("_sip._udp.full.test").usable


def test_that_no_name_server_could_tell_leads_on_to_the_address() -> None:
    hop = hop_of_uri("sip:plain.test")
    assert hop is not None
    found = locate(hop, UDP, lambda question: FAILED if question.type != "A" else known(question), 1)
    assert [target.ip for target in found.targets] == ["192.0.2.7"]


@pytest.mark.parametrize("uri", ["sip:hostile.test", "sip:hostile.test;transport=udp"])
def test_a_zone_cannot_make_us_ask_for_hundreds_of_names(uri: str) -> None:
    """Whatever NAPTR and SRV records say: a hop takes as many questions as fit its addresses."""
    asked: set[Question] = set()

    def hostile(question: Question) -> Answer | None:
        if question not in asked:
            return None
        if question.type == "NAPTR":
            return Answer(Status.FOUND, tuple(Naptr(n, 0, "s", "SIP+D2U", f"s{n}.test") for n in range(64)))
        if question.type == "SRV":
            return Answer(Status.FOUND, tuple(Srv(n, 0, 5060, f"h{n}.{question.name}") for n in range(64)))
        return Answer(Status.NO_DATA)

    hop = hop_of_uri(uri)
    assert hop is not None
    both = Abilities(("udp", "tcp", "tls"), ipv4=True, ipv6=True)
    while missing := locate(hop, both, hostile, 1).missing:
        asked.update(missing)
    assert len(asked) <= 1 + MOST_WAYS + 2 * MOST


def test_no_more_addresses_than_branches() -> None:
    hop = hop_of_uri("sip:many.test:5060")
    assert hop is not None
    many = Answer(Status.FOUND, tuple(f"192.0.2.{n}" for n in range(1, 51)), 60)
    assert len(locate(hop, UDP, lambda question: many, 1).targets) == 12


# --- RFC 2782 --------------------------------------------------------------------------------------------------------


def test_priorities_come_before_weights() -> None:
    records = [Srv(20, 65535, 1, "late"), Srv(10, 0, 1, "early")]
    for draw in range(50):
        assert [record.target for record in in_order(records, Chance(draw))] == ["early", "late"]


@pytest.mark.parametrize("weights", [(60, 20, 10, 10), (1, 1, 1), (0, 100), (1, 99)])
def test_weights_are_probabilities(weights: tuple[int, ...]) -> None:
    records = [Srv(0, weight, 1, f"h{n}") for n, weight in enumerate(weights)]
    draws = 20_000
    first = Counter(in_order(records, Chance(draw))[0].target for draw in range(draws))
    for n, weight in enumerate(weights):
        expected = draws * weight / sum(weights)
        assert abs(first[f"h{n}"] - expected) <= 0.03 * draws, first


def test_what_is_left_to_chance_is_said() -> None:
    for uri, by_chance in (("sip:full.test", False), ("sip:plain.test", False), ("sip:drawn.test", True)):
        hop = hop_of_uri(uri)
        assert hop is not None
        assert locate(hop, UDP, known, 1).by_chance == by_chance


def test_every_server_is_in_the_order_once() -> None:
    records = [Srv(p, w, 1, f"{p}-{w}") for p in (0, 1) for w in (0, 0, 5, 10)]
    for draw in range(100):
        assert sorted(in_order(records, Chance(draw))) == sorted(records)
