"""Replies made here, and replies passed on. Layouts are those of OpenSIPS."""

from __future__ import annotations

import pytest

from opensips_py.sip.message import note_source, parse
from opensips_py.sip.reply import build_reply, strip_top_via

INVITE = (
    "INVITE sip:bob@127.0.0.1:15060 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:alice@example.org>;tag=ft1\r\n"
    "To: <sip:bob@example.com>\r\n"
    "Call-ID: c1@example\r\n"
    "CSeq: 1 INVITE\r\n"
    "Record-Route: <sip:p1.example.com;lr>\r\n"
    "Timestamp: 54\r\n"
    "Via: SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bKold;received=1.2.3.4\r\n"
    "Content-Length: 0\r\n"
    "\r\n"
)


def reply(request: str, code: int, reason: str = "OK", source: tuple[str, int] = ("127.0.1.1", 15061), **options: str) -> str:
    msg = parse(request.encode("latin-1"))
    note_source(msg, *source)
    return build_reply(msg, code, reason, **options).decode("latin-1")


def test_layout_of_a_final_reply() -> None:
    assert reply(INVITE, 404, "Not Here", to_tag="t1", headers="X-One: 1\r\n", server="Server: S") == (
        "SIP/2.0 404 Not Here\r\n"
        "Via: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1\r\n"
        "Via: SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bKold;received=1.2.3.4\r\n"
        "To: <sip:bob@example.com>;tag=t1\r\n"
        "From: <sip:alice@example.org>;tag=ft1\r\n"
        "Call-ID: c1@example\r\n"
        "CSeq: 1 INVITE\r\n"
        "X-One: 1\r\n"
        "Server: S\r\n"
        "Content-Length: 0\r\n"
        "\r\n"
    )


def test_a_body_is_counted() -> None:
    assert reply(INVITE, 200, body="12345").endswith("\r\nContent-Length: 5\r\n\r\n12345")


def test_server_header_can_be_left_out() -> None:
    assert "Server" not in reply(INVITE, 200, server="")


@pytest.mark.parametrize(("code", "copied"), [(100, False), (180, True), (200, True), (299, True), (302, False), (486, False)])
def test_record_route_goes_into_replies_that_make_dialogs(code: int, copied: bool) -> None:
    assert ("Record-Route: <sip:p1.example.com;lr>\r\n" in reply(INVITE, code)) == copied


def test_timestamp_goes_into_100() -> None:
    assert "Timestamp: 54\r\n" in reply(INVITE, 100)
    assert "Timestamp" not in reply(INVITE, 200)


@pytest.mark.parametrize(
    "to",
    ["<sip:bob@example.com>;tag=have", "sip:bob@example.com;tag=have", "<sip:b@c>;x=y;TAG=have", '"tag=>" <sip:b@c> ; tag=have'],
)
def test_a_to_tag_is_not_added_twice(to: str) -> None:
    assert f"\r\nTo: {to}\r\n" in reply(INVITE.replace("<sip:bob@example.com>", to), 200, to_tag="new")


@pytest.mark.parametrize("to", ["sip:bob@example.com", "<sip:b@c;tag=no>", "<sip:b@c>;x=y", "Bob <sip:b@c> "])
def test_a_to_tag_is_added_where_none_is(to: str) -> None:
    assert f"\r\nTo: {to};tag=new\r\n" in reply(INVITE.replace("<sip:bob@example.com>", to), 200, to_tag="new")


@pytest.mark.parametrize(
    ("via", "marked"),
    [
        ("127.0.1.1:15061;branch=b", "127.0.1.1:15061;branch=b"),
        ("127.0.1.1:15061", "127.0.1.1:15061"),
        ("10.9.9.9:5999;branch=b", "10.9.9.9:5999;received=127.0.1.1;branch=b"),
        ("10.9.9.9:5999", "10.9.9.9:5999;received=127.0.1.1"),
        ("10.9.9.9:5999;rport;branch=b", "10.9.9.9:5999;received=127.0.1.1;rport=15061;branch=b"),
        ("127.0.1.1:15061;rport;branch=b", "127.0.1.1:15061;received=127.0.1.1;rport=15061;branch=b"),
        ("10.0.0.5:5060;branch=b;RPORT", "10.0.0.5:5060;received=127.0.1.1;branch=b;rport=15061"),
        ("10.0.0.5:5060;branch=b;received=6.6.6.6", "10.0.0.5:5060;received=127.0.1.1;branch=b"),
        ("127.0.1.1;received=6.6.6.6;branch=b", "127.0.1.1;branch=b"),
        ("host.invalid;rport=1;branch=b", "host.invalid;received=127.0.1.1;rport=15061;branch=b"),
        (
            "10.9.9.9;branch=b,SIP/2.0/UDP 10.0.0.1;branch=c",
            "10.9.9.9;received=127.0.1.1;branch=b,SIP/2.0/UDP 10.0.0.1;branch=c",
        ),
    ],
)
def test_the_top_via_says_where_the_request_came_from(via: str, marked: str) -> None:
    request = INVITE.replace("127.0.1.1:15061;branch=z9hG4bK-b1", via)
    assert f"\r\nVia: SIP/2.0/UDP {marked}\r\nVia: SIP/2.0/TCP 10.0.0.1:5070" in reply(request, 200)


@pytest.mark.parametrize(("ip", "same"), [("2001:db8::1", True), ("2001:DB8:0::1", True), ("2001:db8::2", False)])
def test_an_ipv6_sent_by_is_compared_as_an_address(ip: str, same: bool) -> None:
    request = INVITE.replace("127.0.1.1:15061;", "[2001:db8::1]:15061;")
    assert ("received" not in reply(request, 200, source=(ip, 15061)).partition("Via: SIP/2.0/TCP")[0]) == same


def test_force_rport_adds_what_the_client_did_not_ask_for() -> None:
    msg = parse(INVITE.encode())
    note_source(msg, "127.0.1.1", 4000)
    msg.force_rport = True
    assert b"UDP 127.0.1.1:15061;received=127.0.1.1;rport=4000;branch=z9hG4bK-b1\r\n" in build_reply(msg, 200, "OK")


def test_missing_headers_are_left_out() -> None:
    request = INVITE.replace("To: <sip:bob@example.com>\r\n", "").replace("Call-ID: c1@example\r\n", "")
    lines = reply(request, 200, to_tag="t").split("\r\n")
    assert "Record-Route: <sip:p1.example.com;lr>" in lines
    assert [line for line in lines if line.startswith(("To", "From", "Call-ID", "CSeq"))] == [
        "From: <sip:alice@example.org>;tag=ft1",
        "CSeq: 1 INVITE",
    ]
    assert "" not in lines[:-2]


def test_a_reason_cannot_break_the_reply() -> None:
    assert reply(INVITE, 403, "No\r\n X: 1").startswith("SIP/2.0 403 No X: 1\r\nVia:")


REPLY = (
    "SIP/2.0 200 OK\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:15060;branch=z9hG4bKours\r\n"
    "Via: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1\r\n"
    "From: <sip:alice@example.org>;tag=ft1\r\n"
    "To: <sip:bob@example.com>;tag=tt\r\n"
    "Call-ID: c1@example\r\n"
    "CSeq: 1 INVITE\r\n"
    "Content-Length: 2\r\n"
    "\r\n"
    "ab"
)


def test_our_via_is_taken_off_and_nothing_else() -> None:
    ours = "Via: SIP/2.0/UDP 127.0.0.1:15060;branch=z9hG4bKours\r\n"
    assert strip_top_via(parse(REPLY.encode())).decode() == REPLY.replace(ours, "")


def test_our_via_is_taken_off_a_list() -> None:
    text = REPLY.replace("ours\r\nVia: ", "ours , ")
    expected = text.replace("SIP/2.0/UDP 127.0.0.1:15060;branch=z9hG4bKours , ", "")
    assert strip_top_via(parse(text.encode())).decode() == expected


def test_changes_of_a_reply_are_made() -> None:
    msg = parse(REPLY.encode())
    msg.append_header("X-A: 1\r\n")
    msg.replace_body("longer")
    assert strip_top_via(msg).decode().endswith("CSeq: 1 INVITE\r\nContent-Length: 6\r\nX-A: 1\r\n\r\nlonger")


def test_bytes_beyond_content_length_stay_behind() -> None:
    assert strip_top_via(parse(REPLY.encode() + b"junk")).endswith(b"\r\n\r\nab")
