"""The R-URI, the destination and the branches: reading and writing."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Value
from tests.support.script_context import expand, put, request, value, with_ruri


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
        ("$ru", None, "sip:bob@biloxi.example:5080;transport=udp;lr?X=1"),
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
    put(ctx, "$dd", "h.example")
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
    assert value(ctx, "$ru_q") is None
    put(ctx, "$ru_q", 500)
    assert value(ctx, "$ru_q") == 500


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
    assert value(ctx, "$socket_out") is None
    put(ctx, "$socket_out", "udp:192.0.2.10:5070")
    assert expand(ctx, "$socket_out $socket_out(port)") == "udp:192.0.2.10:5070 5070"
    put(ctx, "$socket_out", "udp:192.0.2.99:5070")
    assert value(ctx, "$socket_out(ip)") == "192.0.2.10"
