"""Reading messages."""

from __future__ import annotations

import pytest

from opensips_py.sip.message import BadMessage, ParseError, SipMessage, parse

INVITE = (
    "INVITE sip:bob@example.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bKa, SIP/2.0/TCP 192.0.2.2;branch=z9hG4bKb\r\n"
    "v: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKc\r\n"
    "Route: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>\r\n"
    'f: "Alice, A." <sip:alice@example.org>;tag=1\r\n'
    "t: <sip:bob@example.com>\r\n"
    "i: c1@192.0.2.1\r\n"
    "CSeq: 7 INVITE\r\n"
    "Subject: a\r\n  b \r\n"
    "X-Odd:  value\t\r\n"
    "m: <sip:alice@192.0.2.1:5061>;q=0.5, sip:a2@192.0.2.9;expires=60\r\n"
    "Max-Forwards: 70\r\n"
    "c: text/plain\r\n"
    "l: 5\r\n"
    "\r\n"
    "hello"
)


@pytest.fixture
def msg() -> SipMessage:
    return parse(INVITE.encode())


def test_first_line_of_a_request(msg: SipMessage) -> None:
    assert (msg.is_request, msg.method, msg.ruri, msg.version) == (True, "INVITE", "sip:bob@example.com", "SIP/2.0")


def test_first_line_of_a_reply() -> None:
    reply = parse(b"SIP/2.0 180 Ringing you up\r\nVia: SIP/2.0/UDP a\r\nCSeq: 1 INVITE\r\n\r\n")
    assert (reply.is_request, reply.status, reply.reason, reply.method) == (False, 180, "Ringing you up", "INVITE")


def test_compact_forms_and_case_do_not_matter(msg: SipMessage) -> None:
    assert [h.kind for h in msg.headers][:6] == ["via", "via", "route", "from", "to", "call-id"]
    assert parse(INVITE.replace("CSeq", "cSEQ").encode()).cseq == (7, "INVITE")


def test_values(msg: SipMessage) -> None:
    assert msg.from_ is not None and msg.to is not None
    assert (msg.from_.display_text, msg.from_.uri, msg.from_.tag) == ("Alice, A.", "sip:alice@example.org", "1")
    assert (msg.to.uri, msg.to.tag) == ("sip:bob@example.com", None)
    assert (msg.call_id, msg.cseq, msg.max_forwards) == ("c1@192.0.2.1", (7, "INVITE"), 70)
    assert (msg.content_type, msg.content_length, msg.body) == ("text/plain", 5, "hello")
    assert msg.user_agent is None and msg.header("user-agent") is None and msg.all("expires") == []


def test_lists_span_headers_and_commas(msg: SipMessage) -> None:
    assert [via.branch for via in msg.vias] == ["z9hG4bKa", "z9hG4bKb", "z9hG4bKc"]
    assert msg.via.branch == "z9hG4bKa"
    assert [route.uri for route in msg.routes] == ["sip:p1.example.com;lr", "sip:p2.example.com;lr"]
    assert [(c.uri, dict(c.params)) for c in msg.contacts] == [
        ("sip:alice@192.0.2.1:5061", {"q": "0.5"}),
        ("sip:a2@192.0.2.9", {"expires": "60"}),
    ]
    assert msg.record_routes == []


def test_values_keep_folding_and_trailing_blanks(msg: SipMessage) -> None:
    subject, odd = msg.header("subject"), msg.header("x-odd")
    assert subject is not None and odd is not None
    assert (subject.value, odd.value) == ("a\r\n  b ", "value\t")


@pytest.mark.parametrize("text", [INVITE, INVITE.replace("\r\n  b", ""), INVITE.replace("\r\n", "\n")])
def test_offsets_point_into_the_text(text: str) -> None:
    msg = parse(text.encode())
    position = text.index("\n") + 1
    for header in msg.headers:
        assert header.start == position
        assert msg.text[header.start :].startswith(header.name)
        assert msg.text[header.value_start : header.value_end] == header.value
        assert msg.header(header.kind) in msg.all(header.kind)
        position = header.end
    assert position == msg.headers_end
    assert msg.text[msg.body_start :] == "hello"


def test_line_ends_before_the_first_line_are_ignored() -> None:
    msg = parse(b"\r\n\r\n" + INVITE.encode())
    assert msg.raw == INVITE.encode() and msg.method == "INVITE"


def test_bytes_survive_whatever_their_encoding() -> None:
    raw = INVITE.encode().replace(b"Subject: a", b"Subject: \xff\xfe\x00")
    assert parse(raw).serialise() == raw


def test_content_length_ends_the_body() -> None:
    assert parse(INVITE.encode() + b"INVITE sip:x SIP/2.0").body == "hello"


def test_content_length_beyond_the_datagram_is_tolerated() -> None:
    msg = parse(INVITE.replace("l: 5", "l: 50").encode())
    assert (msg.content_length, msg.body) == (50, "hello")


def test_without_content_length_the_body_is_the_rest() -> None:
    assert parse(INVITE.replace("l: 5\r\n", "").encode()).body == "hello"


def test_unreadable_values_are_none() -> None:
    text = INVITE.replace("CSeq: 7 INVITE", "CSeq: seven INVITE").replace("Max-Forwards: 70", "Max-Forwards: many")
    msg = parse(text.encode())
    assert (msg.cseq, msg.max_forwards) == (None, None)


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("<sip:bob@example.com", "'>' is missing"),
        ("<sip:b@x> tag=1", "unexpected text after '>'"),
        ("<sip:b@x>;tag=", "the tag is empty"),
        ("<sip:b@x>;tag=;x=y", "the tag is empty"),
        ("sip:b@x;tag=", "the tag is empty"),
        ("<sip:b@x>, <sip:c@x>", "To"),
        ('A "b <sip:b@x>', "not quoted"),
        ('A "b" <sip:b@x>', "not quoted"),
        ("", "empty address"),
        (";tag=1", "empty address"),
    ],
)
def test_a_broken_to_is_refused_on_reception(to: str, reason: str) -> None:
    with pytest.raises(BadMessage) as raised:
        parse(INVITE.replace("t: <sip:bob@example.com>", f"t: {to}").encode())
    assert reason in raised.value.reason or "quoted string" in raised.value.reason


@pytest.mark.parametrize(
    "to",
    [
        "sip:b@x",
        "sip:b@x;tag=1",
        '"B, C" <sip:b@x>;tag=1',
        "B C<sip:b@x;p=1?h=v> ;tag=a ;x",
        '"a\\"b" <sip:b@x>',
        "<tel:+1>;tagged=;x=",
    ],
)
def test_a_to_of_any_good_form_is_taken(to: str) -> None:
    assert parse(INVITE.replace("t: <sip:bob@example.com>", f"t: {to}").encode()).to is not None


@pytest.mark.parametrize("cseq", ["", " ", "INVITE", "7 INVITE x"])
def test_a_cseq_that_is_not_two_words_is_refused_on_reception(cseq: str) -> None:
    with pytest.raises(BadMessage, match="bad CSeq"):
        parse(INVITE.replace("CSeq: 7 INVITE", f"CSeq: {cseq}").encode())


def test_an_unreadable_contact_is_an_error() -> None:
    msg = parse(INVITE.replace("m: <sip:alice@192.0.2.1:5061>", "m: <sip:alice@192.0.2.1:5061").encode())
    with pytest.raises(ParseError):
        _ = msg.contacts


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("INVITE sip:bob@example.com SIP/2.0", "INVITE  sip:bob@example.com SIP/2.0", "white space in the request line"),
        ("X-Odd:  value", "X-Odd value", "header line without a colon"),
        ("X-Odd:", "X Odd:", "bad header name"),
        ("l: 5", "l: -5", "bad Content-Length"),
        ("l: 5", "l: five", "bad Content-Length"),
        ('"Alice, A."', '"Alice, A.', "quoted string does not end"),
        ("\r\n\r\nhello", "\r\n", "no empty line"),
    ],
)
def test_malformed_requests_can_be_answered(old: str, new: str, reason: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse(INVITE.replace(old, new, 1).encode())
    assert reason in caught.value.reason
    assert caught.value.message.via.host == "192.0.2.1"
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("INVITE sip:bob@example.com SIP/2.0", "GARBAGE LINE WITHOUT SIP"),
        ("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 99 Early"),
        ("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 7000 Late"),
        ("INVITE sip", "INV(ITE sip"),
        ("Via: SIP/2.0/UDP 192.0.2.1:5061", "Via: SIP/2.0/UDP 192.0.2.1:99999"),
        ("Via: SIP/2.0/UDP 192.0.2.1:5061", "Via: nothing"),
        ("INVITE sip:bob@example.com SIP/2.0", "ACK  sip:bob@example.com SIP/2.0"),
    ],
)
def test_what_cannot_be_answered_is_said_so(old: str, new: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(INVITE.replace(old, new, 1).encode())
    assert not isinstance(caught.value, BadMessage)


def test_a_message_without_via_is_refused() -> None:
    with pytest.raises(ParseError, match="no Via") as caught:
        parse(b"OPTIONS sip:a SIP/2.0\r\nTo: <sip:a>\r\n\r\n")
    assert not isinstance(caught.value, BadMessage)


def test_an_empty_datagram_is_refused() -> None:
    with pytest.raises(ParseError):
        parse(b"\r\n\r\n")


def test_other_versions_in_the_request_line_reach_the_script() -> None:
    assert parse(INVITE.replace("SIP/2.0\r\n", "SIP/3.0\r\n", 1).encode()).version == "SIP/3.0"


def test_a_bare_line_feed_ends_a_line_too() -> None:
    msg = parse(INVITE.replace("Subject: a\r\n  b \r\n", "Subject: a\nX-Hidden: 1\r\n").encode())
    assert [h.value for h in (*msg.all("subject"), *msg.all("x-hidden"))] == ["a", "1"]
    early_end = parse(INVITE.replace("Subject: a\r\n  b \r\n", "Subject: a\n\r\n").replace("l: 5\r\n", "").encode())
    assert early_end.header("x-odd") is None and early_end.body.startswith("X-Odd:")


@pytest.mark.parametrize(
    "number", ["0", "4294967295", "36893488147419103232", "9" * 32, "9" * 33, "9" * 5000, "\xb2", "-1", "0x1"]
)
def test_a_complete_request_has_a_number_in_cseq(number: str) -> None:
    others = "Via: SIP/2.0/UDP h\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n"
    raw = f"OPTIONS sip:a@b SIP/2.0\r\n{others}CSeq: {number} OPTIONS\r\n\r\n"
    msg = parse(raw.encode("latin-1"))
    assert msg.complete == (msg.cseq is not None)
    assert msg.cseq is None or str(msg.cseq.number) == number
