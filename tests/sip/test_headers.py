"""What stands in headers: Via, addresses, parameters, lists, credentials."""

from __future__ import annotations

import pytest

from opensips_py.sip.cseq import parse_cseq
from opensips_py.sip.digest import digest_response, ha1, parse_credentials
from opensips_py.sip.headers import kind_of, quotes_balanced, split_values
from opensips_py.sip.message import ParseError
from opensips_py.sip.nameaddr import parse_nameaddr
from opensips_py.sip.params import parse_params, quote, split_quoted, unquote
from opensips_py.sip.via import parse_via


def test_via() -> None:
    via = parse_via(
        "SIP / 2.0 / udp  first.example.com:4000;ttl=16 ;maddr=224.2.0.1 ;Branch=z9hG4bKa7c6a8.1;rport=;received=1.2.3.4"
    )
    assert (via.transport, via.host, via.port, via.branch) == ("UDP", "first.example.com", 4000, "z9hG4bKa7c6a8.1")
    assert (via.received, via.rport, "rport" in via.params, via.params["ttl"]) == ("1.2.3.4", None, True, "16")
    assert parse_via("SIP/2.0/UDP h;rport=5062").rport == 5062


def test_via_with_an_ipv6_reference() -> None:
    via = parse_via("SIP/2.0/TLS [2001:db8::9:1];branch=z9hG4bKas3")
    assert (via.host, via.address, via.port, via.effective_port) == ("[2001:db8::9:1]", "2001:db8::9:1", None, 5061)


def test_via_with_a_comment() -> None:
    via = parse_via("SIP/2.0/TLS h.example;branch=z9hG4bKx;foo;bar=baz (a (small) comment)")
    assert (via.comment, via.branch, via.params["bar"], via.params["foo"]) == ("a (small) comment", "z9hG4bKx", "baz", None)


@pytest.mark.parametrize(
    "text", ["", "garbage", "SIP/2.0/UDP", "SIP/2.0 h", "HTTP/2.0/UDP h", "SIP/2.0/UDP h:0x1", "SIP/2.0/UDP h h"]
)
def test_bad_vias_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_via(text)


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("<sip:a@b>", "", "sip:a@b", {}),
        ("sip:a@b;tag=1", "", "sip:a@b", {"tag": "1"}),
        ("<sip:a@b;x=1>;TAG=2;flag", "", "sip:a@b;x=1", {"tag": "2", "flag": None}),
        ("Bob Lee <sip:a@b> ; q=0.5", "Bob Lee", "sip:a@b", {"q": "0.5"}),
        ('"A \\"q\\" <x>, B"<sip:a@b>;tag=1', '"A \\"q\\" <x>, B"', "sip:a@b", {"tag": "1"}),
        ('<sip:a@b>;p="x;y=\\"z";r', "", "sip:a@b", {"p": '"x;y=\\"z"', "r": None}),
        ("*", "", "*", {}),
        ('sip:a@b;tag=9;x="a<b"', "", "sip:a@b", {"tag": "9", "x": '"a<b"'}),
        ('sip:a@b;+sip.instance="<urn:uuid:1>";tag=2', "", "sip:a@b", {"+sip.instance": '"<urn:uuid:1>"', "tag": "2"}),
        ('Bob <sip:a@b>;x="<y>"', "Bob", "sip:a@b", {"x": '"<y>"'}),
    ],
)
def test_addresses(text: str, display: str, uri: str, params: dict[str, str | None]) -> None:
    found = parse_nameaddr(text)
    assert (found.display, found.uri, found.params, found.tag) == (display, uri, params, params.get("tag"))


@pytest.mark.parametrize("text", ["", '"open <sip:a@b>', "<sip:a@b", '"name" sip:a@b', '"name" x <sip:a@b>', "<sip:a@b> x"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_nameaddr(text)


def test_display_text_has_neither_quotes_nor_escapes() -> None:
    assert parse_nameaddr('"A \\"q\\" \\\\" <sip:a@b>').display_text == 'A "q" \\'


def test_lists_are_split_at_commas_that_separate() -> None:
    assert split_values('"a,b" <sip:x,y@h>;p="c,d", sip:e ,(f, g) h') == ['"a,b" <sip:x,y@h>;p="c,d"', "sip:e", "(f, g) h"]
    assert split_values(" a , ,b") == ["a", "", "b"]


def test_of_repeated_parameters_the_first_counts() -> None:
    assert parse_params(";a=1;;A=2; b = 3 ;c") == {"a": "1", "b": "3", "c": None}


def test_quoting() -> None:
    assert quote('a"\\') == '"a\\"\\\\"' and unquote(quote('a"\\')) == 'a"\\' and unquote("plain") == "plain"


@pytest.mark.parametrize("text", ["", "1", "INVITE", "-1 INVITE", "1 IN(VITE", "1 INVITE x", "\xb2 INVITE"])
def test_bad_cseqs_are_none(text: str) -> None:
    assert parse_cseq(text) is None


@pytest.mark.parametrize(("name", "kind"), [("v", "via"), ("VIA", "via"), ("CALL-id", "call-id"), ("X-Foo", "x-foo"), ("s", "s")])
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_digest_as_in_rfc_2617() -> None:
    credentials = parse_credentials(
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html",'
        ' qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9"'
    )
    stored = ha1("Mufasa", "testrealm@host.com", "Circle Of Life")
    assert digest_response(credentials, stored, "GET") == credentials.response
    assert (credentials.user, credentials.domain, credentials.opaque) == ("Mufasa", None, "5ccc069c403ebaf9")


def test_digest_as_in_rfc_7616() -> None:
    credentials = parse_credentials(
        'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=SHA-256,'
        ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,'
        ' cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth,'
        ' response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"'
    )
    stored = ha1("Mufasa", "http-auth@example.org", "Circle of Life", "SHA-256")
    assert digest_response(credentials, stored, "GET") == credentials.response


def test_digest_without_qop() -> None:
    credentials = parse_credentials('digest username="alice@example.org",realm="r",nonce="n",uri="sip:x",response="0"')
    assert (credentials.username, credentials.user, credentials.domain, credentials.qop) == (
        "alice@example.org",
        "alice",
        "example.org",
        None,
    )
    stored = ha1("alice@example.org", "r", "secret")
    assert digest_response(credentials, stored, "REGISTER") == "1d93274a56bc61b98cf04beae31a525a"


@pytest.mark.parametrize("text", ['Basic realm="x"', "", "NoOneKnowsThisScheme opaque-data=here"])
def test_other_schemes_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_credentials(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('"a,b" <sip:a@b>, c', ['"a,b" <sip:a@b>', "c"]),
        (r'"a\",b", c', [r'"a\",b"', "c"]),
        ('"a, b', ['"a, b']),
        ('"a, b\\', ['"a, b\\']),
        ("<sip:a,b>,<c", ["<sip:a,b>", "<c"]),
        ('<a"b>,c"d,e"', ['<a"b>', 'c"d,e"']),
        ("a (b,(c,d)) ,e", ["a (b,(c,d))", "e"]),
        ("((a,b), c", ["((a,b)", "c"]),
        ("(,(,(", ["(", "(", "("]),
        ("(a,b,\\", ["(a", "b", "\\"]),
        (",,", ["", "", ""]),
    ],
)
def test_commas_in_quotes_brackets_and_comments_do_not_count(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ('a;b="c;d";e', ["a", 'b="c;d"', "e"]),
        (r'a="b\";c";d', [r'a="b\";c"', "d"]),
        ('a;"b;c', ["a", '"b;c']),
        ('a;"b;c\\', ["a", '"b;c\\']),
        (';"";', ["", '""', ""]),
        ("", [""]),
    ],
)
def test_separators_in_quotes_do_not_count(text: str, pieces: list[str]) -> None:
    assert split_quoted(text, ";") == pieces


@pytest.mark.parametrize("text", ["", "a", '""', r'"\""', '"a" "b"', '"a\\\\"'])
def test_quotes_are_balanced(text: str) -> None:
    assert quotes_balanced(text)
    assert not quotes_balanced(text + '"')
    assert not quotes_balanced(text + '"\\')
