"""The parts of a multipart body (RFC 2046 5.1). Lines end with CRLF, or with LF alone."""

from __future__ import annotations

import re
from typing import NamedTuple

from opensips_py.sip.headers import kind_of
from opensips_py.sip.params import parse_params, unquote

_EMPTY_LINE = re.compile(r"\r?\n\r?\n")


class Part(NamedTuple):
    """One body part: where it lies in the body (with its own headers), and its content."""

    kind: str
    """Content type in lower case, without parameters."""
    start: int
    """Of the delimiter line before it; of the content in a body that is not multipart."""
    content: int
    end: int
    """After the content: the line end before the next delimiter belongs to that."""
    next: int
    """Of the delimiter line after it, or the end of the body."""


def type_of(content_type: str) -> str:
    """``Application/SDP; charset=utf-8`` as ``application/sdp``."""
    return content_type.partition(";")[0].strip().lower()


def boundary_of(content_type: str) -> str:
    """What delimits the parts; empty when the type is not multipart, or names no boundary."""
    if not type_of(content_type).startswith("multipart/"):
        return ""
    return unquote(parse_params(content_type.partition(";")[2]).get("boundary") or "")


def parts(body: str, content_type: str) -> list[Part]:
    """The parts of a body; one that is not multipart is its only part, an empty one has none."""
    if not body:
        return []
    boundary = boundary_of(content_type)
    if not boundary:
        return [Part(type_of(content_type), 0, 0, len(body), len(body))]
    found: list[Part] = []
    start, head = -1, 0
    for delimiter in re.finditer(rf"(?:\A|\r?\n)(?=--{re.escape(boundary)}(--)?[ \t]*(?:\r?\n|\Z))", body):
        if start >= 0:
            found.append(_part(body, start, head, delimiter.start(), delimiter.end()))
        if delimiter[1]:
            return found
        start = delimiter.end()
        head = start + 2 + len(boundary)
    if start >= 0:  # the last delimiter is missing
        found.append(_part(body, start, head, len(body), len(body)))
    return found


def _part(body: str, start: int, head: int, end: int, following: int) -> Part:
    empty = _EMPTY_LINE.search(body, head, end)
    content = end if empty is None else empty.end()
    return Part(_kind(body[head:content]), start, content, end, following)


def _kind(head: str) -> str:
    for line in head.split("\n"):
        name, colon, value = line.partition(":")
        if colon and kind_of(name) == "content-type":
            return type_of(value)
    return "text/plain"


def content_of(body: str, content_type: str, kind: str) -> str | None:
    """The content of the first part of a type; None when there is none."""
    for part in parts(body, content_type):
        if part.kind == kind:
            return body[part.content : part.end]
    return None
