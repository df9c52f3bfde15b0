"""Body parts (RFC 2046 5.1) for sipmsgops: has, remove, add."""

from __future__ import annotations

from typing import NamedTuple

from opensips_py.core.script_errors import note_bad_headers
from opensips_py.modules.sipmsgops.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, HeaderLines, L, Line, O, R
from opensips_py.script.pseudo_variables_message import is_media_type
from opensips_py.sip.edits import apply
from opensips_py.sip.headers import kind_of

ROFBL = R | O | F | B | L
CONTENT_TYPE = "sipmsgops.content_type"
"""Slot of a Context: the Content-Type that the message will have, once it has been changed."""
BOUNDARY = "OSS-unique-boundary-42"


class Part(NamedTuple):
    """One body part: where it lies in the body (with its own headers), and its content."""

    kind: str
    """Content type in lower case, without parameters."""
    start: int
    """Of the delimiter line before it; of the content in a body that is not multipart."""
    content: int
    end: int


def content_type(ctx: Context) -> str:
    """The Content-Type that the message has or will have."""
    changed: str | None = ctx.slots.get(CONTENT_TYPE)
    return (ctx.msg.content_type or "") if changed is None else changed


def parts(ctx: Context) -> list[Part]:
    """The parts of the body as it will be sent."""
    body = ctx.msg.pending_body()
    given = content_type(ctx)
    kind = given.partition(";")[0].strip().lower()
    if not body:
        return []
    boundary = _boundary(given)
    if not kind.startswith("multipart/") or not boundary:
        return [Part(kind, 0, 0, len(body))]
    found = []
    delimiter = "--" + boundary
    at = 0 if body.startswith(delimiter) else body.find("\r\n" + delimiter) + 2
    while at >= 2 or body.startswith(delimiter, at):
        if body.startswith("--", at + len(delimiter)):
            break
        following = body.find("\r\n" + delimiter, at + len(delimiter))
        end = len(body) if following < 0 else following
        head_end = body.find("\r\n\r\n", at, end + 4)
        content = end if head_end < 0 else min(head_end + 4, end)
        found.append(Part(_kind_of_part(body[at:content]), at, content, end))
        if following < 0:
            break
        at = following + 2
    return found


def _boundary(given: str) -> str:
    for piece in given.split(";")[1:]:
        name, _, value = piece.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"')
    return ""


def _kind_of_part(head: str) -> str:
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if kind_of(name) == "content-type":
            return value.partition(";")[0].strip().lower()
    return "text/plain"


def set_body(ctx: Context, body: str, kind: str) -> None:
    """Give the message another body; ``kind`` is its Content-Type, empty for none."""
    msg = ctx.msg
    if kind != content_type(ctx):
        header = msg.header("content-type")
        if header is not None and kind:
            msg.replace_value(header, kind)
        elif header is not None:
            msg.remove_header(header)
        else:
            msg.edits = [edit for edit in msg.edits if not (edit[1] == 0 and edit[2].startswith("Content-Type:"))]
            if kind:
                msg.append_header(f"Content-Type: {kind}\r\n")
        ctx.slots[CONTENT_TYPE] = kind
    msg.replace_body(body)


@module.function(routes=ROFBL)
def has_body(ctx: Context, kind: str | None = None) -> int:
    """Whether the message has a body, and its Content-Type is this one."""
    if not ctx.msg.pending_body():
        return -1
    if kind is None:
        return 1
    if not is_media_type(content_type(ctx)):
        note_bad_headers(ctx, "error parsing CT-TYPE header")
        return -1
    return 1 if content_type(ctx).partition(";")[0].strip().lower() == kind.strip().lower() else -1


@module.function(routes=ROFBL)
def has_body_part(ctx: Context, kind: str | None = None) -> int:
    """Whether the body is, or has a part, of a content type."""
    found = parts(ctx)
    return 1 if any(kind is None or part.kind == kind.strip().lower() for part in found) else -1


@module.function(routes=ROFBL)
def remove_body_part(ctx: Context, kind: str | None = None, revert: str | None = None) -> int:
    """Remove the parts of a content type, or with ``revert`` all others; without type everything. -1 when there are none."""
    found = parts(ctx)
    wanted = None if kind is None else kind.strip().lower()
    doomed = [part for part in found if wanted is None or (part.kind == wanted) != (revert is not None)]
    if not doomed:
        return -1
    if len(doomed) == len(found):
        set_body(ctx, "", "")
        return 1
    body = ctx.msg.pending_body()
    set_body(
        ctx, apply(body, [(part.start, min(part.end + 2, len(body)) - part.start, "") for part in doomed]), content_type(ctx)
    )
    return 1


@module.function(routes=ROFBL)
def add_body_part(ctx: Context, text: str, kind: Line, headers: HeaderLines | None = None) -> int:
    """Add a part to the body; a message that has a body becomes, or stays, multipart."""
    extra = ""
    if headers:
        extra = headers if headers.endswith("\n") else headers + "\r\n"
    existing = content_type(ctx)
    body = ctx.msg.pending_body()
    if not body:
        set_body(ctx, text, kind)
        if extra:
            ctx.msg.append_header(extra)
        return 1
    boundary = _boundary(existing) if existing.lower().startswith("multipart/") else ""
    part = f"Content-Type: {kind}\r\n{extra}\r\n{text}\r\n"
    if boundary:
        close = body.rfind(f"--{boundary}--")
        base = body[:close] if close >= 0 else body + "\r\n"
        set_body(ctx, f"{base}--{boundary}\r\n{part}--{boundary}--\r\n", existing)
    else:
        first = f"Content-Type: {existing}\r\n\r\n{body}\r\n"
        whole = f"--{BOUNDARY}\r\n{first}--{BOUNDARY}\r\n{part}--{BOUNDARY}--\r\n"
        set_body(ctx, whole, f"multipart/mixed;boundary={BOUNDARY}")
    return 1
