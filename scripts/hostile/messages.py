"""Messages made of one thing repeated, and everything that reads or changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from opensips_py.modules import maxfwd, rr, textops
from opensips_py.modules.nathelper import detect, repair
from opensips_py.modules.sipmsgops import body, codecs, headers, validate
from opensips_py.script.context import Context, ListenSocket, Source
from opensips_py.script.posix_regex import compile_regex
from opensips_py.server.process import this
from opensips_py.sip import digest, via
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import BadMessage, SipMessage, parse
from opensips_py.sip.uri import same_uri, uri_or_none
from opensips_py.tm import msg_translator
from scripts.hostile.growth import Case, Work

SOCKET = ListenSocket(0, "udp", "127.0.0.1", 5060)
SOURCE = Source("127.0.0.1", 5070)

UNITS = (
    *(
        "(",
        "((",
        ")",
        "(\\",
        '"',
        '"\\',
        "\\",
        "<",
        "<<",
        ">",
        ",",
        ",,",
        ";",
        ";a",
        ";a=1",
        ";=",
        ';a="',
        "=",
        " ",
        " ,",
        "@",
        ":",
    ),
    *("%", "%41", "?", "&a=b", "[", "]", "/", "a", "0", "*", "a,", "a;b,", "\r\n ", "\r\n a,", "\t", "\x00", "\xff", "'", "."),
    *('"a"', '"a" ,', "<sip:a@b>,", "<sip:a@b;lr>,", '"(",', "<sip:a@b>;q=0.1,", "SIP/2.0/UDP h;branch=z9hG4bK1,"),
)
"""What headers are filled with."""
STARTS = ("", "sip:a@b", "<sip:a@b>", "SIP/2.0/UDP h;branch=z9hG4bK1", "Digest ", '"')
"""What a header's value begins with, before what fills it."""
KINDS = ("Via", "From", "To", "Contact", "Route", "Record-Route", "CSeq", "Authorization", "Content-Type", "Path", "X-Any")
"""Headers that are filled, each in its turn."""
LINES = (
    "m: <sip:a@b>",
    "m: *",
    "v: SIP/2.0/UDP h;branch=z9hG4bK1",
    "Route: <sip:a@b;lr>",
    "k: a",
    "X: y",
    "Allow: INVITE",
    "m:",
    "X:\r\n y",
)
"""Header lines that are repeated."""

BASE = {
    "Via": "SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1",
    "From": "<sip:a@b>;tag=1",
    "To": "<sip:c@d>;tag=2",
    "Call-ID": "1",
    "CSeq": "1 INVITE",
    "Contact": "<sip:a@127.0.0.1:5070>",
    "Max-Forwards": "70",
}


def message(changed: dict[str, str] | None = None, more: str = "", content: str = "", ruri: str = "sip:c@d") -> bytes:
    """A request, with some headers changed."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (BASE | (changed or {})).items())
    length = f"Content-Length: {len(content)}\r\n"
    return f"INVITE {ruri} SIP/2.0\r\n{lines}{more}{length}\r\n{content}".encode("latin-1")


def filled(unit: str, size: int, start: str = "") -> str:
    """So many characters of ``unit``."""
    return start + (unit * (size // len(unit) + 1))[:size]


def context(raw: bytes) -> Context:
    """The context in which a script sees a message."""
    msg = parse(raw)
    msg.source = (SOURCE.ip, SOURCE.port)
    this.sockets = [SOCKET]
    return Context(msg, SOURCE, SOCKET)


def read_all(raw: bytes) -> None:
    """Read a message, and everything in it that anybody may ask for."""
    try:
        msg = parse(raw)
    except BadMessage as error:
        msg = error.message
    except ParseError:
        return
    msg.source = (SOURCE.ip, SOURCE.port)
    for read in READERS:
        try:
            read(msg)
        except ParseError:
            pass


def _addresses(kind: str, msg: SipMessage) -> None:
    for address in getattr(msg, kind):
        _look_into(address)


def _address(kind: str, msg: SipMessage) -> None:
    address = getattr(msg, kind)
    if address is not None:
        _look_into(address)


def _look_into(address: Any) -> None:
    for value in (address.params, address.tag, address.display_text):
        str(value)
    uri = uri_or_none(address.uri)
    if uri is not None:
        str((uri.params, uri.headers, uri.transport, uri.lr))
        same_uri(address.uri, address.uri + ";x")


def _vias(msg: SipMessage) -> None:
    for each in msg.vias:
        str((each.params, each.received, each.rport))
        via.mark_source(each, "127.0.0.2", 5080, True)


def _credentials(msg: SipMessage) -> None:
    value = msg.value("authorization")
    if value is not None:
        digest.parse_credentials(value)


READERS: tuple[Callable[[SipMessage], object], ...] = (
    *(partial(_addresses, kind) for kind in ("contacts", "routes", "record_routes")),
    *(partial(_address, kind) for kind in ("from_", "to")),
    *(_vias, _credentials),
    *(
        lambda msg, name=name: getattr(msg, name)
        for name in ("headers", "cseq", "call_id", "complete", "max_forwards", "content_type", "user_agent")
    ),
    *(lambda msg, kind=kind: msg.values(kind) for kind in ("via", "contact", "path", "x-any")),
    lambda msg: msg_translator.reply(Context(msg, SOURCE, SOCKET), 200, "OK", to_tag="t"),
    lambda msg: msg_translator.forwarded(Context(msg, SOURCE, SOCKET), "sip:c@d", SOCKET, "z9hG4bK2", None),
)


def reading() -> Iterator[Case]:
    """Reading messages whose headers are filled."""
    for kind in KINDS:
        for start in STARTS:
            for unit in UNITS:
                yield Case(f"{kind}: {start}{unit!r}…", partial(_reading, kind, start, unit))
    for unit in UNITS:
        yield Case(f"R-URI {unit!r}…", partial(_reading_ruri, unit))
        yield Case(f"{unit!r}… and nothing else", partial(_reading_nothing_else, unit))
    for line in LINES:
        yield Case(f"lines {line!r}", partial(_reading_lines, line))


def _reading(kind: str, start: str, unit: str, size: int) -> Work:
    return partial(read_all, message({kind: filled(unit, size, start)}))


def _reading_ruri(unit: str, size: int) -> Work:
    return partial(read_all, message(ruri=filled(unit, size, "sip:")))


def _reading_nothing_else(unit: str, size: int) -> Work:
    return partial(read_all, filled(unit, size).encode("latin-1"))


def _reading_lines(line: str, size: int) -> Work:
    return partial(read_all, message(more=filled(line + "\r\n", size) + "\r\n"))


ANY = compile_regex("X")
FUNCTIONS: dict[str, Callable[[Context], object]] = {
    'remove_hf("Contact")': lambda ctx: headers.remove_hf(ctx, "Contact"),
    "remove_hf twice, then replaced": lambda ctx: [headers.remove_hf(ctx, name) for name in ("Contact", "X", "Contact")],
    'remove_hf_glob("*")': lambda ctx: headers.remove_hf_glob(ctx, "*"),
    'remove_hf_re("X")': lambda ctx: headers.remove_hf_re(ctx, ANY),
    "list_hdr_remove_option": lambda ctx: headers.list_hdr_remove_option(ctx, "Supported", "a"),
    "list_hdr_add_option": lambda ctx: headers.list_hdr_add_option(ctx, "Supported", "b"),
    "append_hf": lambda ctx: headers.append_hf(ctx, "X: 1", "Contact"),
    "is_privacy": lambda ctx: headers.is_privacy(ctx, "id"),
    "sipmsg_validate": lambda ctx: validate.sipmsg_validate(ctx, "shrf"),
    "fix_nated_contact": lambda ctx: [repair.fix_nated_contact(ctx, ";x=1"), repair.fix_nated_contact(ctx)],
    "add_rcv_param": lambda ctx: repair.add_rcv_param(ctx),
    "nat_uac_test": lambda ctx: detect.nat_uac_test(ctx, 127),
    "loose_route": rr.loose_route,
    "record_route": rr.record_route,
    "mf_process_maxfwd_header": lambda ctx: maxfwd.mf_process_maxfwd_header(ctx, 10),
    'replace_all("X")': lambda ctx: textops.replace_all(ctx, ANY, "y"),
    'subst("/a/b/g")': lambda ctx: textops.subst(ctx, "/a/b/g"),
    'search("X")': lambda ctx: textops.search(ctx, ANY),
}
"""What scripts do with headers."""


def _then_sent(call: Callable[[Context], object], ctx: Context) -> None:
    call(ctx)
    msg_translator.forwarded(ctx, "sip:c@d", SOCKET, "z9hG4bK2", None)
    msg_translator.reply(ctx, 200, "OK", to_tag="t")
    ctx.msg.serialise()


def functions() -> Iterator[Case]:
    """Functions over messages of many header lines, and of long lists; then the message is sent."""
    inputs = {f"lines {line!r}": line + "\r\n" for line in LINES}
    for name, call in FUNCTIONS.items():
        for what, unit in inputs.items():
            yield Case(f"{name} on {what}", partial(_calling, call, unit))
    for name in ("fix_nated_contact", "add_rcv_param", "nat_uac_test"):
        yield Case(f"{name} on one list", partial(_calling_on_list, FUNCTIONS[name], "Contact", "<sip:a@b>"))
    yield Case("loose_route on one list", partial(_calling_on_list, rr.loose_route, "Route", "<sip:127.0.0.1;lr>"))


def _calling_on_list(call: Callable[[Context], object], kind: str, value: str, size: int) -> Work:
    return partial(_then_sent, call, context(message({kind: f"{value}," * (size // len(value)) + "<sip:a@b>"})))


def _calling(call: Callable[[Context], object], unit: str, size: int) -> Work:
    return partial(_then_sent, call, context(message(more=unit * (size // len(unit)))))


BODY_FUNCTIONS: dict[str, Callable[[Context], object]] = {
    "codec_exists": lambda ctx: codecs.codec_exists(ctx, "PCMU"),
    "codec_delete_re": lambda ctx: codecs.codec_delete_re(ctx, compile_regex("a")),
    "codec_delete_except_re": lambda ctx: codecs.codec_delete_except_re(ctx, compile_regex("PCMU")),
    "codec_move_up_re": lambda ctx: codecs.codec_move_up_re(ctx, compile_regex("a")),
    "codec_move_down": lambda ctx: codecs.codec_move_down(ctx, "PCMU"),
    "stream_exists": lambda ctx: codecs.stream_exists(ctx, compile_regex("text")),
    "stream_delete": lambda ctx: codecs.stream_delete(ctx, compile_regex("audio")),
    "is_audio_on_hold": codecs.is_audio_on_hold,
    "fix_nated_sdp": lambda ctx: repair.fix_nated_sdp(ctx, 15, "127.0.0.9"),
    "has_body_part": lambda ctx: body.has_body_part(ctx, "x/y"),
    "remove_body_part": lambda ctx: body.remove_body_part(ctx, "text/plain"),
    "add_body_part": lambda ctx: body.add_body_part(ctx, "x", "text/plain"),
}
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"


def _many_payloads(size: int) -> str:
    count = size // 30
    numbers = [str(96 + n) for n in range(count)]
    lines = "".join(f"a=rtpmap:{number} a{number}/8000\r\n" for number in numbers)
    return f"{SDP}m=audio 4000 RTP/AVP {' '.join(numbers)}\r\n{lines}"


BODIES: dict[str, tuple[str, Callable[[int], str]]] = {
    "an SDP with many payload types": ("application/sdp", _many_payloads),
    "an SDP with many streams": ("application/sdp", lambda size: SDP + "m=audio 1 x 0\r\n" * (size // 15)),
    "an SDP with many connections": ("application/sdp", lambda size: SDP + "c=IN IP4 10.0.0.1\r\n" * (size // 19)),
    "an SDP of empty lines": ("application/sdp", lambda size: SDP + "\r\n" * (size // 2)),
    "an SDP that is one line": ("application/sdp", lambda size: "o=" + "a " * (size // 2)),
    "many body parts": ("multipart/mixed;boundary=b", lambda size: "--b\r\n\r\nx\r\n" * (size // 10) + "--b--\r\n"),
    "body parts without end": ("multipart/mixed;boundary=b", lambda size: "\r\n--b" * (size // 5)),
    "a body part of many headers": ("multipart/mixed;boundary=b", lambda size: "--b\r\n" + "a:b\r\n" * (size // 5)),
}


def bodies() -> Iterator[Case]:
    """Functions over bodies."""
    for name, call in BODY_FUNCTIONS.items():
        for what, (kind, make) in BODIES.items():
            yield Case(f"{name} on {what}", partial(_body_work, call, kind, make))


def _body_work(call: Callable[[Context], object], kind: str, make: Callable[[int], str], size: int) -> Work:
    return partial(_then_sent, call, context(message({"Content-Type": kind}, content=make(size))))
