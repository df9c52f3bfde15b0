"""Repairing what a user agent behind NAT says about its own address."""

from __future__ import annotations

import re
from typing import Annotated

from opensips_py.core.log import ERROR, log
from opensips_py.modules.nathelper.declared import AvpName, module, nortpproxy_str, oldip_skip
from opensips_py.script.context import Context, Source
from opensips_py.script.declarations import B, F, L, Line, O, R
from opensips_py.script.flag_words import FlagWord, FlagWords
from opensips_py.sip.edits import Deleted
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import split_values
from opensips_py.sip.nameaddr import parse_nameaddr

ADD_DIRECTION, FIX_MEDIA, ADD_NORTPPROXY, FIX_ORIGIN, FIX_NULL = 1, 2, 4, 8, 16
"""Flags of fix_nated_sdp()."""
CHANGES = FlagWords(
    FlagWord("add-dir-active", ADD_DIRECTION, "add `a=direction:active`"),
    FlagWord("rewrite-media-ip", FIX_MEDIA, "media addresses (`c=`) become `ip`, or the address that the message came from"),
    FlagWord("add-no-rtpproxy", ADD_NORTPPROXY, "add `nortpproxy_str`"),
    FlagWord("rewrite-origin-ip", FIX_ORIGIN, "the same as rewrite-media-ip for the address of `o=`"),
    FlagWord("rewrite-null-ips", FIX_NULL, "0.0.0.0 (hold) is rewritten like other addresses"),
)

_HOST_AND_PORT = re.compile(r"(sips?:(?:[^@]*@)?)(\[[0-9A-Fa-f:.]+\]|[^\s:;?>]+)(?::[0-9]+)?", re.IGNORECASE).match
_URI_END = re.compile(r"[?>]|\Z").search
_ADDRESS = {
    FIX_MEDIA: re.compile(r"^(c=IN )IP[46] ([^\s/]+)", re.MULTILINE),
    FIX_ORIGIN: re.compile(r"^(o=\S+ \S+ \S+ IN )IP[46] ([^\s/]+)", re.MULTILINE),
}
_LETTER = {FIX_MEDIA: "c", FIX_ORIGIN: "o"}
"""Letters of ``oldip_skip``."""
_NOTE = {FIX_MEDIA: "a=oldcip", FIX_ORIGIN: "a=oldoip"}


def source_uri(source: Source) -> str:
    """The address that a message came from, as a URI."""
    host = f"[{source.ip}]" if ":" in source.ip else source.ip
    return f"sip:{host}:{source.port}" + ("" if source.proto == "udp" else f";transport={source.proto}")


def _values(ctx: Context) -> list[tuple[int, str]]:
    """Each Contact value with its offset in the message; empty when one cannot be read."""
    found = []
    for header in ctx.msg.all("contact"):
        at = header.value_start
        for value in split_values(header.value):
            try:
                address = parse_nameaddr(value)
            except ParseError:
                return []
            at = ctx.msg.text.index(value, at)
            if address.uri != "*":
                found.append((at + value.index(address.uri, len(address.display)), address.uri))
            at += len(value)
    return found


@module.function(routes=R | O | B | L)
def fix_nated_contact(ctx: Context, parameters: Line | None = None) -> int:
    """Put the address that the message came from into its Contacts. ``parameters`` (``;name=value``) are added to their URIs.

    1 done, -1 there is no Contact, or one that cannot be read.
    """
    values = _values(ctx)
    host = f"[{ctx.source.ip}]" if ":" in ctx.source.ip else ctx.source.ip
    edits = ctx.msg.edits
    gone = Deleted(edits)
    done = -1
    for at, uri in values:
        m = _HOST_AND_PORT(uri)
        if m is None:
            return -1
        done = 1
        if at + m.end(1) in gone:
            continue  # repaired before
        edits.append((at + m.end(1), m.end() - m.end(1), f"{host}:{ctx.source.port}"))
        if parameters:
            end = _URI_END(uri, m.end())
            assert end is not None
            edits.append((at + end.start(), 0, parameters))
    return done


@module.function(routes=R)
def fix_nated_register(ctx: Context) -> int:
    """Set the AVP ``received_avp`` to the address that the REGISTER came from, for save(). -1 when the parameter is not set."""
    if not AvpName.received:
        log(ERROR, "nathelper", "fix_nated_register", "the parameter received_avp is not set")
        return -1
    ctx.avps.setdefault(AvpName.received, []).append(source_uri(ctx.source))
    return 1


@module.function(routes=R)
def add_rcv_param(ctx: Context, in_uri: int | None = None) -> int:
    """Add ``received`` with the address that the message came from to its Contacts; with ``in_uri`` to their URIs.

    1 done, -1 there is no Contact, or one that cannot be read.
    """
    values = _values(ctx)
    text, received = ctx.msg.text, source_uri(ctx.source)
    for at, uri in values:
        end = at + len(uri)
        if in_uri:
            place = _URI_END(uri)
            assert place is not None
            ctx.msg.edits.append((at + place.start(), 0, f";received={received.replace(';', '%3B')}"))
        else:
            if text[end : end + 1] == ">":
                end += 1
            ctx.msg.edits.append((end, 0, f';received="{received}"'))
    return 1 if values else -1


@module.function(routes=R | O | F | B | L)
def fix_nated_sdp(ctx: Context, flags: Annotated[int, "mask", CHANGES], ip: Line | None = None, lines: str | None = None) -> int:
    """Repair the SDP body: 1 done, -1 there is none.

    ``lines`` are added at the end.
    """
    msg = ctx.msg
    kind = (msg.content_type or "").partition(";")[0].strip().lower()
    body = msg.pending_body()
    if kind != "application/sdp" or not body:
        return -1
    address = (ip or ctx.source.ip).strip("[]")
    null = flags & FIX_NULL
    family = "IP6" if ":" in address else "IP4"
    added = "a=direction:active\r\n" if flags & ADD_DIRECTION else ""
    for flag, pattern in _ADDRESS.items():
        if flags & flag:
            if _LETTER[flag] not in oldip_skip.value:
                old = dict.fromkeys(m[2] for m in pattern.finditer(body) if m[2] not in ("0.0.0.0", address))
                added += "".join(f"{_NOTE[flag]}:{one}\r\n" for one in old)
            # 0.0.0.0 means hold (RFC 2543 B.5), not a place
            body = pattern.sub(lambda m: m[0] if m[2] == "0.0.0.0" and not null else f"{m[1]}{family} {address}", body)
    if flags & ADD_NORTPPROXY:
        added += nortpproxy_str.value
    if lines:
        added += lines
    if body[-1:] != "\n":
        body += "\r\n"
    msg.replace_body(body + added)
    return 1
