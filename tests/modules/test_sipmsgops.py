"""Module sipmsgops: headers, bodies, codecs."""

from __future__ import annotations

import re

import pytest

from opensips_py.modules.sipmsgops import module
from opensips_py.script.context import Context, RouteKind, Source
from opensips_py.script.posix_regex import Regex, compile_regex
from opensips_py.sip.message import parse
from opensips_py.tm.msg_translator import REPLY_HEADERS
from tests.support.script_context import REQUEST, SDP, SOCKET, request, value, variable, with_ruri


def call(ctx: Context, name: str, *arguments: object) -> int:
    return int(module.functions[name].call(ctx, *arguments))


def like(text: str) -> Regex:
    return compile_regex(text, True)


def sent(ctx: Context) -> str:
    """The message as it goes out; what goes out can be read again."""
    data = ctx.msg.serialise()
    parse(data)
    return data.decode("latin-1")


def header_lines(ctx: Context) -> list[str]:
    return sent(ctx).partition("\r\n\r\n")[0].split("\r\n")


def test_appended_headers_come_last_or_behind_another_and_are_not_visible_yet() -> None:
    ctx = request()
    assert call(ctx, "append_hf", "X-Last: 1\r\n") == 1
    assert call(ctx, "append_hf", "X-After: 2\r\n", "max-forwards") == 1
    lines = header_lines(ctx)
    assert lines[-1] == "X-Last: 1"
    assert lines[lines.index("Max-Forwards: 68") + 1] == "X-After: 2"
    assert call(ctx, "is_present_hf", "X-Last") == -1
    assert value(ctx, "$hdr(X-Last)") is None


def test_a_header_without_line_end_gets_one() -> None:
    ctx = request()
    call(ctx, "append_hf", "X-Last: 1")
    assert header_lines(ctx)[-1] == "X-Last: 1"


def test_inserted_headers_come_first_or_before_another() -> None:
    ctx = request()
    call(ctx, "insert_hf", "X-First: 1\r\n")
    call(ctx, "insert_hf", "X-Before: 2\r\n", "Call-ID")
    lines = header_lines(ctx)
    assert lines[1] == "X-First: 1"
    assert lines[lines.index("Call-ID: call-1@test") - 1] == "X-Before: 2"


def test_removing_headers() -> None:
    ctx = request()
    assert call(ctx, "remove_hf", "x-multi") == 1
    assert call(ctx, "remove_hf", "X-None") == -1
    assert call(ctx, "remove_hf", "Contact") == 1
    assert call(ctx, "remove_hf_re", like("^X-(Empty|Padded)")) == 1
    assert call(ctx, "remove_hf_glob", "X-F*") == 1
    left = sent(ctx).partition("\r\n\r\n")[0]
    assert not re.search(r"(?m)^(X-Multi|Contact|m|X-Empty|X-Padded|X-Folded):", left)
    assert " b\r\n" not in left


def test_presence_knows_compact_names() -> None:
    ctx = request()
    assert [call(ctx, "is_present_hf", name) for name in ("m", "Contact", "X-No")] == [1, 1, -1]


def test_methods() -> None:
    ctx = request()
    assert [call(ctx, "is_method", text) for text in ("INVITE", "ACK|INVITE", "ACK|BYE", "invite")] == [1, 1, -1, 1]


def test_to_tag() -> None:
    assert call(request(), "has_totag") == -1
    assert call(request(REQUEST.replace("user=phone>", "user=phone>;tag=b") + SDP), "has_totag") == 1


def test_reply_headers_are_collected() -> None:
    ctx = request()
    call(ctx, "append_to_reply", "X-One: 1\r\n")
    call(ctx, "append_time")
    assert re.fullmatch(r"X-One: 1\r\nDate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n", ctx.slots[REPLY_HEADERS])


def test_the_ruri_in_a_header() -> None:
    ctx = request()
    ctx.new_uri = "sip:changed@h"
    call(ctx, "append_urihf", "X-Uri: <", ">\r\n")
    assert header_lines(ctx)[-1] == f"X-Uri: <{ctx.msg.ruri}>"


REPLY = "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKa\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"


def test_the_status_of_a_reply_is_changed_within_its_kind() -> None:
    ctx = request(kind=RouteKind.ONREPLY)
    ctx.msg = parse(REPLY.encode())
    assert call(ctx, "change_reply_status", 603, "Never") == 1
    assert call(ctx, "change_reply_status", 600, "Busy Everywhere") == 1
    assert sent(ctx) == REPLY.replace("486 Busy Here", "600 Busy Everywhere")
    assert value(ctx, "$rs") == 600
    assert call(ctx, "change_reply_status", 183, "Progress") == -1


def test_options_of_list_headers() -> None:
    ctx = request()
    assert [call(ctx, "list_hdr_has_option", "Supported", option) for option in ("100REL", "path")] == [1, -1]
    assert call(ctx, "list_hdr_add_option", "Supported", "path") == 1
    assert "Supported: timer, 100rel,path" in header_lines(ctx)
    assert call(ctx, "list_hdr_add_option", "Require", "path") == -1
    ctx = request()
    assert call(ctx, "list_hdr_remove_option", "Supported", "timer") == 1
    assert "Supported: 100rel" in header_lines(ctx)
    assert call(ctx, "list_hdr_remove_option", "Supported", "none") == -1


def test_ruri_parameters() -> None:
    ctx = with_ruri("sip:bob@h;a=1;lr?X=1")
    questions = (("A",), ("a", "1"), ("a", "2"), ("none",), ("lr",), ("lr", ""))
    assert [call(ctx, "ruri_has_param", *question) for question in questions] == [-1, 1, -1, -1, 1, 1]
    assert call(ctx, "ruri_add_param", "new=1") == -1  # as in OpenSIPS
    assert ctx.ruri == "sip:bob@h;a=1;lr;new=1?X=1"
    assert (call(ctx, "ruri_del_param", "a"), call(ctx, "ruri_del_param", "a")) == (1, -1)
    assert ctx.ruri == "sip:bob@h;lr;new=1?X=1"


def test_tel_uris_become_sip_uris() -> None:
    ctx = with_ruri("tel:+1-555;phone-context=x")
    assert call(ctx, "ruri_tel2sip") == 1
    assert ctx.ruri == "sip:+1-555;phone-context=x@atlanta.example;user=phone"
    other = request()
    assert call(other, "ruri_tel2sip") == 1
    assert other.new_uri is None


def test_global_numbers() -> None:
    ctx = request()
    uris = ("sip:+15551234@h", "sip:15551234@h", "sip:+1@h", "sip:+1a@h", "nothing")
    assert [call(ctx, "is_uri_user_e164", uri) for uri in uris] == [1, -1, -1, -1, -1]


def test_privacy() -> None:
    ctx = request(REQUEST.replace("X-Empty:", "Privacy: id; critical") + SDP)
    assert (call(ctx, "is_privacy", "ID"), call(ctx, "is_privacy", "user")) == (1, -1)


# --- bodies ---


def test_bodies() -> None:
    ctx = request()
    assert [call(ctx, "has_body", *kind) for kind in ((), ("application/sdp",), ("text/plain",))] == [1, 1, -1]
    assert call(ctx, "has_body_part", "application/sdp") == 1
    assert call(ctx, "remove_body_part") == 1
    assert call(ctx, "has_body") == -1
    assert "Content-Type" not in sent(ctx)
    assert "Content-Length: 0\r\n" in sent(ctx)


def test_a_second_body_makes_the_message_multipart() -> None:
    ctx = request()
    assert call(ctx, "add_body_part", "hello", "text/plain", "X-Part: 1\r\n") == 1
    assert (call(ctx, "has_body_part", "text/plain"), call(ctx, "has_body_part", "application/sdp")) == (1, 1)
    assert call(ctx, "add_body_part", "<x/>", "application/xml") == 1
    again = request()
    again.msg = parse(sent(ctx).encode("latin-1"))
    assert str(value(again, "$cT")).startswith("multipart/mixed;boundary=")
    assert value(again, "$rb(text/plain)") == "hello"
    assert value(again, "$rb(application/xml)") == "<x/>"
    assert value(again, "$rb(application/sdp)") == SDP.replace("\n", "\r\n")
    assert again.msg.content_length == len(again.msg.text) - again.msg.body_start


def test_a_part_of_a_multipart_body_is_removed() -> None:
    ctx = request()
    call(ctx, "add_body_part", "hello", "text/plain")
    assert call(ctx, "remove_body_part", "application/sdp") == 1
    again = request()
    again.msg = parse(sent(ctx).encode("latin-1"))
    assert (value(again, "$rb(text/plain)"), value(again, "$rb(application/sdp)")) == ("hello", None)


def test_the_first_body_of_a_message() -> None:
    ctx = request(REQUEST.replace("Content-Type: application/sdp\n", ""))
    assert call(ctx, "has_body") == -1
    assert call(ctx, "add_body_part", "hello", "text/plain") == 1
    assert sent(ctx).endswith("\r\n\r\nhello")
    assert "Content-Type: text/plain" in header_lines(ctx)
    assert "Content-Length: 5" in header_lines(ctx)


# --- codecs ---


def media(ctx: Context) -> list[str]:
    return [line for line in sent(ctx).split("\r\n") if line.startswith("m=")]


@pytest.mark.parametrize(
    ("name", "arguments", "found"),
    [
        ("codec_exists", ("pcmu",), 1),
        ("codec_exists", ("PCMA",), 1),
        ("codec_exists", ("iLBC", "8000"), 1),
        ("codec_exists", ("iLBC", "16000"), 1),
        ("codec_exists", ("opus",), -1),
        ("codec_exists_re", (like("PCM."),), 1),
        ("stream_exists", (like("video"),), 1),
        ("stream_exists", (like("text"),), -1),
        ("codec_delete", ("opus",), -1),
        ("codec_move_up", ("opus",), -1),
        ("is_audio_on_hold", (), -1),
    ],
)
def test_questions_about_codecs_change_nothing(name: str, arguments: tuple[object, ...], found: int) -> None:
    ctx = request()
    assert call(ctx, name, *arguments) == found
    assert ctx.msg.serialise() == ctx.msg.raw


def test_a_deleted_codec_takes_its_attributes_along() -> None:
    ctx = request()
    assert call(ctx, "codec_delete", "iLBC") == 1
    assert media(ctx)[0] == "m=audio 49172 RTP/AVP 0 8 18"
    assert ":97" not in sent(ctx)
    body = sent(ctx).partition("\r\n\r\n")[2]
    assert f"Content-Length: {len(body)}" in header_lines(ctx)


def test_codecs_are_moved_and_deleted_one_after_the_other() -> None:
    ctx = request()
    assert call(ctx, "codec_move_up", "G729") == 1
    assert call(ctx, "codec_move_down", "PCMU") == 1
    assert call(ctx, "codec_delete_re", like("PCMA")) == 1
    assert media(ctx) == ["m=audio 49172 RTP/AVP 18 97 0", "m=video 51372 RTP/AVP 31"]


def test_all_codecs_but_some_are_deleted_and_an_empty_stream_is_refused() -> None:
    ctx = request()
    assert call(ctx, "codec_delete_except_re", like("PCM")) == 1
    assert media(ctx) == ["m=audio 49172 RTP/AVP 0 8", "m=video 0 RTP/AVP"]


def test_a_stream_is_deleted() -> None:
    ctx = request()
    assert call(ctx, "stream_delete", like("video")) == 1
    assert media(ctx) == ["m=audio 49172 RTP/AVP 0 8 97 18"]
    assert call(ctx, "stream_delete", like("video")) == -1


@pytest.mark.parametrize("change", [("t=0 0\n", "t=0 0\na=sendonly\n"), ("IP4 192.0.2.101\nt", "IP4 0.0.0.0\nt")])
def test_audio_on_hold(change: tuple[str, str]) -> None:
    assert call(request(REQUEST + SDP.replace(*change)), "is_audio_on_hold") == 1


# --- validation ---


@pytest.mark.parametrize(
    ("change", "flags", "code"),
    [
        (("", ""), "srf", 1),
        (("Call-ID: call-1@test\n", ""), "", -3),
        (("Content-Length: *", "Content-Length: 3"), "", -5),
        (("CSeq: 4711 INVITE\n", ""), "", -7),
        (("Max-Forwards: 68\n", ""), "", -13),
        (("sip:bob@biloxi.example:5080", "weird:bob"), "", 1),
        (("sip:bob@biloxi.example:5080", "weird:bob"), "r", -11),
        (("Max-Forwards: 68\n", ""), "m", 1),
        (("Max-Forwards: 68\n", ""), "hr", -13),
        (("Max-Forwards: 68", "Max-Forwards: 999"), "h", 1),
        (("Max-Forwards: 68", "Max-Forwards: 999"), "r", 1),
        (("Max-Forwards: 68", "Max-Forwards: 999"), "rh", -2),
        (("4711 INVITE", "4711 OPTIONS"), "h", 1),
        (("4711 INVITE", "4711 OPTIONS"), "shrft", -2),
        (("Max-Forwards: 68", "User-Agent:\nMax-Forwards: 68"), "", 1),
        (("Max-Forwards: 68", "User-Agent:\nMax-Forwards: 68"), "h", -2),
        (("Content-Length: *\n", ""), "", 1),
    ],
)
def test_validation(change: tuple[str, str], flags: str, code: int) -> None:
    assert call(request(REQUEST.replace(*change) + SDP), "sipmsg_validate", flags) == code


def test_validation_says_why() -> None:
    ctx = request(REQUEST.replace("Content-Length: *", "Content-Length: 3") + "Hello World")
    call(ctx, "sipmsg_validate", None, variable("$avp(why)"))
    assert value(ctx, "$avp(why)") == "invalid body - content length 3 different than actual body 11\n"


def test_another_message_in_the_datagram_is_ignored() -> None:
    text = REQUEST.replace("Content-Length: *", "Content-Length: 0")
    assert call(request(text + "\nINVITE sip:a@b SIP/2.0\n\n"), "sipmsg_validate", "shrft") == 1
    assert call(request(text + "\nHello World\n\n"), "sipmsg_validate", "shrft") == -5


def test_a_request_of_rfc_2543_needs_neither_max_forwards_nor_contact() -> None:
    ctx = request(OLD_REQUEST)
    assert call(ctx, "sipmsg_validate", "shrft") == 1


OLD_REQUEST = """\
INVITE sip:b@example.com SIP/2.0
Via: SIP/2.0/UDP old.example.com
From: <sip:a@example.com>
To: <sip:b@example.com>
Call-ID: 1@example.com
CSeq: 1 INVITE

"""


def test_a_body_that_is_no_sdp() -> None:
    ctx = request(REQUEST + "garbage")
    assert (call(ctx, "sipmsg_validate", ""), call(ctx, "sipmsg_validate", "s")) == (1, -6)


def multipart(end: str = "\r\n", sdp: str = SDP) -> Context:
    lines = ("--b1", "Content-Type: application/sdp", "", sdp.replace("\n", end))
    more = ("--b1", "Content-type: application/isup;version=x", "Content-Disposition: signal", "", "ABC", "--b1--", "")
    body = end.join((*lines, *more))
    head = (
        "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bKx\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\n"
    )
    head += f"Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Type: multipart/mixed;boundary=b1\r\nContent-Length: {len(body)}\r\n\r\n"
    return Context(parse((head + body).encode("latin-1")), Source("192.0.2.1", 5060), SOCKET)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_parts_of_a_body_are_found_whatever_ends_their_lines(end: str) -> None:
    kinds = ("application/sdp", "Application/ISUP", "multipart/mixed", "text/plain", "")
    assert [call(multipart(end), "has_body", kind) for kind in kinds] == [1, 1, 1, -1, 1]
    assert call(multipart(end), "codec_exists", "iLBC") == 1
    assert call(multipart(end), "sipmsg_validate", "sm") == -14  # there is no Contact
    assert value(multipart(end), "$rb(application/isup)") == "ABC"


def test_the_sdp_of_a_part_is_validated() -> None:
    assert call(multipart(sdp="v=0\nthis is none\n"), "codec_exists", "PCMU") == -1


def test_the_last_part_that_is_left_becomes_the_body() -> None:
    ctx = multipart()
    assert call(ctx, "remove_body_part", "application/sdp") == 1
    head, _, body = sent(ctx).partition("\r\n\r\n")
    assert body == "ABC"
    assert "Content-Type: application/isup;version=x\r\n" in head
    assert "Content-Disposition: signal" in head


def test_a_body_may_be_exchanged_for_another() -> None:
    ctx = request()
    assert (call(ctx, "remove_body_part"), call(ctx, "add_body_part", "new", "text/plain")) == (1, 1)
    head, _, body = sent(ctx).partition("\r\n\r\n")
    assert (body, head.count("Content-Type: text/plain"), head.count("Content-Type")) == ("new", 1, 1)


def test_a_header_can_be_removed_once() -> None:
    ctx = request()
    assert [call(ctx, "remove_hf", "Subject") for _ in range(2)] == [-1, -1]
    assert [call(ctx, "remove_hf", "User-Agent") for _ in range(2)] == [1, -1]
