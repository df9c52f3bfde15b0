"""What RFC 3261 asks of a message and no parser needs: each kind of fault that RFC 4475 shows, in every header that has it."""

from __future__ import annotations

import pytest

from opensips_py.sip import sdp, validity
from opensips_py.sip.message import SipMessage, parse

GOOD = """REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/UDP host.example.com;branch=z9hG4bKx;ttl=16
To: <sip:user@example.com>
From: "J \\" U" <sip:user@example.com>;tag=1
CSeq: 2147483647 REGISTER
Call-ID: 1@example.com
Max-Forwards: 255
Expires: 4294967295
Contact: <sip:user@host.example.com;lr>;q=0.25;expires=0, "b" <tel:+1>
Contact: *
Date: Fri, 01 Jan 2010 16:00:00 GMT
Subject:
Retry-After: 120 (I'm in a meeting);duration=3600
Session-Expires: 1800;refresher=uac
RAck: 1 2 INVITE
Warning: 370 devnull "Choose a bigger pipe", 199 - "x"
Allow: INVITE
Allow: ACK
Content-Length: 0
"""


def message(change: tuple[str, str] = ("", "")) -> SipMessage:
    assert change[0] in GOOD
    text = GOOD.replace(*change, 1) if change[0] else GOOD + change[1]
    return parse((text + "\n").replace("\n", "\r\n").encode("latin-1"))


def test_a_good_message_has_no_fault() -> None:
    assert validity.unreadable(message()) is None
    assert validity.fault(message()) is None


@pytest.mark.parametrize(
    "change",
    [
        ("Subject:", "Route: <sip:a@b> c"),
        ("Subject:", "Record-Route: <sip:a@b>,"),
        ("Subject:", "P-Asserted-Identity: <sip:a@b"),
        ("Subject:", "v: SIP/2.0/UDP a b c"),
        ("Subject:", "User-Agent:"),
        ("Subject:", "Refer-To:"),
        ("CSeq: 2147483647 REGISTER", "CSeq: x REGISTER"),
    ],
)
def test_a_header_that_cannot_be_read_is_found(change: tuple[str, str]) -> None:
    assert validity.unreadable(message(change)) is not None


@pytest.mark.parametrize("name", ["Accept", "Allow", "Supported", "Organization", "X-Anything"])
def test_some_headers_may_be_empty(name: str) -> None:
    assert validity.unreadable(message(("Subject:", f"{name}:"))) is None


@pytest.mark.parametrize(
    "change",
    [
        ("SIP/2.0\n", "SIP/2.0  \n"),
        ("SIP/2.0\n", "SIP/2.0\t\n"),
        ("2147483647 REGISTER", "2147483647 INVITE"),
        ("2147483647", "2147483648"),
        ("2147483647", "36893488147419103232"),
        ("s: 255", "s: 256"),
        ("s: 255", "s: -1"),
        ("s: 255", "s: many"),
        ("Expires: 4294967295", "Expires: 4294967296"),
        ("Expires: 4294967295", "Expires: " + "9" * 100),
        ("Expires: 4294967295", "Expires: never"),
        ("Subject:", "Min-Expires: 4294967296"),
        ("Subject:", "RSeq: 4294967296"),
        ("Subject:", "Min-SE: 90s"),
        ("Subject:", "Min-SE: 4294967296;x=y"),
        ("expires=0", "expires=280297596632815"),
        ("expires=0", "expires"),
        ("q=0.25", "q=1.1"),
        ("q=0.25", "q=0.1234"),
        ("q=0.25", "q=high"),
        ("ttl=16", "ttl=256"),
        ("120 (", "949302838503028349304023988 ("),
        ("duration=3600", "duration=4294967296"),
        ("1800;", "4294967296;"),
        ("1 2 INVITE", "4294967296 2 INVITE"),
        ("1 2 INVITE", "1 4294967296 INVITE"),
        ("1 2 INVITE", "1 INVITE"),
        ("370 devnull", "1812 devnull"),
        ('199 - "x"', "199 -"),
        ("GMT", "EST"),
        ("Fri, 01 Jan 2010 16:00:00 GMT", "2010-01-01T16:00:00Z"),
    ],
)
def test_a_value_out_of_its_range_or_form_is_found(change: tuple[str, str]) -> None:
    assert validity.unreadable(message(change)) is None
    assert validity.fault(message(change)) is not None


@pytest.mark.parametrize(
    "line",
    [
        *("To: <sip:other@example.com>", "f: <sip:other@example.com>;tag=2", "CSeq: 3 REGISTER", "i: 2@example.com"),
        *("Max-Forwards: 5", "Expires: 1", "l: 0", "Date: Fri, 01 Jan 2010 16:00:00 GMT", "Subject: again", "x: 90"),
    ],
)
def test_a_header_that_is_no_list_stands_there_once(line: str) -> None:
    assert "more than one" in (validity.fault(message(("", line + "\n"))) or "")


@pytest.mark.parametrize("change", [(" REGISTER\n", "  \tREGISTER\n"), ("Max-Forwards: 255", "Max-Forwards: 00000000000000068")])
def test_what_looks_odd_and_is_allowed_is_no_fault(change: tuple[str, str]) -> None:
    assert validity.fault(message(change)) is None


REPLY = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nCSeq: {cseq}\r\n\r\n"


@pytest.mark.parametrize(("cseq", "good"), [("1 INVITE", True), ("2147483648 INVITE", False)])
def test_replies_are_judged_too(cseq: str, good: bool) -> None:
    assert (validity.fault(parse(REPLY.format(cseq=cseq).encode())) is None) is good


@pytest.mark.parametrize(
    ("rest", "another"),
    [
        ("\r\n\r\nINVITE sip:a@b SIP/2.0\r\n", True),
        ("SIP/2.0 200 OK\r\n", True),
        ("SIP/2.0 200 Very well\n", True),
        ("SIP/2.0\r\n", False),
        ("Hello World\r\n", False),
        ("", False),
    ],
)
def test_another_message_in_the_same_datagram(rest: str, another: bool) -> None:
    raw = (GOOD + "\n").replace("\n", "\r\n") + rest
    assert validity.holds_another_message(parse(raw.encode())) is another


SESSION = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"
ADDRESS = "c=IN IP4 192.0.2.1\r\n"
AUDIO = "m=audio 4000 RTP/AVP 0\r\n"


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (SESSION + ADDRESS + "t=0 0\r\n" + AUDIO, True),
        (SESSION + "t=0 0\n" + AUDIO + ADDRESS, True),
        (SESSION + "t=0 0", True),
        (SESSION + "t=0 0\r\n" + AUDIO, False),
        (SESSION + "t=0 0\r\n" + AUDIO + ADDRESS + AUDIO, False),
        (SESSION + ADDRESS + "m=audio 4000 RTP/AVP\r\n", False),
        (SESSION + ADDRESS + "m=\r\n", False),
        (SESSION + "garbage\r\n", False),
        ("garbage", False),
        ("", False),
        (ADDRESS + SESSION, False),
    ],
)
def test_a_session_description_has_lines_and_an_address_for_each_stream(body: str, valid: bool) -> None:
    assert sdp.is_valid(body) is valid
