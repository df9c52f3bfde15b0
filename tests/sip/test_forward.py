"""Requests that leave. Layouts are those of OpenSIPS."""

from __future__ import annotations

import pytest

from opensips_py.sip.forward import build_ack, build_cancel, build_forward
from opensips_py.sip.message import SipMessage, note_source, parse

INVITE = (
    "INVITE sip:bob@127.0.0.1:15060 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:alice@example.org>;tag=ft1\r\n"
    "To: <sip:bob@example.com>\r\n"
    "Call-ID: c1@example\r\n"
    "CSeq: 1 INVITE\r\n"
    "Via: SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bKold;received=1.2.3.4\r\n"
    "Content-Length: 5\r\n"
    "\r\n"
    "hello"
)
VIA = "Via: SIP/2.0/UDP 127.0.0.1:15060;branch=z9hG4bKours"


def received(text: str = INVITE, source: tuple[str, int] = ("127.0.1.1", 15061)) -> SipMessage:
    msg = parse(text.encode())
    note_source(msg, *source)
    return msg


def forward(msg: SipMessage, ruri: str | None = None) -> str:
    return build_forward(msg, via=VIA, ruri=ruri).decode()


def test_our_via_goes_on_top() -> None:
    assert forward(received()) == INVITE.replace("Via:", f"{VIA}\r\nVia:", 1)


def test_the_uri_is_replaced() -> None:
    first, _, rest = forward(received(), "sip:new@host").partition("\r\n")
    assert first == "INVITE sip:new@host SIP/2.0"
    assert rest == INVITE.replace("Via:", f"{VIA}\r\nVia:", 1).partition("\r\n")[2]


def test_record_route_goes_before_our_via() -> None:
    msg = received()
    msg.insert_header("Record-Route: <sip:127.0.0.1;lr>\r\n")
    assert forward(msg) == INVITE.replace("Via:", f"Record-Route: <sip:127.0.0.1;lr>\r\n{VIA}\r\nVia:", 1)


def test_our_via_stands_before_the_received_ones_wherever_they_are() -> None:
    text = INVITE.replace("Max-Forwards: 70\r\n", "").replace("Via:", "Max-Forwards: 70\r\nVia:", 1)
    assert forward(received(text)) == text.replace("Via:", f"{VIA}\r\nVia:", 1)
    assert forward(received(text, ("127.0.9.9", 1))) == text.replace("Via:", f"{VIA}\r\nVia:", 1).replace(
        "127.0.1.1:15061;", "127.0.1.1:15061;received=127.0.9.9;"
    )


def test_edits_and_marks_come_together() -> None:
    msg = received(INVITE.replace("127.0.1.1:15061;", "10.8.8.8:5999;rport;"))
    header = msg.header("max-forwards")
    assert header is not None
    msg.replace_value(header, "69")
    expected = INVITE.replace("127.0.1.1:15061;", "10.8.8.8:5999;received=127.0.1.1;rport=15061;")
    expected = expected.replace("Forwards: 70", "Forwards: 69")
    assert forward(msg) == expected.replace("Via:", f"{VIA}\r\nVia:", 1)


@pytest.mark.parametrize("change", [False, True])
def test_force_rport_is_put_before_received(change: bool) -> None:
    msg = received(INVITE.replace("127.0.1.1:15061;", "host.invalid:5999;"))
    msg.force_rport = True
    if change:
        msg.append_header("X-A: 1\r\n")
    expected = INVITE.replace("127.0.1.1:15061;", "host.invalid:5999;rport=15061;received=127.0.1.1;")
    if change:
        expected = expected.replace("5\r\n\r\n", "5\r\nX-A: 1\r\n\r\n")
    assert forward(msg) == expected.replace("Via:", f"{VIA}\r\nVia:", 1)


def test_each_branch_has_its_own_edits() -> None:
    msg = received()
    msg.append_header("X-All: 1\r\n")
    branch = build_forward(msg, via=VIA, edits=[*msg.edits, (msg.headers_end, 0, "X-Branch: 1\r\n")]).decode()
    assert "X-All: 1\r\nX-Branch: 1\r\n\r\n" in branch
    assert "X-Branch" not in forward(msg)


def test_content_length_follows_a_changed_body() -> None:
    msg = received()
    msg.replace_body("hello, world")
    assert forward(msg).endswith("Content-Length: 12\r\n\r\nhello, world")


def test_bytes_beyond_content_length_stay_behind() -> None:
    assert forward(received(INVITE + "INVITE sip:smuggled SIP/2.0\r\n")).endswith("\r\n\r\nhello")


def test_a_message_with_bare_line_feeds_gets_a_whole_first_line_and_via() -> None:
    text = INVITE.replace("\r\n", "\n")
    expected = text.replace("SIP/2.0\n", "SIP/2.0\r\n", 1).replace("Via:", f"{VIA}\r\nVia:", 1)
    assert forward(received(text)) == expected


def test_layout_of_ack() -> None:
    reply = parse(b"SIP/2.0 486 Busy\r\nVia: SIP/2.0/UDP x\r\nTo: <sip:bob@example.com>;tag=tt\r\nCSeq: 1 INVITE\r\n\r\n")
    ack = build_ack(received(), reply, ruri="sip:x@y", via=VIA, routes="Route: <sip:p;lr>\r\n", user_agent="User-Agent: U")
    assert ack.decode() == (
        "ACK sip:x@y SIP/2.0\r\n"
        f"{VIA}\r\n"
        "From: <sip:alice@example.org>;tag=ft1\r\n"
        "Call-ID: c1@example\r\n"
        "To: <sip:bob@example.com>;tag=tt\r\n"
        "CSeq: 1 ACK\r\n"
        "Route: <sip:p;lr>\r\n"
        "Max-Forwards: 70\r\n"
        "User-Agent: U\r\n"
        "Content-Length: 0\r\n"
        "\r\n"
    )


def test_layout_of_cancel() -> None:
    reason = 'Reason: SIP;cause=487;text="ORIGINATOR_CANCEL"\r\n'
    assert build_cancel(received(), ruri="sip:x@y", via=VIA, headers=reason, user_agent="").decode() == (
        "CANCEL sip:x@y SIP/2.0\r\n"
        f"{VIA}\r\n"
        "From: <sip:alice@example.org>;tag=ft1\r\n"
        "Call-ID: c1@example\r\n"
        "To: <sip:bob@example.com>\r\n"
        "CSeq: 1 CANCEL\r\n"
        "Max-Forwards: 70\r\n"
        f"{reason}"
        "Content-Length: 0\r\n"
        "\r\n"
    )
