"""The R-URI, the destination and the branches: reading and writing."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Value
from tests.support.script_context import expand, put, refused, request, value, with_ruri


def test_parts_of_the_ruri() -> None:
    whole = "sip:bob@biloxi.example:5080;transport=udp;lr?X=1"
    assert expand(request(), "$ru $rU $rd $rp $rP") == f"{whole} bob biloxi.example 5080 udp"
    assert expand(request(), "$ruri.user $ruri.domain $duri $ou $oU $od $op $oP").startswith("bob biloxi.example <null> sip:bob@")


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("sip:h.example", "<null> h.example 5060 udp"),
        ("sips:u@h.example", "u h.example 5061 tls"),
        ("tel:+1555;phone-context=ex", "+1555 <null> 5060 udp"),
        ("sip:u@[2001:db8::1]:5090;transport=TCP", "u [2001:db8::1] 5090 tcp"),
    ],
)
def test_parts_of_other_uris(uri: str, printed: str) -> None:
    assert expand(with_ruri(uri), "$rU $rd $rp $rP") == printed


@pytest.mark.parametrize(
    ("text", "new", "uri"),
    [
        ("$ru", "sip:x@y", "sip:x@y"),
        ("$ru", "", "sip:bob@biloxi.example:5080;transport=udp;lr?X=1"),
        ("$rU", "a:pw:x", None),
        ("$rp", "abc", None),
        ("$rp", 70000, None),
        ("$rp", 0, "sip:bob@biloxi.example:0;transport=udp;lr?X=1"),
        ("$rU", "carol", "sip:carol@biloxi.example:5080;transport=udp;lr?X=1"),
        ("$rU", None, "sip:biloxi.example:5080;transport=udp;lr?X=1"),
        ("$rd", "h.example", "sip:bob@h.example:5080;transport=udp;lr?X=1"),
        ("$rp", 99, "sip:bob@biloxi.example:99;transport=udp;lr?X=1"),
        ("$rp", None, "sip:bob@biloxi.example;transport=udp;lr?X=1"),
    ],
)
def test_writing_the_ruri(text: str, new: Value, uri: str) -> None:
    ctx = request()
    put(ctx, text, new)
    assert value(ctx, "$ru") == uri


def test_a_ruri_that_is_none_reads_as_null() -> None:
    ctx = request()
    put(ctx, "$ru", "notauri")
    assert expand(ctx, "$ru $rU $rd $rp") == "<null> <null> <null> <null>"


def test_parts_of_the_destination_are_written_only_when_there_is_one() -> None:
    ctx = request()
    assert refused(ctx, "$dd", "h.example")
    assert value(ctx, "$du") is None
    put(ctx, "$du", "sip:10.0.0.1:5080")
    put(ctx, "$dd", "h.example")
    put(ctx, "$dp", 5555)
    assert expand(ctx, "$du $dd $dp $dP") == "sip:h.example:5555 h.example 5555 udp"
    put(ctx, "$dp", None)
    assert value(ctx, "$du") == "sip:h.example"
    put(ctx, "$du", None)
    assert value(ctx, "$du") is None


def test_q_is_in_thousandths() -> None:
    ctx = request()
    assert value(ctx, "$ru_q") == -1
    put(ctx, "$ru_q", 500)
    assert value(ctx, "$ru_q") == 500
    assert refused(ctx, "$ru_q", "0.3")
    assert refused(ctx, "$ru_q", None)
    assert value(ctx, "$ru_q") == 500
    put(ctx, "$ru_q", 2000)
    assert value(ctx, "$ru_q") == 1000
    put(ctx, "$ru", "sip:other@h")
    assert value(ctx, "$ru_q") == -1


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("urn:service:sos.fire", "urn:service:sos.fire <null> sos.fire 5060"),
        ("sip:+1;npdi;rn=+2@gw;user=phone;x=%22", "sip:+1;npdi;rn=+2@gw;user=phone;x=%22 +1;npdi;rn=+2 gw 5060"),
        ('sip:+1@gw;x="q;r"', 'sip:+1@gw;x="q;r" +1 gw 5060'),
        ("sip:u@h:0", "sip:u@h:0 u h 0"),
        ("sip:u@@h", "<null> <null> <null> <null>"),
        ("sip:u@h:99999", "<null> <null> <null> <null>"),
    ],
)
def test_a_ruri_that_is_none_is_null(uri: str, printed: str) -> None:
    ctx = with_ruri(uri)
    assert expand(ctx, "$ru $rU $rd $rp") == printed
    assert expand(ctx, "$ouri $oU $od $op") == printed


@pytest.mark.parametrize("text", ["$ru", "$rU", "$rd", "$rp", "$du", "$path", "$branch"])
@pytest.mark.parametrize("hostile", ["sip:a@h\r\nX: y", "a\nb", "a\0b"])
def test_what_ends_a_line_gets_into_no_uri(text: str, hostile: str) -> None:
    ctx = request()
    assert refused(ctx, text, hostile)
    assert expand(ctx, "$ru $du $path $branch") == expand(request(), "$ru $du $path $branch")


@pytest.mark.parametrize("text", ["$ru", "$rU", "$rd", "$du", "$branch"])
def test_a_number_is_no_uri(text: str) -> None:
    assert refused(request(), text, 5)


@pytest.mark.parametrize("text", ["$dd", "$dp"])
def test_parts_of_the_destination_need_one(text: str) -> None:
    assert refused(request(), text, "5070")


def test_branches() -> None:
    ctx = request()
    put(ctx, "$branch", "sip:b1@h1.example")
    put(ctx, "$branch", "sip:b2@h2.example")
    put(ctx, "$(branch(duri)[0])", "sip:d1.example")
    put(ctx, "$(branch(q)[1])", 700)
    assert expand(ctx, "$branch $(branch(uri)[1]) $(branch(uri)[2]) $(branch(uri)[-1])") == (
        "sip:b1@h1.example sip:b2@h2.example <null> sip:b2@h2.example"
    )
    assert expand(ctx, "$(branch(uri)[*]) $(branch(duri)[0]) [$(branch(q)[0])] $(branch(q)[1])") == (
        "sip:b1@h1.example, sip:b2@h2.example sip:d1.example [] 0.7"
    )
    assert value(ctx, "$ds") == "Contact: <sip:b1@h1.example>, <sip:b2@h2.example>;q=0.7"
    put(ctx, "$(branch(uri)[1])", "sip:new@h.example")
    assert value(ctx, "$(branch(uri)[1])") == "sip:new@h.example"


def test_the_outgoing_socket_is_one_of_the_servers() -> None:
    ctx = request()
    assert expand(ctx, "$socket_out $fs") == "udp:192.0.2.10:5070 <null>"
    put(ctx, "$socket_out", "udp:192.0.2.10:5070")
    assert expand(ctx, "$socket_out $socket_out(port)") == "udp:192.0.2.10:5070 5070"
    put(ctx, "$socket_out", "udp:192.0.2.99:5070")
    assert value(ctx, "$socket_out(ip)") == "192.0.2.10"
    put(ctx, "$fs", None)
    assert expand(ctx, "$socket_out(port) $fs") == "5070 <null>"
    put(ctx, "$fs", "192.0.2.10")
    assert value(ctx, "$fs") == "udp:192.0.2.10:5070"
    assert refused(ctx, "$fs", 5)
