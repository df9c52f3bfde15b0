"""Codecs and media streams of the SDP body (RFC 4566, RFC 3551, RFC 3264) for sipmsgops."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.core.pending_body import content_type, parts
from opensips_py.modules.sipmsgops.body import set_body
from opensips_py.modules.sipmsgops.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, L, O, Pattern, R
from opensips_py.sip import sdp

ROFBL = R | O | F | B | L

STATIC_PAYLOADS = {
    "0": ("PCMU", "8000"),
    "3": ("GSM", "8000"),
    "4": ("G723", "8000"),
    "5": ("DVI4", "8000"),
    "6": ("DVI4", "16000"),
    "7": ("LPC", "8000"),
    "8": ("PCMA", "8000"),
    "9": ("G722", "8000"),
    "10": ("L16", "44100"),
    "11": ("L16", "44100"),
    "12": ("QCELP", "8000"),
    "13": ("CN", "8000"),
    "14": ("MPA", "90000"),
    "15": ("G728", "8000"),
    "16": ("DVI4", "11025"),
    "17": ("DVI4", "22050"),
    "18": ("G729", "8000"),
    "25": ("CelB", "90000"),
    "26": ("JPEG", "90000"),
    "28": ("nv", "90000"),
    "31": ("H261", "90000"),
    "32": ("MPV", "90000"),
    "33": ("MP2T", "90000"),
    "34": ("H263", "90000"),
}
"""Name and clock rate of payload types that need no ``a=rtpmap`` (RFC 3551 6)."""

Wanted = Callable[[str, str], bool]
"""Of a codec's name and clock rate."""


class _Stream:
    """One media description, as lines with their ends."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines(keepends=True)
        words = self.lines[0].split()
        self.head, self.payloads = words[:3], words[3:]
        """``m=audio 49172 RTP/AVP`` and the payload types."""
        self._names: dict[str, str] = {}
        """What the first ``a=rtpmap`` of a payload type says."""
        for line in self.lines:
            if line.startswith("a=rtpmap:"):
                payload, _, name = line[9:].partition(" ")
                self._names.setdefault(payload, name)

    @property
    def media(self) -> str:
        return self.head[0][2:]

    def codec(self, payload: str) -> tuple[str, str]:
        """Name and clock rate of a payload type."""
        mapped = self._names.get(payload)
        if mapped is None:
            return STATIC_PAYLOADS.get(payload, ("", ""))
        name, _, rest = mapped.strip().partition("/")
        return name, rest.partition("/")[0]

    def matching(self, wanted: Wanted) -> list[str]:
        return [payload for payload in self.payloads if wanted(*self.codec(payload))]

    def remove(self, doomed: list[str]) -> None:
        """Take payload types out, with their attributes. A stream that has none left is refused: port 0 (RFC 3264 6)."""
        gone = set(doomed)
        kept = [payload for payload in self.payloads if payload not in gone]
        self.lines = [line for line in self.lines if _payload_of(line) not in gone]
        if not kept and len(self.head) > 1:
            self.head[1] = "0"
        self.payloads = kept

    def text(self) -> str:
        ending = self.lines[0][len(self.lines[0].rstrip("\r\n")) :]
        return " ".join([*self.head, *self.payloads]) + ending + "".join(self.lines[1:])


def _payload_of(line: str) -> str | None:
    """The payload type that an attribute is about; None for other lines."""
    attribute, _, rest = line.partition(":")
    if attribute not in ("a=rtpmap", "a=fmtp", "a=rtcp-fb"):
        return None
    payload, blank, _ = rest.partition(" ")
    return payload if blank else None


def session(ctx: Context) -> tuple[int, int, str] | None:
    """Where the session description lies in the body that will be sent, and its text; None when there is none, or a bad one."""
    body = ctx.msg.pending_body()
    for part in parts(ctx):
        if part.kind == "application/sdp":
            text = body[part.content : part.end]
            return (part.content, part.end, text) if sdp.is_valid(text) else None
    return None


def _change(ctx: Context, change: Callable[[_Stream], bool]) -> int:
    """Apply ``change`` to every stream; 1 when one says that it found what it wanted."""
    place = session(ctx)
    if place is None:
        return -1
    start, end, text = place
    found = sdp.streams(text)
    if not found:
        return -1
    pieces, changed = [text[: found[0].start]], False
    for each in found:
        stream = _Stream(each.text)
        if change(stream):
            changed = True
            pieces.append(stream.text())
        else:
            pieces.append(each.text)
    if not changed:
        return -1
    out = "".join(pieces)
    if out != text:
        body = ctx.msg.pending_body()
        set_body(ctx, body[:start] + out + body[end:], content_type(ctx))
    return 1


def _named(name: str, clock: str | None) -> Wanted:
    wanted, rate = name.strip().lower(), None if clock is None else clock.strip()
    return lambda codec, its_rate: codec.lower() == wanted and (rate is None or rate == its_rate)


def _like(names: Pattern) -> Wanted:
    return lambda codec, rate: bool(codec) and names.test(codec)


def _exists(ctx: Context, wanted: Wanted) -> int:
    return _change(ctx, lambda stream: bool(stream.matching(wanted)))


def _delete(ctx: Context, wanted: Wanted) -> int:
    def change(stream: _Stream) -> bool:
        doomed = stream.matching(wanted)
        if doomed:
            stream.remove(doomed)
        return bool(doomed)

    return _change(ctx, change)


def _move(ctx: Context, wanted: Wanted, up: bool) -> int:
    def change(stream: _Stream) -> bool:
        moved = stream.matching(wanted)
        first = set(moved)
        others = [payload for payload in stream.payloads if payload not in first]
        if moved:
            stream.payloads = moved + others if up else others + moved[::-1]  # the order that OpenSIPS leaves
        return bool(moved)

    return _change(ctx, change)


@module.function(routes=ROFBL)
def codec_exists(ctx: Context, name: str, clock: str | None = None) -> int:
    """Whether the SDP offers a codec. As in OpenSIPS 3.1, any clock rate will do."""
    return _exists(ctx, _named(name, None))


@module.function(routes=ROFBL)
def codec_exists_re(ctx: Context, names: Pattern) -> int:
    """Whether the SDP offers a codec whose name matches."""
    return _exists(ctx, _like(names))


@module.function(routes=ROFBL)
def codec_delete(ctx: Context, name: str, clock: str | None = None) -> int:
    """Remove a codec from all streams. -1 when it is not there."""
    return _delete(ctx, _named(name, clock))


@module.function(routes=ROFBL)
def codec_delete_re(ctx: Context, names: Pattern) -> int:
    """Remove the codecs whose name matches. -1 when there are none."""
    return _delete(ctx, _like(names))


@module.function(routes=ROFBL)
def codec_delete_except_re(ctx: Context, names: Pattern) -> int:
    """Remove the codecs whose name does not match. -1 when there are none."""
    return _delete(ctx, lambda codec, rate: not names.test(codec))


@module.function(routes=ROFBL)
def codec_move_up(ctx: Context, name: str, clock: str | None = None) -> int:
    """Make a codec the first choice. -1 when it is not there."""
    return _move(ctx, _named(name, clock), up=True)


@module.function(routes=ROFBL)
def codec_move_up_re(ctx: Context, names: Pattern) -> int:
    """Make the codecs whose name matches the first choice. -1 when there are none."""
    return _move(ctx, _like(names), up=True)


@module.function(routes=ROFBL)
def codec_move_down(ctx: Context, name: str, clock: str | None = None) -> int:
    """Make a codec the last choice. -1 when it is not there."""
    return _move(ctx, _named(name, clock), up=False)


@module.function(routes=ROFBL)
def codec_move_down_re(ctx: Context, names: Pattern) -> int:
    """Make the codecs whose name matches the last choice. -1 when there are none."""
    return _move(ctx, _like(names), up=False)


@module.function(routes=ROFBL)
def stream_exists(ctx: Context, media: Pattern) -> int:
    """Whether the SDP has a stream of a medium."""
    return _change(ctx, lambda stream: media.test(stream.media))


@module.function(routes=ROFBL)
def stream_delete(ctx: Context, media: Pattern) -> int:
    """Remove a stream of a medium, the last one if there are several. -1 when there is none."""
    place = session(ctx)
    if place is None:
        return -1
    start, end, text = place
    doomed = [each for each in sdp.streams(text) if media.test(each.media)]
    if not doomed:
        return -1
    last = doomed[-1]
    out = text[: last.start] + text[last.start + len(last.text) :]
    body = ctx.msg.pending_body()
    set_body(ctx, body[:start] + out + body[end:], content_type(ctx))
    return 1


@module.function(routes=ROFBL)
def is_audio_on_hold(ctx: Context) -> int:
    """Whether an audio stream is on hold: no sending to us (RFC 3264 8.4), or the old address 0.0.0.0."""
    place = session(ctx)
    if place is None:
        return -1
    text = place[2]
    streams = sdp.streams(text)
    before = text[: streams[0].start] if streams else text
    common_address = sdp.connection_address(before)
    common_directions = [line for line in sdp.lines(before) if line in ("a=sendonly", "a=inactive")]
    for each in streams:
        if each.media.lower() != "audio":
            continue
        lines = sdp.lines(each.text)
        address = sdp.connection_address(each.text) or common_address
        directions = [line for line in lines if line in ("a=sendonly", "a=inactive", "a=sendrecv", "a=recvonly")]
        if not directions:
            directions = common_directions
        if address in ("0.0.0.0", "::") or any(line in ("a=sendonly", "a=inactive") for line in directions):
            return 1
    return -1
