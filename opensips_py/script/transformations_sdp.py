"""``{sdp.…}``: lines and media streams of a session description (RFC 4566)."""

from __future__ import annotations

import re

from opensips_py.script.context import Value
from opensips_py.script.transformations import Fixed, transformation


def sdp_lines(text: str) -> list[str]:
    """The lines of a session description without their line ends."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.rstrip("\r") for line in lines]


def streams(text: str) -> list[tuple[int, int]]:
    """Start and end in ``text`` of each media description, its ``m=`` line included.

    None at all for a description that is not one (RFC 4566 5): it needs an ``o=`` line, and an address for each stream.
    """
    starts = [match.start() for match in _MEDIA(text)]
    if not starts or not _ORIGIN(text, 0, starts[0]):
        return []
    found = list(zip(starts, [*starts[1:], len(text)], strict=True))
    if not _ADDRESS(text, 0, starts[0]) and not all(_ADDRESS(text, start, end) for start, end in found):
        return []
    return found


_MEDIA = re.compile("^m=", re.MULTILINE).finditer
_ORIGIN = re.compile("^o=", re.MULTILINE).search
_ADDRESS = re.compile("^c=", re.MULTILINE).search


def _check_line(kind: object, index: object = 0) -> str | None:
    return "the number of the line cannot be negative" if isinstance(index, int) and index < 0 else None


@transformation("sdp.line", Fixed, int, required=1, check=_check_line)
def _line(text: str, kind: str, index: int = 0) -> Value:
    """The line of a type (o, c, m, ...), whole; the index chooses among several, from 0."""
    kind = kind.strip()[:1]  # one letter: what follows it is passed over, as in OpenSIPS
    found = [line for line in sdp_lines(text) if line.startswith(kind + "=")]
    return found[index] if 0 <= index < len(found) else None


LONGEST_MEDIA = 64
_NUMBER = re.compile("-?[0-9]{1,9}").fullmatch


def _stream(found: list[tuple[int, int]], text: str, which: str) -> tuple[int, int] | None:
    """The stream with a number (negative: from the end) or with a media type."""
    which = which.strip()
    if _NUMBER(which):
        index = int(which)
        return found[index] if -len(found) <= index < len(found) else None
    wanted = which.lower()
    size = len(wanted)
    if size > LONGEST_MEDIA:
        return None
    for start, end in found:
        if text[start + 2 : start + 2 + size].lower() == wanted and (
            end <= start + 2 + size or text[start + 2 + size] in " \r\n"
        ):
            return start, end
    return None


@transformation("sdp.stream", str, rest=True)
def _get_stream(text: str, which: str) -> Value:
    """A media description, chosen by number or media type."""
    place = _stream(streams(text), text, which)
    return None if place is None else text[place[0] : place[1]]


@transformation("sdp.stream-delete", str, rest=True)
def _delete_stream(text: str, which: str) -> Value:
    """The session without one media description, chosen by number or media type; NULL for what is not a session with media."""
    found = streams(text)
    if not found:
        return None
    place = _stream(found, text, which)
    return text if place is None else text[: place[0]] + text[place[1] :]
