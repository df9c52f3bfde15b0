"""Whatever arrives, reading it gives a message or a ParseError, and what is read leaves as it came."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from opensips_py.sip.digest import parse_credentials
from opensips_py.sip.forward import build_forward
from opensips_py.sip.message import BadMessage, ParseError, note_source, parse
from opensips_py.sip.nameaddr import parse_nameaddrs
from opensips_py.sip.reply import build_reply
from opensips_py.sip.uri import parse_uri, same_uri
from opensips_py.sip.via import parse_via
from scripts.fuzzing.targets import put_to_use

SAMPLES = [path.read_bytes() for path in sorted((Path(__file__).parent / "testdata").glob("*.dat"))]
TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
SIPPY = st.text('sip:SIP/2.0 UDP<>;,"@=?&%[]()\\\r\n\t*a1', max_size=60)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A torture message with pieces cut out, doubled or replaced."""
    raw = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        raw[start:end] = draw(st.binary(max_size=8) | SIPPY.map(lambda text: text.encode()) | st.just(bytes(raw[start:end]) * 2))
    return bytes(raw)


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_damaged_messages(raw: bytes) -> None:
    try:
        msg = parse(raw)
    except BadMessage as error:
        assert error.message.is_request
        build_reply(error.message, error.code, "No")
        return
    except ParseError:
        return
    put_to_use(msg)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise(raw: bytes) -> None:
    try:
        parse(b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n" + raw)
        parse(raw)
    except ParseError:
        pass


@settings(max_examples=300, deadline=None)
@given(TEXT | SIPPY)
def test_parts(text: str) -> None:
    for read in (parse_uri, parse_via, parse_nameaddrs, parse_credentials):
        try:
            read(text)
        except ParseError:
            pass
    assert same_uri(text, text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT.map(lambda text: text.replace("\r", "").replace("\n", ""))), max_size=5))
def test_forwarding_changes_nothing_but_the_via_and_the_uri(extra: list[tuple[str, str]]) -> None:
    lines = "".join(f"X-{i}: {value}\r\n" for i, (_, value) in enumerate(extra))
    rest = f"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n{lines}CSeq: 1 OPTIONS\r\n\r\n"
    msg = parse(f"OPTIONS sip:a@b SIP/2.0\r\n{rest}".encode("latin-1"))
    note_source(msg, "192.0.2.1", 5060)
    out = build_forward(msg, via="Via: SIP/2.0/UDP p;branch=z9hG4bKp", ruri="sip:c@d")
    assert out.decode("latin-1") == f"OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\n{rest}"
