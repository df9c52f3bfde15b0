"""drouting: the order of gateways, and R-URIs for them."""

from __future__ import annotations

from collections import Counter

import pytest

from opensips_py.modules.drouting.selection import in_order, uri_for
from opensips_py.modules.drouting.tables import Gateway, Listed
from opensips_py.sip.uri import parse_uri


def listed(*weights: int) -> list[Listed]:
    return [Listed(f"g{n}", False, weight) for n, weight in enumerate(weights)]


def order(weights: list[int], sort: str) -> str:
    return "".join(one.id[1:] for one in in_order(listed(*weights), sort))


def test_without_sorting_they_stay_as_they_stand() -> None:
    assert order([1, 50, 3], "N") == "012"


def test_those_without_weight_come_last() -> None:
    assert {order([0, 100, 0], "W") for _ in range(50)} == {"102"}
    assert order([0, 0, 0], "W") == "012"


def test_each_stands_first_as_often_as_its_weight_says() -> None:
    count = Counter(order([10, 30, 60], "W")[0] for _ in range(6000))
    assert all(abs(count[name] - wanted) < 300 for name, wanted in (("0", 600), ("1", 1800), ("2", 3600))), count


def test_all_of_them_stay_in_the_list() -> None:
    assert {"".join(sorted(order([1, 2, 3, 0], "W"))) for _ in range(100)} == {"0123"}


def test_the_same_gateway_twice_is_there_twice() -> None:
    twice = [Listed("g", False, 5), Listed("g", False, 5)]
    assert list(in_order(twice, "W")) == twice


def to(uri: str, place: str, strip: int = 0, prefix: str = "") -> str:
    gateway = Gateway("g", 0, "", f"sip:{place}", strip, prefix, "", 0, 0, "", ())
    return uri_for(parse_uri(uri), gateway)


@pytest.mark.parametrize(
    ("uri", "place", "strip", "prefix", "made"),
    [
        ("sip:44123@example.com", "192.0.2.1:5062", 0, "", "sip:44123@192.0.2.1:5062"),
        ("sip:44123@example.com", "192.0.2.1", 2, "00", "sip:00123@192.0.2.1"),
        ("sip:44@example.com", "192.0.2.1", 5, "9", "sip:9@192.0.2.1"),
        ("sip:44@example.com", "192.0.2.1", 5, "", "sip:192.0.2.1"),
        ("sip:44:pw@example.com:5099;user=phone?X=y", "192.0.2.1", 0, "", "sip:44:pw@192.0.2.1;user=phone?X=y"),
        ("sips:44@example.com", "192.0.2.1", 0, "", "sip:44@192.0.2.1"),
        ("tel:+44", "192.0.2.1", 1, "00", "sip:0044@192.0.2.1"),
        ("sip:44@x;transport=udp;a=b", "192.0.2.1;transport=tcp", 0, "", "sip:44@192.0.2.1;transport=tcp;a=b"),
        ("sip:44@x;Transport=udp", "192.0.2.1;transport=tcp", 0, "", "sip:44@192.0.2.1;transport=tcp"),
    ],
)
def test_the_r_uri_for_a_gateway(uri: str, place: str, strip: int, prefix: str, made: str) -> None:
    assert to(uri, place, strip, prefix) == made
