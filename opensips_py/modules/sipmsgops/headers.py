"""Headers, first line and R-URI parameters, for sipmsgops."""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated

from opensips_py.modules.sipmsgops.declared import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, E, F, HeaderLines, L, Line, O, Pattern, R
from opensips_py.script.pseudo_variables_uri import ruri_parts
from opensips_py.script.shell_pattern import matcher
from opensips_py.script.variables import Registry
from opensips_py.server.process import this
from opensips_py.sip.edits import Deleted
from opensips_py.sip.headers import Header, kind_of, split_values
from opensips_py.sip.remembered import remembered
from opensips_py.sip.uri import parse_uri, uri_or_none
from opensips_py.tm.msg_translator import REPLY_HEADERS

ROFBL = R | O | F | B | L


def _line(text: str) -> str:
    """Header text with its line end: OpenSIPS leaves it to the script, and sends a broken message when it is missing."""
    return text if text.endswith("\n") else text + "\r\n"


@module.function(routes=ROFBL)
def append_hf(ctx: Context, text: HeaderLines, header: str | None = None) -> int:
    """Add header lines at the end, or after the first header with a name."""
    msg = ctx.msg
    anchor = None if header is None else msg.header(kind_of(header))
    if anchor is None:
        msg.append_header(_line(text))
    else:
        msg.edits.append((anchor.end, 0, _line(text)))
    return 1


@module.function(routes=ROFBL)
def insert_hf(ctx: Context, text: HeaderLines, header: str | None = None) -> int:
    """Add header lines before the first header, or before the first one with a name."""
    ctx.msg.insert_header(_line(text), None if header is None else kind_of(header))
    return 1


@module.function(routes=R | F | B)
def append_urihf(ctx: Context, before: HeaderLines, after: HeaderLines) -> int:
    """Add a header made of text, the R-URI as received, and text."""
    ctx.msg.append_header(_line(before + ctx.msg.ruri + after))
    return 1


def _named(name: str) -> str:
    """The kind of header that a script names; ``Subject:`` is ``Subject``."""
    return kind_of(name.partition(":")[0])


def _remove(ctx: Context, found: list[Header]) -> int:
    """Remove headers, those that have not been removed already."""
    if ctx.msg.edits:
        gone = Deleted(ctx.msg.edits)
        found = [header for header in found if header.start not in gone]
    ctx.msg.change_headers([(header, None) for header in found])
    return 1 if found else -1


@module.function(routes=ROFBL)
def remove_hf(ctx: Context, name: str) -> int:
    """Remove all headers with a name. -1 when there are none."""
    found = ctx.msg.all(kind_of(name))
    return _remove(ctx, found)


@module.function(routes=ROFBL)
def remove_hf_re(ctx: Context, names: Pattern) -> int:
    """Remove all headers whose name matches a regular expression. -1 when there are none."""
    found = [header for header in ctx.msg.headers if names.test(header.name)]
    return _remove(ctx, found)


@module.function(routes=ROFBL)
def remove_hf_glob(ctx: Context, names: str) -> int:
    """Remove all headers whose name matches a shell pattern; case counts. -1 when there are none."""
    matches = matcher(names)
    found = [header for header in ctx.msg.headers if matches(header.name)]
    return _remove(ctx, found)


@module.function(routes=ROFBL)
def is_present_hf(ctx: Context, name: str) -> int:
    """Whether the message came with a header of this name."""
    return 1 if ctx.msg.has(_named(name)) else -1


@module.function(routes=R | F | B | E)
def append_to_reply(ctx: Context, text: HeaderLines) -> int:
    """Add header lines to every reply that is made here to this request."""
    ctx.slots[REPLY_HEADERS] = ctx.slots.get(REPLY_HEADERS, "") + _line(text)
    return 1


@module.function(routes=R | F | B | L)
def append_time(ctx: Context) -> int:
    """Add a Date header to the replies that are made here (RFC 3261 20.17)."""
    ctx.slots[REPLY_HEADERS] = ctx.slots.get(REPLY_HEADERS, "") + f"Date: {formatdate(this.clock.wall(), usegmt=True)}\r\n"
    return 1


@remembered
def _methods(text: str) -> frozenset[str]:
    return frozenset(method.strip().upper() for method in text.split("|"))


def _methods_fault(text: str, registry: Registry) -> str | None:
    return None if any(_methods(text)) else f"[{text}] names no method; write METHOD|METHOD"


@module.function(routes=ROFBL)
def is_method(ctx: Context, methods: Annotated[str, "str", _methods_fault]) -> int:
    """Whether the method is one of ``INVITE|ACK``; for a reply, the method of its CSeq."""
    return 1 if ctx.msg.method.upper() in _methods(methods) else -1


@module.function(routes=ROFBL)
def has_totag(ctx: Context) -> int:
    """Whether To has a tag: the request belongs to a dialog."""
    to = ctx.msg.to
    return 1 if to is not None and to.tag else -1


@module.function(routes=ROFBL)
def is_privacy(ctx: Context, kind: str) -> int:
    """Whether Privacy (RFC 3323) asks for this kind of privacy."""
    asked = [token.strip().lower() for value in ctx.msg.values("privacy") for token in value.split(";")]
    return 1 if kind.strip().lower() in asked else -1


@module.function(routes=O)
def change_reply_status(ctx: Context, code: int, reason: Line) -> int:
    """Replace status code and phrase of the reply. -1 when a final reply would become provisional or the reverse."""
    msg = ctx.msg
    if msg.is_request or not 100 <= code <= 699 or (code < 200) != (msg.status < 200):
        return -1
    start = len(msg.version) + 1
    end = start
    while end < len(msg.text) and msg.text[end] not in "\r\n":
        end += 1
    msg.edits = [edit for edit in msg.edits if edit[0] != start or not edit[1]]
    msg.edits.append((start, end - start, f"{code} {reason}"))
    msg.status, msg.reason = code, reason
    return 1


@module.function(routes=ROFBL)
def list_hdr_has_option(ctx: Context, header: str, option: str) -> int:
    """Whether a header that is a list (Supported, Require …) has an option."""
    wanted = option.strip().lower()
    return 1 if any(value.lower() == wanted for value in ctx.msg.values(kind_of(header))) else -1


@module.function(routes=ROFBL)
def list_hdr_add_option(ctx: Context, header: str, option: Line) -> int:
    """Add an option to a header that is a list, also when it is there. -1 when there is no such header."""
    found = ctx.msg.all(_named(header))
    if not found:
        return -1
    wanted = option.strip()
    last = found[-1]
    end = last.value_start + len(last.value.rstrip())
    ctx.msg.edits.append((end, 0, f",{wanted}" if last.value.strip() else wanted))
    return 1


@module.function(routes=ROFBL)
def list_hdr_remove_option(ctx: Context, header: str, option: str) -> int:
    """Remove an option from a header that is a list; a header with nothing left is removed. -1 when it is not there."""
    wanted = option.strip().lower()
    changes: list[tuple[Header, str | None]] = []
    for found in ctx.msg.all(kind_of(header)):
        values = split_values(found.value)
        kept = [value for value in values if value.lower() != wanted]
        if len(kept) < len(values):
            changes.append((found, ", ".join(kept) if kept else None))
    ctx.msg.change_headers(changes)
    return 1 if changes else -1


@module.function(routes=R | F | B | L)
def ruri_has_param(ctx: Context, name: str, value: str | None = None) -> int:
    """Whether the R-URI has a parameter with this value; without one, or an empty one, a parameter that has none."""
    uri = ruri_parts(ctx)
    if uri is None or name.lower() not in uri.params:
        return -1
    return 1 if (uri.params[name.lower()] or "") == (value or "") else -1


@module.function(routes=R | F | B | L)
def ruri_add_param(ctx: Context, param: Line) -> int:
    """Add a parameter ``name[=value]`` to the R-URI, before its headers.

    As in OpenSIPS the code is -1 although it has been added; 1 when there is nothing to add.
    """
    uri = ruri_parts(ctx)
    if uri is None or not param:
        return -1 if uri is None else 1
    ctx.new_uri = str(uri._replace(params_text=f"{uri.params_text};{param}" if uri.params_text else param))
    return -1


@module.function(routes=R | F | B | L)
def ruri_del_param(ctx: Context, name: str) -> int:
    """Remove a parameter from the R-URI. -1 when it is not there; 1 when no name is given."""
    uri = ruri_parts(ctx)
    wanted = name.strip().lower()
    if uri is not None and not wanted:
        return 1
    if uri is None or wanted not in uri.params:
        return -1
    kept = [piece for piece in uri.params_text.split(";") if piece.partition("=")[0].strip().lower() != wanted]
    ctx.new_uri = str(uri._replace(params_text=";".join(kept)))
    return 1


@module.function(routes=R | F | B | L)
def ruri_tel2sip(ctx: Context) -> int:
    """Make a ``tel:`` R-URI a ``sip:`` one (RFC 3261 19.1.6) in the domain of From; any other stays. -1 without a domain."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    if uri.kind not in ("tel", "tels"):
        return 1
    sender = None if ctx.msg.from_ is None else uri_or_none(ctx.msg.from_.uri)
    if sender is None or sender.host is None:
        return -1
    user = f"{uri.user};{uri.params_text}" if uri.params_text else uri.user
    ctx.new_uri = str(parse_uri(f"sip{'s' if uri.kind == 'tels' else ''}:{user}@{sender.host};user=phone"))
    return 1


@module.function(routes=R | F | L)
def is_uri_user_e164(ctx: Context, uri: str) -> int:
    """Whether the user of a URI is a global number: ``+`` and 2 to 15 digits (ITU-T E.164)."""
    parts = uri_or_none(uri)
    user = "" if parts is None else parts.user or ""
    digits = user[1:]
    return 1 if user[:1] == "+" and 2 <= len(digits) <= 15 and digits.isascii() and digits.isdigit() else -1
