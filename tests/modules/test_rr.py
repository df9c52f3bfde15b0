"""Module rr: staying in the path of a dialog, and following it (RFC 3261 16.4, 16.6, 16.12)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opensips_py.modules import rr
from opensips_py.script.context import Context, ListenSocket, Source
from opensips_py.script.posix_regex import compile_regex
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage, parse
from opensips_py.tm import msg_translator

FIRST = ListenSocket(0, "udp", "127.0.0.1", 20700)
SECOND = ListenSocket(1, "udp", "127.0.0.1", 20710)
DEFAULT_PORT = ListenSocket(2, "udp", "127.0.0.2", 5060)
ADVERTISED = ListenSocket(3, "udp", "10.0.0.1", 20720, "proxy.example.com", 5080)
V6 = ListenSocket(4, "udp", "::1", 20700)
SOCKETS = [FIRST, SECOND, DEFAULT_PORT, ADVERTISED, V6]


@pytest.fixture(autouse=True)
def _sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(this, "sockets", SOCKETS, raising=False)
    yield


def request(
    *headers: str, ruri: str = "sip:bob@127.0.1.2:20702", to_tag: str | None = None, from_: str = "<sip:a@example.com>;tag=ft1",
    socket: ListenSocket = FIRST,
) -> Context:  # fmt: skip
    lines = "".join(f"{line}\r\n" for line in headers)
    raw = (
        f"INVITE {ruri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:20701;branch=z9hG4bKx\r\nMax-Forwards: 70\r\nFrom: {from_}\r\n"
        f"To: <sip:bob@example.com>{'' if to_tag is None else f';tag={to_tag}'}\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{lines}"
        "Content-Length: 0\r\n\r\n"
    )
    return Context(parse(raw.encode("latin-1")), Source("127.0.0.1", 20701), socket)


def sent(ctx: Context, socket: ListenSocket | None = None) -> SipMessage:
    return parse(msg_translator.forwarded(ctx, ctx.ruri, socket or ctx.send_socket or ctx.socket, "z9hG4bKy", None))


def recorded(ctx: Context, socket: ListenSocket | None = None) -> list[str]:
    return sent(ctx, socket).values("record-route")


# --- record_route ------------------------------------------------------------------------------------------------------


def test_the_header_names_the_receiving_socket_and_the_callers_tag() -> None:
    ctx = request()
    assert rr.record_route(ctx) == 1
    assert recorded(ctx) == ["<sip:127.0.0.1:20700;lr;ftag=ft1>"]


def test_the_header_comes_before_those_of_earlier_proxies() -> None:
    ctx = request("Record-Route: <sip:p1.example;lr>")
    rr.record_route(ctx)
    assert recorded(ctx) == ["<sip:127.0.0.1:20700;lr;ftag=ft1>", "<sip:p1.example;lr>"]


@pytest.mark.parametrize(
    ("socket", "address"),
    [(DEFAULT_PORT, "127.0.0.2"), (ADVERTISED, "proxy.example.com:5080"), (V6, "[::1]:20700")],
)
def test_the_address_is_the_one_that_peers_can_reach(socket: ListenSocket, address: str) -> None:
    ctx = request(socket=socket)
    rr.record_route(ctx)
    assert recorded(ctx) == [f"<sip:{address};lr;ftag=ft1>"]


@pytest.mark.parametrize(
    ("from_", "expected"),
    [
        ('"x;tag=no" <sip:a@example.com>;tag=yes', ";ftag=yes"),
        ("sip:a@example.com;tag=bare", ";ftag=bare"),
        ("<sip:a@example.com;x=y>;k=v;tag=t2", ";ftag=t2"),
        ("<sip:a@example.com>", ""),
        ("<sip:a@example.com> ; tag=t3 ", ";ftag=t3"),
    ],
)
def test_the_tag_is_found_however_from_is_written(from_: str, expected: str) -> None:
    ctx = request(from_=from_)
    rr.record_route(ctx)
    assert recorded(ctx) == [f"<sip:127.0.0.1:20700;lr{expected}>"]


def test_a_request_is_recorded_once() -> None:
    ctx = request()
    assert rr.record_route(ctx) == 1
    assert rr.record_route(ctx, ";second=1") == -1
    assert rr.record_route_preset(ctx, "proxy.example.com") == -1
    assert recorded(ctx) == ["<sip:127.0.0.1:20700;lr;ftag=ft1>"]


def test_a_header_that_the_script_has_inserted_is_not_taken_for_ours() -> None:
    ctx = request()
    ctx.msg.insert_header("Record-Route: <sip:other.example;lr>\r\n")
    assert rr.record_route(ctx) == 1
    assert sorted(recorded(ctx)) == ["<sip:127.0.0.1:20700;lr;ftag=ft1>", "<sip:other.example;lr>"]


def test_each_branch_may_record_by_itself() -> None:
    ctx = request()
    before = list(ctx.msg.edits)
    assert rr.record_route(ctx, ";branch=0") == 1
    ctx.msg.edits = before
    assert rr.record_route(ctx, ";branch=1") == 1
    assert recorded(ctx) == ["<sip:127.0.0.1:20700;lr;ftag=ft1;branch=1>"]


def test_a_suspended_request_stays_recorded() -> None:
    ctx = request()
    rr.add_rr_param(ctx, ";a=1")
    rr.record_route(ctx)
    resumed = Context.thaw(ctx.freeze(), this.sockets_by_name)
    assert rr.record_route(resumed) == -1
    assert rr.add_rr_param(resumed, ";b=2") == 1
    assert recorded(resumed) == ["<sip:127.0.0.1:20700;lr;ftag=ft1;a=1;b=2>"]


def test_parameters_may_be_added_before_and_after() -> None:
    ctx = request()
    rr.add_rr_param(ctx, ";before=1")
    rr.record_route(ctx, ";with=1")
    rr.add_rr_param(ctx, ";after=1")
    rr.add_rr_param(ctx, "bare=1")
    assert recorded(ctx) == ["<sip:127.0.0.1:20700;lr;ftag=ft1;with=1;before=1;bare=1;after=1>"]


def test_the_user_is_added_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rr.add_username, "value", 1)
    ctx = request()
    ctx.new_uri = "sip:127.0.1.2"
    rr.record_route(ctx)
    assert recorded(ctx) == ["<sip:bob@127.0.0.1:20700;lr;ftag=ft1>"]


def test_the_tag_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rr.append_fromtag, "value", 0)
    ctx = request()
    rr.record_route(ctx)
    assert recorded(ctx) == ["<sip:127.0.0.1:20700;lr>"]
    assert rr.is_direction(ctx, "downstream") == -1


def test_a_preset_address_is_written_as_it_is() -> None:
    ctx = request()
    assert rr.record_route_preset(ctx, "proxy.example.com:5080") == 1
    rr.add_rr_param(ctx, ";nat=yes")
    assert recorded(ctx, SECOND) == ["<sip:proxy.example.com:5080;ftag=ft1;lr;nat=yes>"]


def test_two_preset_addresses_are_one_for_each_side() -> None:
    ctx = request()
    assert rr.record_route_preset(ctx, "in.example", "out.example") == 1
    assert recorded(ctx) == ["<sip:in.example;ftag=ft1;lr>", "<sip:out.example;ftag=ft1;lr>"]


def test_leaving_from_another_socket_records_both() -> None:
    ctx = request()
    rr.record_route(ctx, ";k=v")
    assert recorded(ctx, SECOND) == [
        "<sip:127.0.0.1:20710;r2=on;lr;ftag=ft1;k=v>",
        "<sip:127.0.0.1:20700;r2=on;lr;ftag=ft1;k=v>",
    ]
    assert recorded(ctx, FIRST) == ["<sip:127.0.0.1:20700;lr;ftag=ft1;k=v>"]


def test_without_double_record_routing_the_sending_socket_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rr.enable_double_rr, "value", 0)
    ctx = request()
    rr.record_route(ctx)
    assert recorded(ctx, SECOND) == ["<sip:127.0.0.1:20710;lr;ftag=ft1>"]


def test_leaving_from_another_socket_does_not_touch_what_is_not_ours() -> None:
    ctx = request("Record-Route: <sip:127.0.0.1:20700;lr>")
    assert recorded(ctx, SECOND) == ["<sip:127.0.0.1:20700;lr>"]


# --- loose_route -------------------------------------------------------------------------------------------------------


def routes(ctx: Context) -> list[str]:
    return sent(ctx).values("route")


def test_without_route_there_is_nothing_to_follow() -> None:
    ctx = request(to_tag="t")
    assert rr.loose_route(ctx) == -1
    assert ctx.msg.serialise() == ctx.msg.raw


def test_our_own_route_is_taken_off_and_the_request_goes_to_its_uri() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;lr;ftag=ft1>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (routes(ctx), ctx.dst_uri, ctx.ruri) == ([], None, "sip:bob@127.0.1.2:20702")
    assert sent(ctx).raw.count(b"Route") == 0


def test_a_route_of_ours_in_a_request_that_begins_a_dialog_is_taken_off_but_does_not_count() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;lr>")
    assert rr.loose_route(ctx) == -1
    assert (routes(ctx), ctx.dst_uri) == ([], None)


@pytest.mark.parametrize("to_tag", [None, "t"])
def test_a_foreign_route_is_where_the_request_goes_next(to_tag: str | None) -> None:
    ctx = request("Route: <sip:p2.example;lr>", to_tag=to_tag)
    assert rr.loose_route(ctx) == 1
    assert (routes(ctx), ctx.dst_uri) == (["<sip:p2.example;lr>"], "sip:p2.example;lr")
    assert rr._rr_params(ctx, None, None) is None


@pytest.mark.parametrize(
    "headers",
    [
        ["Route: <sip:127.0.0.1:20700;lr>", "Route: <sip:p2.example;lr>", "Route: <sip:p3.example;lr>"],
        ["Route: <sip:127.0.0.1:20700;lr>, <sip:p2.example;lr>,<sip:p3.example;lr>"],
        ["Route: <sip:127.0.0.1:20700;lr>,\r\n  <sip:p2.example;lr>", "Route: <sip:p3.example;lr>"],
        ['Route: "a, <b>" <sip:127.0.0.1:20700;lr>;x=y ,<sip:p2.example;lr>', "Route: <sip:p3.example;lr>"],
    ],
)
def test_the_next_loose_router_stays_in_the_route_set(headers: list[str]) -> None:
    ctx = request(*headers, to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert routes(ctx) == ["<sip:p2.example;lr>", "<sip:p3.example;lr>"]
    assert (ctx.dst_uri, ctx.ruri) == ("sip:p2.example;lr", "sip:bob@127.0.1.2:20702")


def test_following_twice_changes_nothing_more() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;lr>, <sip:p2.example;lr>", to_tag="t")
    assert rr.loose_route(ctx) == rr.loose_route(ctx) == 1
    assert routes(ctx) == ["<sip:p2.example;lr>"]


def test_a_strict_next_hop_gets_its_own_uri_and_the_target_as_last_route() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;lr>", "Route: <sip:strict@127.0.1.2>", "Route: <sip:p3.example;lr>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.ruri, ctx.dst_uri) == ("sip:strict@127.0.1.2", None)
    assert routes(ctx) == ["<sip:p3.example;lr>", "<sip:bob@127.0.1.2:20702>"]


def test_after_a_strict_previous_hop_the_last_route_is_the_target() -> None:
    ctx = request("Route: <sip:p2.example;lr>, <sip:bob@192.0.2.1>", ruri="sip:127.0.0.1:20700;lr;ftag=ft1", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.ruri, ctx.dst_uri, routes(ctx)) == ("sip:bob@192.0.2.1", "sip:p2.example;lr", ["<sip:p2.example;lr>"])
    assert rr._rr_params(ctx, None, None) == "lr;ftag=ft1"


@pytest.mark.parametrize("second", [["<sip:p2.example;lr>", "<sip:c@192.0.2.1>"], ["<sip:p2.example;lr>, <sip:c@192.0.2.1>"]])
def test_after_a_strict_previous_hop_our_own_route_is_taken_off_too(second: list[str]) -> None:
    headers = ["Route: <sip:127.0.0.1:20700;lr>", *(f"Route: {value}" for value in second)]
    ctx = request(*headers, ruri="sip:127.0.0.1:20700;lr", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.ruri, ctx.dst_uri, routes(ctx)) == ("sip:c@192.0.2.1", "sip:p2.example;lr", ["<sip:p2.example;lr>"])


def test_after_a_strict_previous_hop_a_single_route_is_the_target() -> None:
    ctx = request("Route: <sip:127.0.1.2:20702>", ruri="sip:127.0.0.1:20700;lr", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.ruri, ctx.dst_uri, routes(ctx)) == ("sip:127.0.1.2:20702", None, [])


def test_of_two_own_routes_the_second_is_the_socket_to_send_from() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;r2=on;lr;ftag=x>", "Route: <sip:127.0.0.1:20710;r2=on;lr;ftag=x>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.send_socket, ctx.dst_uri, routes(ctx)) == (SECOND, None, [])
    assert rr._rr_params(ctx, None, None) == "r2=on;lr;ftag=x"


def test_an_advertised_address_is_ours() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;r2=on;lr>, <sip:Proxy.Example.com:5080;r2=on;lr>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.send_socket, routes(ctx)) == (ADVERTISED, [])


@pytest.mark.parametrize("uri", ["sip:127.0.0.1:20799;lr", "sip:127.0.0.2:5061;lr", "sip:127.0.0.9:20700;lr"])
def test_another_port_or_address_is_not_ours(uri: str) -> None:
    ctx = request(f"Route: <{uri}>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert (ctx.dst_uri, routes(ctx)) == (uri, [f"<{uri}>"])


def test_the_default_port_is_meant_when_none_is_written() -> None:
    ctx = request("Route: <sip:127.0.0.2;lr>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert routes(ctx) == []


def test_a_user_can_be_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rr.ignore_user, "value", "b2b")
    ctx = request("Route: <sip:b2b@127.0.0.1:20700;lr>", to_tag="t")
    assert rr.loose_route(ctx) == 1
    assert ctx.dst_uri == "sip:b2b@127.0.0.1:20700;lr"


@pytest.mark.parametrize(
    "value", ["", "<", "<>", "<sip:>", "sip:p.example;lr", "<sip:127.0.0.1:20700;lr", "<tel:123>", ", ,", "<sip:p>x<"]
)
def test_a_route_that_cannot_be_read_is_not_followed(value: str) -> None:
    ctx = request(f"Route: {value}", to_tag="t")
    assert rr.loose_route(ctx) == -1
    assert ctx.msg.serialise() == ctx.msg.raw


# --- what Route tells --------------------------------------------------------------------------------------------------


def followed(params: str, from_: str = "<sip:a@example.com>;tag=ft1") -> Context:
    ctx = request(f"Route: <sip:127.0.0.1:20700;{params}>", to_tag="t", from_=from_)
    assert rr.loose_route(ctx) == 1
    return ctx


def test_the_parameters_that_were_recorded_come_back() -> None:
    ctx = followed("lr;ftag=ft1;nat=yes")
    assert rr._rr_params(ctx, None, None) == "lr;ftag=ft1;nat=yes"
    assert rr.check_route_param(ctx, compile_regex("NAT=yes")) == 1
    assert rr.check_route_param(ctx, compile_regex(";lr;")) == 1
    assert rr.check_route_param(ctx, compile_regex("zz")) == -1


def test_before_loose_route_there_are_no_parameters() -> None:
    ctx = request("Route: <sip:127.0.0.1:20700;lr;nat=yes>", to_tag="t")
    assert rr._rr_params(ctx, None, None) is None
    assert rr.check_route_param(ctx, compile_regex("nat")) == -1


@pytest.mark.parametrize(
    ("params", "tag", "direction"),
    [("lr;ftag=ft1", "ft1", "downstream"), ("lr;ftag=ft1", "other", "upstream"), ("lr", "other", "downstream")],
)
def test_the_direction_is_told_from_the_callers_tag(params: str, tag: str, direction: str) -> None:
    ctx = followed(params, f"<sip:a@example.com>;tag={tag}")
    found = [d for d in ("downstream", "upstream") if rr.is_direction(ctx, d) == 1]
    assert found == [direction]


def test_an_unknown_direction_is_refused() -> None:
    assert rr.is_direction(followed("lr;ftag=ft1"), "sideways") == -1
