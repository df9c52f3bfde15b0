"""``{sdp.…}``: lines and media streams of a session description (RFC 4566)."""

from __future__ import annotations

from opensips_py.script.context import Value
from opensips_py.script.transformations import transformation


def sdp_lines(text: str) -> list[str]:
    """The lines of a session description without their line ends."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.rstrip("\r") for line in lines]


def streams(text: str) -> list[tuple[int, int]]:
    """Start and end in ``text`` of each media description, its ``m=`` line included."""
    starts = [i + 1 for i in range(len(text)) if text.startswith("\nm=", i)]
    if text.startswith("m="):
        starts.insert(0, 0)
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def _check_line(kind: object, index: object = 0) -> str | None:
    return "the number of the line cannot be negative" if isinstance(index, int) and index < 0 else None


@transformation("sdp.line", str, int, required=1, check=_check_line)
def _line(text: str, kind: str, index: int = 0) -> Value:
    """The line of a type (o, c, m, ...), whole; the index chooses among several, from 0."""
    kind = kind.strip()
    found = [line for line in sdp_lines(text) if line.startswith(kind + "=")]
    return found[index] if 0 <= index < len(found) else None


def _stream(text: str, which: str) -> tuple[int, int] | None:
    """The stream with a number (negative: from the end) or with a media type."""
    which = which.strip()
    found = streams(text)
    if which.lstrip("-").isdigit():
        index = int(which)
        return found[index] if -len(found) <= index < len(found) else None
    for start, end in found:
        media = text[start + 2 : end].split(" ", 1)[0]
        if media.lower() == which.lower():
            return start, end
    return None


@transformation("sdp.stream", str)
def _get_stream(text: str, which: str) -> Value:
    """A media description, chosen by number or media type."""
    place = _stream(text, which)
    return None if place is None else text[place[0] : place[1]]


@transformation("sdp.stream-delete", str)
def _delete_stream(text: str, which: str) -> Value:
    """The session without one media description, chosen by number or media type."""
    place = _stream(text, which)
    return text if place is None else text[: place[0]] + text[place[1] :]
