"""Variables that are read from the message."""

from __future__ import annotations

import copy

import pytest

from opensips_py.engine.dummy_request import report_context
from opensips_py.script.context import RouteKind
from opensips_py.server.process import this
from opensips_py.sip.message import parse
from tests.support.script_context import SDP, SOCKET, expand, put, refused, request, value


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("$rm $ci $cs $cl", f"INVITE call-1@test 4711 {len(SDP) + SDP.count(chr(10))}"),
        ("$fu $fU $fd $fn $ft", 'sip:alice:pw@atlanta.example:5066;p1=v1;p2 alice atlanta.example "Alice \\"A\\"" ft-1'),
        ("$tu $tU $td $tn $tt", "sips:bob@biloxi.example;user=phone bob biloxi.example Bob <null>"),
        ("$from|$to", "sip:alice:pw@atlanta.example:5066;p1=v1;p2|sips:bob@biloxi.example;user=phone"),
        ("$ua $cT", "Phone/1.0 application/sdp"),
        ("$si:$sp $proto $pr $src_ip $af", "198.51.100.7:5061 udp udp 198.51.100.7 INET"),
        ("$Ri:$Rp $socket_in $socket_in(port) $socket_in(tag)", "192.0.2.10:5070 udp:192.0.2.10:5070 5070 inside"),
        ("$hdr(X-Multi) $(hdr(X-Multi)[1]) $(hdr(X-Multi)[-1]) $(hdr(x-multi)[*])", "one two three one, two, three"),
        ("$hdrcnt(X-Multi) $hdrcnt(none)", "3 0"),
        ("[$hdr(X-Empty)] [$hdr(X-Padded)] [$hdr(X-Folded)] [$hdr(None)]", "[] [value  ] [a,\r\n b] [<null>]"),
        ("$hdr(k) | $hdr(Supported) | $hdr(i)", "timer, 100rel | timer, 100rel | call-1@test"),
        ("[$hdr(Subject)] [$hdr(s)]", "[<null>] [short subject]"),
        ("$hdr_name $(hdr_name[-1])", "Via Content-Length"),
        ("$di $dip $dir", "sip:div@d.example full no-answer"),
        ("$msg.type $msg.is_request $rs $rr", "request true <null> <null>"),
        ("$(rb{s.len}) $(rb(application/sdp){s.len}) $rb(text/plain)", f"{len(SDP) + 11} {len(SDP) + 11} <null>"),
        ("$rT $rc", "request_route 1"),
    ],
)
def test_the_message_as_received(text: str, printed: str) -> None:
    assert expand(request(), text) == printed


def test_contacts_are_walked_over_commas_and_headers() -> None:
    ctx = request()
    assert expand(ctx, "$(ct[1]) $(ct[-1])") == "<sip:c2@192.0.2.2> sip:c3@192.0.2.3;expires=60"
    assert expand(ctx, "$(ct.fields(uri)[*])") == "sip:c1@192.0.2.1;ob, sip:c2@192.0.2.2, sip:c3@192.0.2.3"
    text = "$ct.fields(name) $ct.fields(q) $(ct.fields(expires)[2]) $ct.fields(methods)"
    assert expand(ctx, text) == '"One" 0.7 60 <null>'
    assert expand(ctx, "$(hdr(Contact)[1])") == "<sip:c2@192.0.2.2>, sip:c3@192.0.2.3;expires=60"


def test_a_multipart_body_is_read_by_part() -> None:
    text = (
        "MESSAGE sip:b@example SIP/2.0\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKa\n"
        'Content-Type: multipart/mixed;boundary="xx"\nContent-Length: *\n\n'
        "--xx\nContent-Type: text/plain\n\nhello\n--xx\nContent-Type: application/sdp\n\nv=0\n--xx--\n"
    )
    ctx = request(text)
    assert (value(ctx, "$rb(text/plain)"), value(ctx, "$rb(application/sdp)"), value(ctx, "$(rb[1])")) == ("hello", "v=0", "v=0")


def test_numbers_have_a_number_form_and_the_cseq_has_none() -> None:
    ctx = request()
    assert value(ctx, "$sp") == 5061
    assert value(ctx, "$cs") == "4711"
    assert value(ctx, "$ml") == len(ctx.msg.text)


AUTH = (
    "REGISTER sip:example SIP/2.0\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKa\nFrom: <sip:alice@example.org>;tag=1\n"
    'Authorization: Digest username="bob@b.example", realm="r,1", nonce="n", uri="sip:x", '
    'response="ab", qop=auth, nc=00000001\n\n'
)


def test_credentials() -> None:
    ctx = request(AUTH)
    assert expand(ctx, "$au $aU $ad $ar $adu $an") == "bob bob@b.example b.example r,1 sip:x n"
    assert expand(ctx, "$auth.resp $auth.qop $auth.nc $auth.opaque $Au") == "ab auth 00000001 <null> alice@example.org"
    assert value(request(), "$au") is None


def test_colours_and_time() -> None:
    ctx = request()
    assert expand(ctx, "$C(rx)x$C(xx)") == "\x1b[0;31;49mx\x1b[0;39;49m"
    assert int(str(value(ctx, "$Ts"))) > 1_600_000_000
    assert 0 <= int(str(value(ctx, "$Tsm"))) < 1_000_000
    assert str(value(ctx, "$time(%Y)")).isdigit()


def test_route_arguments_by_number_and_in_event_routes_by_name() -> None:
    ctx = request()
    ctx.params = ("first", lambda: 7)
    assert expand(ctx, "$param(1) $param(2) $param(3)") == "first 7 <null>"
    ctx.params = (("name", "alice"), ("age", 7))
    assert expand(ctx, "$param(name) $param(age) $param(none)") == "alice 7 <null>"


def test_the_reply_in_a_failure_route() -> None:
    ctx = request(kind=RouteKind.FAILURE)
    assert value(ctx, "$(<reply>rs)") is None
    reply = "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKa\r\nX-Why: dnd\r\nCSeq: 4711 INVITE\r\n\r\n"
    ctx.reply = parse(reply.encode())
    text = "$(<reply>rs) $(<reply>rr) $(<reply>hdr(X-Why){s.toupper}) $(<request>rm) $rm"
    assert expand(ctx, text) == "486 Busy Here DND INVITE INVITE"


def test_flags_print_their_names() -> None:
    ctx = request()
    assert expand(ctx, "[$mf] $msg.flag(TEST_A)") == "[] false"
    put(ctx, "$msg.flag(TEST_A)", 1)
    put(ctx, "$msg.flag(TEST_B)", 1)
    assert expand(ctx, "$mf $msg.flag(TEST_A)") == "TEST_B TEST_A true"
    put(ctx, "$msg.flag(TEST_A)", 0)
    assert value(ctx, "$mf") == "TEST_B"
    assert refused(ctx, "$msg.flag(TEST_A)", "true")
    assert refused(ctx, "$msg.flag(TEST_B)", None)
    assert value(ctx, "$mf") == "TEST_B"


def test_branch_flags_are_counted_from_the_r_uri() -> None:
    ctx = request()
    assert refused(ctx, "$branch.flag(TEST_A)", 1)
    assert value(ctx, "$branch.flag(TEST_A)") is None
    put(ctx, "$branch", "sip:b@h")
    put(ctx, "$branch", "sip:c@h")
    put(ctx, "$branch.flag(TEST_A)", 1)
    assert (
        expand(ctx, "$(branch.flag(TEST_A)[0]) $(branch.flag(TEST_A)[1]) $(branch.flag(TEST_A)[2]) [$bf]")
        == "true false <null> [TEST_A]"
    )
    put(ctx, "$(branch.flag(TEST_A)[1])", 1)
    put(ctx, "$branch.flag(TEST_A)", 0)
    assert expand(ctx, "$(branch.flag(TEST_A)[0]) $(branch.flag(TEST_A)[1]) [$bf]") == "false true []"
    assert expand(ctx, "$(branch(flags)[0]) $(branch(flags)[1])") == "TEST_A "
    assert refused(ctx, "$(branch(flags)[0])", "no-such-flag")


def test_the_number_of_a_message_stays() -> None:
    ctx = request()
    first = value(ctx, "$mi")
    assert value(copy.copy(ctx), "$mi") == first != value(request(), "$mi")


MULTIPART = """\
INVITE sip:b@h SIP/2.0
Via: SIP/2.0/UDP h;branch=z9hG4bK1
From: <tel:+1555;isub=4>;tag=1
To: urn:nena:service:sos
Call-ID: 1
CSeq: 1 INVITE
Contact: <sip:a@h>, "Two" <sip:b@h>;q=0.5;methods="INVITE, BYE", <sip:c@h>
Authorization: Digest\tusername="al", realm="r"
Content-Type: multipart/mixed;boundary="b 2"
Content-Length: *

--b 2
Content-Type: text/plain

one
--b 2
Content-Type: application/ISUP;version=x

two
--b 2
Content-Type: image/png

three
--b 2--
"""


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("$cT", 'multipart/mixed;boundary="b 2"'),
        ("$(cT[0]) $(cT[1]) $(cT[-1]) $(cT[3])", "text/plain application/isup unknown/unknown <null>"),
        ("$(cT[*])", 'multipart/mixed;boundary="b 2",text/plain,application/isup,unknown/unknown'),
        ("$(rb(application/isup))", "two"),
        ("$(rb[0]) $(rb[-1])", "one three"),
        ("$Au $fU $from.user [$from.domain]", "+1555@ +1555 +1555 [<null>]"),
        ("$to.user $to.domain $td", "<null> sos sos"),
        ("$aU $ar", "al r"),
        ("$(ct.fields(name)[*])", '"Two", '),
        ("$(ct.fields(methods)[1])", "INVITE, BYE"),
        ("$err.class $err.level $err.rcode [$err.info] [$err.rreason]", "0 0 0 [] []"),
        ("$socket_in(anycast)", "0"),
    ],
)
def test_values_that_opensips_gives(text: str, printed: str) -> None:
    assert expand(request(MULTIPART), text) == printed


@pytest.mark.parametrize(
    ("headers", "text", "printed"),
    [
        (
            "Content-Type: garbage\nContent-Length: *",
            "$cT $(cT[0]) $(cT[*]) $rb $(rb[0]) $(rb[*])",
            "garbage <null> <null> x <null> x",
        ),
        ("Content-Type: text/plain", "$rb $(rb[0]) $rb(text/plain)", "<null> <null> <null>"),
        ("Authorization: Digest username=alice, realm\nContent-Length: *", "$aU $ar", "<null> <null>"),
        ("Authorization: Basic username=alice\nContent-Length: *", "$aU", "<null>"),
    ],
)
def test_what_cannot_be_read_is_null(headers: str, text: str, printed: str) -> None:
    message = f"MESSAGE sip:b@h SIP/2.0\nVia: SIP/2.0/UDP h\n{headers}\n\nx"
    assert expand(request(message), text) == printed


def test_a_message_that_came_from_nowhere_has_no_socket() -> None:
    this.sockets = [SOCKET]
    ctx = report_context(RouteKind.STARTUP)
    assert expand(ctx, "$si $sp $pr $Ri $Rp $socket_in $socket_in(af) $socket_out $cl $ru_q") == (
        "0.0.0.0 0 <null> <null> <null> <null> <null> <null> <null> 0"
    )
