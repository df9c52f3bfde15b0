"""URIs."""

from __future__ import annotations

import pytest

from opensips_py.sip.message import ParseError
from opensips_py.sip.uri import Uri, escape, loose_uri, parse_uri, same_uri, unescape, uri_or_none

GOOD = {
    "sip:h.example": Uri("sip", host="h.example"),
    "sip:alice:secret@atlanta.example.org:5066;p1=v1;p2": Uri(
        "sip", "alice", "secret", "atlanta.example.org", 5066, params_text="p1=v1;p2"
    ),
    "sip:+1-555;phone-context=x@host.example.com:15060;user=phone;lr?X-H=1&Y=2": Uri(
        "sip", "+1-555;phone-context=x", None, "host.example.com", 15060, "user=phone;lr", "X-H=1&Y=2"
    ),
    "sip:u:pw@[2001:db8::1]:5088;ttl=3": Uri("sip", "u", "pw", "[2001:db8::1]", 5088, "ttl=3"),
    "SIPS:h.example:5061?Subject=x": Uri("SIPS", host="h.example", port=5061, headers_text="Subject=x"),
    "sip:%61lice@h;maddr=1.2.3.4": Uri("sip", "%61lice", host="h", params_text="maddr=1.2.3.4"),
    "tel:+1-555;phone-context=ex": Uri("tel", "+1-555", params_text="phone-context=ex"),
    "urn:service:sos": Uri("urn", host="sos", namespace="service"),
    "urn:nena:service:sos": Uri("urn", host="sos", namespace="nena:service"),
    'sip:+1;npdi;rn=+2@gw;x="q;r";ttl=5': Uri("sip", "+1;npdi;rn=+2", None, "gw", params_text='x="q;r";ttl=5'),
    "sip:h:0": Uri("sip", host="h", port=0),
}


@pytest.mark.parametrize("text", GOOD)
def test_parts_and_text(text: str) -> None:
    assert parse_uri(text) == GOOD[text]
    assert str(parse_uri(text)) == text


def test_an_empty_password_or_port_counts_as_none() -> None:
    assert parse_uri("sip:user:@h.example:") == Uri("sip", "user", host="h.example")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "notauri",
        "sip:",
        "sip:@h",
        "sip:h:99999",
        "sip:h:5x",
        "sip:a b@h",
        "sip:a@h h",
        "<sip:a@h>",
        "http://h",
        "tel:",
        "sip:[::g]",
        'sip:a"b@h',
        "sip:a@h;x=<y>",
        "sip:a\r\n@h",
        "urn:uuid:1",
        "urn:service:",
    ],
)
def test_what_is_not_a_uri_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_uri(text)
    assert uri_or_none(text) is None


def test_scripts_see_a_uri_with_blanks_and_nothing_else_does() -> None:
    assert loose_uri("sip:a b@h h;x") == Uri("sip", "a b", None, "h h", params_text="x")
    assert loose_uri("sip:a@h") is parse_uri("sip:a@h")
    assert loose_uri("sip:a\tb@h") is None


def test_of_several_transports_the_last_counts() -> None:
    assert parse_uri("sip:h;transport=udp;Transport=tcp").transport == "tcp"


def test_long_texts_are_not_kept() -> None:
    text = "sip:" + "a" * 300 + "@h"
    assert parse_uri(text) == parse_uri(text)
    assert parse_uri(text) is not parse_uri(text)


def test_params_and_defaults() -> None:
    uri = parse_uri("sips:h;Transport=TCP;lr;x=1?To=a&b=c")
    assert (uri.kind, uri.transport, uri.lr, uri.effective_port) == ("sips", "TCP", True, 5061)
    assert dict(uri.params) == {"transport": "TCP", "lr": None, "x": "1"}
    assert dict(uri.headers) == {"to": "a", "b": "c"}
    assert parse_uri("sip:[::1]").address == "::1"


def test_a_part_can_be_replaced() -> None:
    uri = parse_uri("sip:a:pw@h:5080;lr?x=y")
    assert str(uri._replace(user="b", password=None, port=None)) == "sip:b@h;lr?x=y"
    assert str(uri._replace(user=None, password=None)) == "sip:h:5080;lr?x=y"


SAME = [  # RFC 3261 19.1.4
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
    ("sip:biloxi.com;transport=tcp;method=BYE?to=sip:bob%40b.com", "sip:biloxi.com;method=BYE;transport=tcp?to=sip:bob%40b.com"),
    ("sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:a@h", "sips:a@h"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_equal_uris(a: str, b: str) -> None:
    assert same_uri(a, b) and same_uri(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_uris(a: str, b: str) -> None:
    assert not same_uri(a, b) and not same_uri(b, a)


def test_escapes() -> None:
    assert escape("a b%@:\xff") == "a%20b%25%40%3A%FF"
    assert unescape(escape("a b%@:\xff")) == "a b%@:\xff"
    assert unescape("100%") == "100%"
