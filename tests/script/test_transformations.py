"""Transformations: what each makes of a value."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Value
from tests.support.script_context import SDP, expand, put, request, value

CASES = [
    # text
    ("hello", "s.len", 5),
    (12345, "s.len", 5),
    (-42, "s.substr,0,2", "-4"),
    ("-17", "s.int", -17),
    ("abc", "s.md5", "900150983cd24fb0d6963f7d28e17f72"),
    ("abc", "s.crc32", "3403398717"),
    ("", "s.crc32", "4294967295"),
    ("0" * 5000 + "12", "s.int", 12),
    ("9" * 5000, "s.int", -1),
    ("-" + "9" * 5000, "s.int", 0),
    ("99999999999", "s.int", 1215752191),
    ("MiXed \xe9", "s.tolower", "mixed \xe9"),
    ("mixed \xe9", "s.toupper", "MIXED \xe9"),
    ("AbC~", "s.encode.hexa", "4162437e"),
    ("414", "s.decode.hexa", "A"),
    ("zz", "s.decode.hexa", None),
    ("ff", "s.hex2dec", 255),
    ("zz", "s.hex2dec", None),
    ("0x1F", "s.hex2dec", None),
    ("+5", "s.hex2dec", None),
    ("", "s.hex2dec", 0),
    (-7, "s.hex2dec", -7),
    ("99999999999", "s.hex2dec", -0x66666667),
    ("f" * 5000, "s.hex2dec", -1),
    (255, "s.dec2hex", "ff"),
    ("26", "s.dec2hex", "1a"),
    ("-17", "s.dec2hex", "ffffffef"),
    ("99999999999", "s.dec2hex", "4876e7ff"),
    ("1" + "0" * 5000, "s.dec2hex", "0"),
    ("1_0", "s.dec2hex", None),
    (" 5 ", "s.dec2hex", None),
    ("3x", "s.int}{s.dec2hex", "3"),
    ("a'\"\\", "s.escape.common", "a\\'\\\"\\\\"),
    ("a\\'\\\"\\\\b", "s.unescape.common", "a'\"\\b"),
    ("a b@c:d;e", "s.escape.user", "a%20b%40c%3ad;e"),
    ("a b;c/d", "s.escape.param", "a%20b%3bc/d"),
    ("a\tb", "s.escape.user", None),
    ("%41%42", "s.unescape.user", "AB"),
    ("%4", "s.unescape.user", None),
    ("%00", "s.unescape.param", None),
    ("abcabc", "s.index,b", 1),
    ("abcabc", "s.index,b,2", 4),
    ("abcabc", "s.index,b,-2", 4),
    ("abcabc", "s.index,b,-9", None),
    ("abcabc", "s.index,,1", None),
    ("abcabc", "s.index,zz", None),
    ("abcabc", "s.index,b,99", None),
    ("abcabc", "s.rindex,b", 4),
    ("abcabc", "s.rindex,b,3", 1),
    ("hello", "s.substr,1,3", "ell"),
    ("hello", "s.substr,1,0", "ello"),
    ("hello", "s.substr,1,-1", "ell"),
    ("hello", "s.substr,3,-2", ""),
    ("hello", "s.substr,4,-2", None),
    ("hello", "s.substr,-3,-1", "ll"),
    ("hello", "s.substr,-3,2", "ll"),
    ("hello", "s.substr,5,1", None),
    ("hello", "s.substr,-6,1", None),
    ("a,b,,d", "s.select,1,,", "b"),
    ("a,b,,d", "s.select,2,,", ""),
    ("a,b,,d", "s.select,-1,,", "d"),
    ("a,b,,d", "s.select,4,,", None),
    ("one two", "s.select,1, ", "two"),
    ("485", "s.fill.left,abc,8", "bcabc485"),
    ("485", "s.fill.right,0,6", "485000"),
    ("485", "s.fill.left,0,2", "485"),
    ("abcdef", "s.width,3", "abc"),
    ("ab", "s.width,4", "ab  "),
    ("ab", "s.width,0", None),
    ("ab", "s.width,70000", None),
    ("ab", "s.fill.left,0,2000000000", None),
    ("ab", "s.fill.right,0,2000000000", None),
    ("Hello", "s.b64encode", "SGVsbG8="),
    ("aGk", "s.b64decode", "hi"),
    ("!!!!", "s.b64decode", ""),
    ("Hi", "s.xor,key", "#\x0c"),
    (" \ta b\r\n", "s.trim", "a b"),
    (" a ", "s.trimr", " a"),
    (" a ", "s.triml", "a "),
    ("abc", "s.reverse", "cba"),
    # URIs
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.passwd", "pw"),
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.port", 5088),
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.params", "a=1;lr"),
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.param,A", "1"),
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.param,lr", ""),
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.lr", None),
    ("sip:u:pw@h:5088;a=1;lr?X=1", "uri.headers", "X=1"),
    ("SIPS:h", "uri.schema", "SIPS"),
    ("sip:h", "uri.port", None),
    ("sip:h:0", "uri.port", 0),
    ("sip:a b@c", "uri.user", "a b"),
    ("sip:+15551;rn=+1777;npdi@gw;user=phone", "uri.user", "+15551;rn=+1777;npdi"),
    ("sip:+15551;rn=+1777;npdi@gw;user=phone", "uri.uparam", "phone"),
    ('sip:a@h;q="a;b";z=1', "uri.host", "h"),
    ('sip:a@h;q="a;b";z=1', "uri.params", 'q="a;b";z=1'),
    ('sip:a@h;q="a;b";z=1', "uri.param,q", "a;b"),
    ('sip:a"@h', "uri.host", None),
    ("sip:a@h;;lr", "uri.params}{param.count", 2),
    ("sip:a@h;p=;lr", "uri.param,lr", None),
    ("sip:h;transport=udp;Transport=tcp", "uri.param,transport", "udp"),
    ("urn:service:sos.fire", "uri.host", "sos.fire"),
    ("urn:service:sos.fire", "uri.user", None),
    ("urn:nena:service:sos", "uri.domain", "sos"),
    ("urn:uuid:1", "uri.schema", None),
    ("sip:u@h:99999", "uri.user", None),
    ("tel:+1555;phone-context=ex", "uri.user", "+1555"),
    ("tel:+1555;phone-context=ex", "uri.host", None),
    ("nothing", "uri.host", None),
    # addresses
    ('"D \\"N\\"" <sip:u@h;x=1>;tag=t;p2', "nameaddr.name", '"D \\"N\\""'),
    ('"D \\"N\\"" <sip:u@h;x=1>;tag=t;p2', "nameaddr.uri", "sip:u@h;x=1"),
    ('"D \\"N\\"" <sip:u@h;x=1>;tag=t;p2', "nameaddr.params", "tag=t;p2"),
    ('"D \\"N\\"" <sip:u@h;x=1>;tag=t;p2', "nameaddr.param,p2", None),
    ("Plain <sip:a@b>;tag=x", "nameaddr.len", 15),
    ("  Plain <sip:a@b> ; tag=x", "nameaddr.len", 17),
    ("sip:a@b;tag=x", "nameaddr.len", 7),
    ("<sip:a@b>", "nameaddr.len", 11),
    ("*", "nameaddr.len", 3),
    ("<>", "nameaddr.len", None),
    ("<sip:a@b>;tag=", "nameaddr.uri", None),
    ("", "nameaddr.uri", None),
    ("SIP/2.0/TLS h.example:5070;branch=z9;foo (why)", "via.transport", "TLS"),
    ("SIP/2.0/TLS h.example:5070;branch=z9;foo (why)", "via.port", 5070),
    ("SIP/2.0/TLS h.example:5070;branch=z9;foo (why)", "via.comment", "why"),
    ("SIP/2.0/TLS h.example:5070;branch=z9;foo (why)", "via.param,foo", ""),
    ("garbage", "via.host", None),
    ('SIP/2.0/UDP h;branch="q;r"', "via.branch", "q;r"),
    ('SIP/2.0/UDP h;branch="q;r"', "via.param,branch", "q;r"),
    ("SIP/2.0/UDP h;rport=9", "via.rport", "9"),
    ("SIP/2.0/UDP h;rport", "via.rport", None),
    ("SIP / 2.0 / TLS h : 7 ;branch=q (comment)", "via.params", "branch=q "),
    # lists
    ('a=1;b=22;a=3;flag;q="x;y"', "param.value,A", "1"),
    ('a=1;b=22;a=3;flag;q="x;y"', "param.value,q", "x;y"),
    ('a=1;b=22;a=3;flag;q="x;y"', "param.value,none", None),
    ('a=1;b=22;a=3;flag;q="x;y"', "param.exist,flag", 1),
    ('a=1;b=22;a=3;flag;q="x;y"', "param.valueat,-1", "x;y"),
    ('a=1;b=22;a=3;flag;q="x;y"', "param.name,1", "b"),
    ('a=1;b=22;a=3;flag;q="x;y"', "param.count", 5),
    ("a = 1", "param.value,a", "1"),
    ('SIP ;cause=200 ;text="x"', "param.value,cause", "200"),
    ('SIP ;cause=200 ;text="x"', "param.value,text", "x"),
    ("a=1;\r\n b = 2 ", "param.value,b", "2"),
    ("a=1;;b=2", "param.count", 3),
    ("a=1;;b=2", "param.name,1", ""),
    (";a=1", "param.value,a", "1"),
    ("=1", "param.valueat,0", "1"),
    ("a==1", "param.valueat,0", "=1"),
    ("a='1;2';b=3", "param.valueat,0", "'1"),
    ("a=1,b=2", "param.value,a", "1"),
    ("a=1,b=2", "param.count", 1),
    ("a=1;", "param.count", None),
    (";", "param.count", None),
    ("a=;b=2", "param.value,b", None),
    ("a=x y;b", "param.value,b", None),
    (" a=1", "param.value,a", None),
    ('a="x', "param.count", None),
    ("x=1,y=2", "param.value,y,,", None),
    ("a,b,", "csv.count", 3),
    ('a,"b,c",d', "csv.value,1", "b,c"),
    ("a,b", "csv.value,-1", "b"),
    ('a,"b" ,c', "csv.count", None),
    (" a , b ", "csv.value,0", " a "),
    ('"a""b",c', "csv.value,0", 'a"b'),
    ("a\tb,c", "csv.count", None),
    ("\xe9,c", "csv.count", None),
    ('"\xe9\t",c', "csv.value,0", "\xe9\t"),
    # IP addresses
    ("192.168.1.10", "ip.isprivate", 1),
    ("127.0.0.1", "ip.isprivate", 0),
    ("192.168.1.10", "ip.matches,192.168.0.0/16", 1),
    ("192.168.1.10", "ip.matches,10.0.0.0/8", 0),
    ("host", "ip.matches,10.0.0.0/8", None),
    ("::1", "ip.matches,10.0.0.0/8", None),
    ("127.0.0.1", "ip.matches,::/0", None),
    ("127.0.0.1", "ip.matches,127.0.0.1", None),
    ("10.1.2.3", "ip.matches,10.0.0.0/255.0.0.0", None),
    ("10.1.2.3", "ip.matches,10.0.0.0/33", None),
    ("10.1.2.3", "ip.matches,nothing", None),
    ("host", "ip.isprivate", 0),
    ("", "ip.isprivate", None),
    ("", "ip.isip", None),
    ("::ffff:1.2.3.4", "ip.isip6", 0),
    ("fe80::1%eth0", "ip.isip6", 0),
    ("2001:db8::1", "ip.pton}{ip.ntop", "2001:DB8:0:0:0:0:0:1"),
    ("300.1.2.3", "ip.isip", 0),
    ("2001:db8::1", "ip.isip6", 1),
    ("192.168.1.10", "ip.family", None),
    ("192.168.1.10", "ip.pton", "\xc0\xa8\x01\x0a"),
    ("\xc0\xa8\x01\x0a", "ip.family", "INET"),
    ("\xc0\xa8\x01\x0a", "ip.ntop", "192.168.1.10"),
    # substitution
    ("abc abc", "re.subst,/b/X/", "aXc abc"),
    ("abc abc", "re.subst,/B/X/gi", "aXc aXc"),
    ("abc abc", "re.subst,/B/X/", "abc abc"),
    ("abc abc", r"re.subst,/(a)(b)/\2\1/g", "bac bac"),
    ("abc", r"re.subst,/[ac]+/<&\0>/g", "<&a>b<&c>"),
    ("abc", "re.subst,#b#/#", "a/c"),
    ("abc", "re.subst,/x*/y/", None),
    ("", "re.subst,/b/X/", None),
    ("aab", "re.subst,/a{2}/X/", None),
    ("abc", "re.subst,,b,X,", None),
    ("a1b22", "re.subst,/[[:digit:]]+/#/g", "a#b#"),
]


GOOD_SDP = SDP.replace("\n", "\r\n")
WITHOUT_ADDRESS = GOOD_SDP.replace("c=IN IP4 192.0.2.101\r\n", "")
AUDIO = GOOD_SDP[GOOD_SDP.index("m=audio") : GOOD_SDP.index("m=video")]
VIDEO = GOOD_SDP[GOOD_SDP.index("m=video") :]
HEAD = GOOD_SDP[: GOOD_SDP.index("m=audio")]
CASES += [
    (GOOD_SDP, "sdp.stream,0", AUDIO),
    (GOOD_SDP, "sdp.stream,VIDEO", VIDEO),
    (GOOD_SDP, "sdp.stream,-1", VIDEO),
    (GOOD_SDP, "sdp.stream,2", None),
    (GOOD_SDP, "sdp.stream,audio,1", None),
    (GOOD_SDP, "sdp.stream,--1", None),
    (GOOD_SDP, "sdp.stream,\xb2", None),
    (GOOD_SDP, "sdp.stream-delete,audio", HEAD + VIDEO),
    (GOOD_SDP, "sdp.stream-delete,none", GOOD_SDP),
    (GOOD_SDP, "sdp.line,a=r", "a=rtpmap:0 PCMU/8000"),
    (GOOD_SDP, "sdp.line,$rU", None),
    (WITHOUT_ADDRESS, "sdp.stream,0", None),
    (WITHOUT_ADDRESS, "sdp.stream-delete,0", None),
    (WITHOUT_ADDRESS.replace("m=audio", "x=y\r\nm=audio"), "sdp.line,m", "m=audio 49172 RTP/AVP 0 8 97 18"),
    ("m=audio 1 RTP/AVP 0\r\n", "sdp.stream,0", None),
    ("garbage", "sdp.stream,0", None),
    ("garbage", "sdp.stream-delete,0", None),
]


@pytest.mark.parametrize(("given", "transformation", "result"), CASES)
def test_transformation(given: Value, transformation: str, result: Value) -> None:
    ctx = request()
    put(ctx, "$avp(x)", given)
    assert value(ctx, f"$(avp(x){{{transformation}}})") == result


def test_null_stays_null() -> None:
    assert expand(request(), "$(avp(none){s.len}) $(avp(none){s.toupper}{s.len})") == "<null> <null>"


def test_they_are_applied_from_left_to_right() -> None:
    assert expand(request(), "$(fu{uri.host}{s.select,0,.}{s.toupper}) $(hdr(X-Multi)[1]{s.len})") == "ATLANTA 3"


def test_a_number_keeps_its_text() -> None:
    ctx = request()
    put(ctx, "$avp(x)", "12abc")
    number = value(ctx, "$(avp(x){s.int})")
    assert number == 12
    assert str(number) == "12abc"


def test_parameters_may_be_variables() -> None:
    ctx = request()
    put(ctx, "$avp(i)", 1)
    put(ctx, "$avp(l)", "a;b;c")
    put(ctx, "$avp(p)", "transport")
    put(ctx, "$avp(e)", "/b/B/")
    assert expand(ctx, "$(avp(l){s.select,$avp(i),;}) $(ru{uri.param,$avp(p)}) $(avp(l){re.subst,$avp(e)})") == "b udp a;B;c"
    assert expand(ctx, "$(avp(l){s.select,$avp(none),;}) $(avp(l){re.subst,$avp(none)})") == "<null> <null>"


def test_sdp_lines_and_streams() -> None:
    ctx = request()
    audio = SDP.replace("\n", "\r\n").partition("m=video")[0].partition("m=audio")[2]
    video = "m=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n"
    assert value(ctx, "$(rb{sdp.line,c})") == "c=IN IP4 192.0.2.101"
    assert value(ctx, "$(rb{sdp.line,a,1})") == "a=rtpmap:97 iLBC/8000"
    assert value(ctx, "$(rb{sdp.line,z})") is None
    assert value(ctx, "$(rb{sdp.stream,0})") == "m=audio" + audio
    assert value(ctx, "$(rb{sdp.stream,video})") == video
    assert value(ctx, "$(rb{sdp.stream,2})") is None
    assert value(ctx, "$(rb{sdp.stream-delete,0}{sdp.line,m})") == "m=video 51372 RTP/AVP 31"
