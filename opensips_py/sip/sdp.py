"""Looking into SDP bodies by lines and media streams (RFC 4566 5). The text stays as it is."""

from __future__ import annotations

from typing import NamedTuple


class Stream(NamedTuple):
    """One media description: the ``m=`` line and what belongs to it, with line ends."""

    media: str
    """``audio``, ``video`` …"""
    start: int
    """Offset in the SDP."""
    text: str


def lines(sdp: str) -> list[str]:
    """The lines without their ends."""
    return [line.removesuffix("\r") for line in sdp.split("\n") if line not in ("", "\r")]


def line(sdp: str, kind: str, index: int = 0) -> str | None:
    """Line number ``index`` (from 0) of those that begin with ``kind`` and ``=``; None when there are fewer."""
    prefix = f"{kind}="
    for text in lines(sdp):
        if text.startswith(prefix):
            if index == 0:
                return text
            index -= 1
    return None


def streams(sdp: str) -> list[Stream]:
    """The media streams in order."""
    starts = [0] if sdp.startswith("m=") else []
    at = sdp.find("\nm=")
    while at >= 0:
        starts.append(at + 1)
        at = sdp.find("\nm=", at + 1)
    found = []
    for start, end in zip(starts, [*starts[1:], len(sdp)], strict=False):
        words = sdp[start + 2 : end].split(None, 1)
        found.append(Stream(words[0] if words else "", start, sdp[start:end]))
    return found


def stream(sdp: str, which: int | str) -> Stream | None:
    """A media stream by number (from 0), or the first of a medium; None when there is none."""
    found = streams(sdp)
    if isinstance(which, int):
        return found[which] if 0 <= which < len(found) else None
    return next((each for each in found if each.media.lower() == which.lower()), None)


def connection_address(sdp: str) -> str | None:
    """The address in the first ``c=`` line, without TTL."""
    found = line(sdp, "c")
    words = [] if found is None else found.split()
    return words[2].partition("/")[0] if len(words) == 3 else None


def is_valid(sdp: str) -> bool:
    """Whether a body is a session description: lines of ``x=…``, the first one ``v=``, and an address for each stream."""
    found = lines(sdp)
    if not found or not found[0].startswith("v=") or any(len(text) < 2 or text[1] != "=" for text in found):
        return False
    media = streams(sdp)
    if any(len(stream.text.split("\n", 1)[0].split()) < 4 for stream in media):
        return False  # medium, port, protocol and at least one format (RFC 4566 5.14)
    session = sdp[: media[0].start] if media else ""
    return line(session, "c") is not None or all(line(stream.text, "c") is not None for stream in media)
