"""Which destination dispatcher chooses, in which order the others follow, and what it makes of a table."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from opensips_py.modules.dispatcher import messages
from opensips_py.modules.dispatcher.algorithms import Algorithm, arranged, by_hash, by_load, first, hash_of, in_turn
from opensips_py.modules.dispatcher.live import Kept, Live
from opensips_py.modules.dispatcher.sets import Destination, State, made_of, packed_address
from opensips_py.script.context import ListenSocket
from tests.support.script_context import REQUEST, SDP, request

SOCKETS = [ListenSocket(0, "udp", "192.0.2.10", 5060), ListenSocket(1, "tcp", "192.0.2.10", 5070)]


def row(group: Any, uri: Any, state: Any = 0, weight: Any = "1", priority: Any = 0, socket: Any = None) -> list[Any]:
    return [group, uri, socket, state, weight, priority, "attrs", None]


def uri(number: int) -> str:
    return f"sip:10.0.0.{number}"


def weighing(*weights: int) -> list[Destination]:
    """A set of destinations with these weights."""
    return made_of([row(1, uri(i), weight=weight) for i, weight in enumerate(weights)], SOCKETS).groups[1]


def live(*inactive: int) -> Live:
    """What is kept of a set of which some are inactive."""
    return Live(kept={uri(i): Kept(state=State.INACTIVE) for i in inactive})


# --- hashes: what an OpenSIPS 3.1 chooses among three destinations that weigh 5, 3 and 1 ---------------------------


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        ([("cid-1",), ("cid-2",), ("cid-3",), ("cid-4",), ("cid-5",)], [0, 2, 0, 1, 1]),
        ([("k1",), ("k2",), ("k3",)], [1, 0, 0]),
        ([(f"f{n}", "example.org") for n in range(1, 6)], [1, 0, 0, 0, 0]),
        ([(f"t{n}", "example.net") for n in range(1, 6)], [1, 0, 0, 0, 0]),
        ([(f"u{n}", "example.com") for n in range(1, 6)], [0, 1, 2, 1, 1]),
    ],
)
def test_hashes_choose_what_opensips_chooses(texts: list[tuple[str, ...]], chosen: list[int]) -> None:
    destinations = weighing(5, 3, 1)
    assert [arranged(destinations, Live(), by_hash(hash_of(*text)))[0] for text in texts] == chosen


def test_hashes_take_anything() -> None:
    assert hash_of("") == hash_of("", "") == 1
    assert 0 < hash_of("\xff" * 1000) < 2**32
    assert hash_of("\u0416") == hash_of("?")


def test_what_of_a_request_is_hashed() -> None:
    text = REQUEST.replace("sip:alice:pw@atlanta.example:5066;p1=v1;p2", "sip:alice@atlanta.example:5060")
    ctx = request(text + SDP)
    assert messages.hash_of_call_id(ctx, False) == hash_of("call-1@test")
    assert messages.hash_of_from(ctx, False) == hash_of("alice", "atlanta.example")
    assert messages.hash_of_from(ctx, True) == hash_of("alice")
    assert messages.hash_of_to(ctx, False) == hash_of("bob", "biloxi.example")
    assert messages.hash_of_ruri(ctx, False) == hash_of("bob", "biloxi.example:5080")
    ctx.new_uri = "sip:biloxi.example"
    assert messages.hash_of_ruri(ctx, True) == messages.hash_of_ruri(ctx, False) == hash_of("", "biloxi.example")
    ctx.new_uri = "nonsense"
    assert messages.hash_of_ruri(ctx, False) is None
    assert messages.hash_of_credentials(ctx, False) is None


# --- orders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "inactive", "value", "order"),
    [
        ((1, 1, 1), (), 1, [1, 2, 0]),
        ((1, 1, 1), (1,), 1, [2, 0]),
        ((5, 3, 1), (0,), 3, [2, 1]),
        ((0, 0, 0), (), 5, [2, 0, 1]),
        ((0, 4, 0), (), 3, [1, 2, 0]),
        ((1, 1), (0, 1), 7, []),
    ],
)
def test_hashes_fall_on_active_destinations_by_weight(
    weights: tuple[int, ...], inactive: tuple[int, ...], value: int, order: list[int]
) -> None:
    assert arranged(weighing(*weights), live(*inactive), by_hash(value)) == order


def test_hashes_are_spread_by_weight() -> None:
    destinations = weighing(5, 3, 1)
    found = Counter(arranged(destinations, Live(), by_hash(value))[0] for value in range(900))
    assert found == {0: 500, 1: 300, 2: 100}


def turns(destinations: list[Destination], entry: Live, count: int, last_resort: bool = False) -> list[int]:
    return [arranged(destinations, entry, in_turn, last_resort=last_resort)[0] for _ in range(count)]


def test_turns_are_as_long_as_the_weights() -> None:
    entry = Live()
    assert turns(weighing(3, 1, 2), entry, 9) == [0, 0, 0, 1, 2, 2, 0, 0, 0]
    assert arranged(weighing(3, 1, 2), Live(turn=1), in_turn) == [1, 2, 0]
    assert turns(weighing(0, 2, 0), Live(), 4) == [1, 1, 1, 1]
    assert turns(weighing(0, 0), Live(), 3) == [0, 1, 0]
    assert turns(weighing(1, 1), Live(turn=7, taken=9), 3) == [0, 1, 0], "of a set that was longer"


def test_who_is_not_active_is_passed_over_in_turn() -> None:
    entry = live(1)
    assert turns(weighing(2, 2, 2), entry, 5) == [0, 0, 2, 2, 0]
    entry.kept.clear()
    assert turns(weighing(2, 2, 2), entry, 3) == [0, 1, 1]


def test_the_least_load_is_chosen_and_equal_ones_keep_their_order() -> None:
    assert arranged(weighing(1, 1, 1, 1), live(3), by_load([7, -1, 7, -9])) == [1, 0, 2]


@pytest.mark.parametrize(
    ("algorithm", "inactive", "order"),
    [
        (first, (), [0, 1, 2]),
        (by_hash(5), (), [1, 0, 2]),
        (by_load([3, 2, 1]), (), [1, 0, 2]),
        (first, (0, 1), [2]),
        (first, (2,), [0, 1]),
        (first, (0, 1, 2), []),
    ],
)
def test_the_last_resort_comes_last(algorithm: Algorithm, inactive: tuple[int, ...], order: list[int]) -> None:
    assert arranged(weighing(1, 1, 1), live(*inactive), algorithm, last_resort=True) == order


def test_no_turn_is_that_of_the_last_resort() -> None:
    assert turns(weighing(1, 1, 1), Live(), 4, last_resort=True) == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("most", "last_resort", "order"),
    [
        *((0, False, [0, 1, 2]), (-1, False, [0, 1, 2]), (1, False, [0]), (2, False, [0, 1]), (9, False, [0, 1, 2])),
        *((1, True, [0]), (2, True, [0, 2]), (3, True, [0, 1, 2])),
    ],
)
def test_no_more_than_so_many(most: int, last_resort: bool, order: list[int]) -> None:
    assert arranged(weighing(1, 1, 1), Live(), first, last_resort=last_resort, most=most) == order


# --- tables ---------------------------------------------------------------------------------------------------------


def test_the_highest_priority_stands_first_and_later_sets_before_earlier_ones() -> None:
    rows = [row(2, uri(1), priority=-1), row(1, uri(2)), row(2, uri(3), priority=5), row(2, uri(4), priority=5)]
    found = made_of(rows, SOCKETS)
    assert {group: [one.uri for one in members] for group, members in found.groups.items()} == {
        1: [uri(2)],
        2: [uri(3), uri(4), uri(1)],
    }
    assert list(found.groups) == [1, 2]


def test_values_that_are_not_there_have_defaults() -> None:
    [one] = made_of([[1, " sip:h;transport=tcp ", None, None, None, None, None, None]], SOCKETS).groups[1]
    assert (one.uri, one.state, one.weight, one.priority, one.attrs) == ("sip:h;transport=tcp", State.ACTIVE, 1, 0, "")


@pytest.mark.parametrize(
    "nonsense",
    [
        *(row(None, uri(1)), row("x", uri(1)), row("²", uri(1)), row(9**99, uri(1)), row(1, None), row(1, "")),
        *(
            row(1, "10.0.0.1"),
            row(1, "tel:1"),
            row(1, "sip:a b"),
            row(1, "sip:a\r\nX: y"),
            row(1, "sip:h:99999"),
            row(1, f"sip:{'h' * 300}"),
        ),
        *(row(1, uri(1), state=3), row(1, uri(1), state=-1), row(1, uri(1), state="on"), row(1, uri(1), weight="-1")),
        *(row(1, uri(1), weight="fs://h"), row(1, uri(1), weight=10**12), row(1, uri(1), priority="high")),
        row(1, uri(1), weight="1.5"),
    ],
)
def test_a_row_with_nonsense_is_left_out(nonsense: list[Any]) -> None:
    found = made_of([nonsense, row(1, uri(2))], SOCKETS)
    assert [one.uri for one in found.groups[1]] == [uri(2)]
    assert len(found.groups) == 1
    assert len(found.faults) == 1
    assert "is left out" in found.faults[0]


def test_a_socket_that_the_server_does_not_have_is_not_used() -> None:
    found = made_of([row(1, uri(1), socket="tcp:192.0.2.10:5070"), row(1, uri(2), socket="udp:10.9.9.9:5060")], SOCKETS)
    assert [one.socket for one in found.groups[1]] == [SOCKETS[1], None]
    assert "no socket udp:10.9.9.9:5060" in found.faults[0]


def test_states_of_the_table_may_be_left_alone() -> None:
    [one] = made_of([row(1, uri(1), state=2)], SOCKETS, with_states=False).groups[1]
    assert one.state == State.ACTIVE


def test_destinations_by_address() -> None:
    found = made_of([row(1, "sip:10.0.0.1:5080"), row(2, "sip:[2001:db8::1]"), row(3, "sip:gw.example.org")], SOCKETS)

    def groups(ip: str, port: int) -> list[int]:
        packed = packed_address(ip)
        assert packed is not None
        return [one.group for one in found.at(packed, port)]

    assert groups("10.0.0.1", 5080) == groups("10.0.0.1", 0) == [1]
    assert groups("10.0.0.1", 5060) == []
    assert groups("2001:DB8:0:0::1", 5060) == groups("[2001:db8::1]", 0) == [2]
    assert [one.group for one in found.named] == [3]
    assert packed_address("gw.example.org") is None
