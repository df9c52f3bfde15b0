"""Body parts (RFC 2046 5.1) for sipmsgops: has, remove, add."""

from __future__ import annotations

from opensips_py.core.pending_body import CONTENT_TYPE, content_type, parts
from opensips_py.modules.sipmsgops.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, F, HeaderLines, L, Line, O, R
from opensips_py.script.pseudo_variables_message import is_media_type
from opensips_py.sip import multipart
from opensips_py.sip.edits import apply, deletes
from opensips_py.sip.headers import kind_of
from opensips_py.tm.script_errors import note_bad_headers

ROFBL = R | O | F | B | L
BOUNDARY = "OSS-unique-boundary-42"


def set_body(ctx: Context, body: str, kind: str, headers: str = "") -> None:
    """Give the message another body; ``kind`` is its Content-Type, empty for none, ``headers`` are more lines about it."""
    msg = ctx.msg
    if kind != content_type(ctx):
        header = msg.header("content-type")
        if header is not None and deletes(msg.edits, header.start):
            header = None
        msg.edits = [edit for edit in msg.edits if edit[1] or not edit[2].startswith("Content-Type:")]
        if header is not None and kind:
            msg.replace_value(header, kind)
        elif header is not None:
            msg.remove_header(header)
        elif kind:
            msg.append_header(f"Content-Type: {kind}\r\n")
        ctx.slots[CONTENT_TYPE] = kind
    if headers:
        msg.append_header(headers)
    msg.replace_body(body)


@module.function(routes=ROFBL)
def has_body(ctx: Context, kind: str | None = None) -> int:
    """Whether the message has a body, and it is of this content type, or one of its parts is."""
    if not ctx.msg.pending_body():
        return -1
    if not kind:
        return 1
    if not is_media_type(content_type(ctx)):
        note_bad_headers(ctx, "error parsing CT-TYPE header")
        return -1
    return 1 if multipart.type_of(content_type(ctx)) == kind.strip().lower() else has_body_part(ctx, kind)


@module.function(routes=ROFBL)
def has_body_part(ctx: Context, kind: str | None = None) -> int:
    """Whether the body is, or has a part, of a content type."""
    found = parts(ctx)
    return 1 if any(not kind or part.kind == kind.strip().lower() for part in found) else -1


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
    left = [part for part in found if part not in doomed]
    if len(left) == 1:
        _become(ctx, body, left[0])
    else:
        set_body(ctx, apply(body, [(part.start, part.next - part.start, "") for part in doomed]), content_type(ctx))
    return 1


def _become(ctx: Context, body: str, part: multipart.Part) -> None:
    """What is left of a multipart body becomes the message's own, with the headers that the part had."""
    kind, headers = "text/plain", ""
    for line in body[part.start : part.content].split("\n")[1:]:
        name, colon, value = line.rstrip("\r").partition(":")
        if colon and kind_of(name) == "content-type":
            kind = value.strip()
        elif colon:
            headers += f"{name}:{value}\r\n"
    set_body(ctx, body[part.content : part.end], kind, headers)


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
    boundary = multipart.boundary_of(existing)
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
