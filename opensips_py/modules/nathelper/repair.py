"""Repairing what a user agent behind NAT says about its own address."""

from __future__ import annotations

import re
from typing import Annotated

from opensips_py.core.pending_body import parts
from opensips_py.modules.nathelper.declared import AvpName, module, nortpproxy_str, oldip_skip
from opensips_py.script.context import Context, Source
from opensips_py.script.declarations import B, F, L, Line, O, R
from opensips_py.script.flag_words import FlagWord, FlagWords
from opensips_py.server.log import WARNING, log
from opensips_py.sip.contact_edits import located
from opensips_py.sip.edits import Deleted
from opensips_py.sip.errors import ParseError
from opensips_py.sip.nameaddr import NameAddr

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


def _contacts(ctx: Context) -> list[tuple[int, NameAddr]] | None:
    """Each Contact with the offset of its URI in the message; None when one cannot be read."""
    try:
        return [(at, address) for at, address in located(ctx.msg) if address.uri != "*"]
    except ParseError:
        return None


@module.function(routes=R | O | B | L)
def fix_nated_contact(ctx: Context, parameters: Line | None = None) -> int:
    """Put the address that the message came from into its Contacts. ``parameters`` (``;name=value``) are put in front
    of those that their URIs have.

    1 done, also when there is no Contact; -1 for one that cannot be read. What follows sees the new URIs: save(),
    is_contact_registered(), nat_uac_test(), ``$ct.fields``.
    """
    found = _contacts(ctx)
    if found is None:
        return -1
    host = f"[{ctx.source.ip}]" if ":" in ctx.source.ip else ctx.source.ip
    edits = ctx.msg.edits
    gone = Deleted(edits)
    for at, address in found:
        m = _HOST_AND_PORT(address.uri)
        if m is None:
            return -1
        if at + m.end(1) in gone:
            continue  # repaired before
        start, end = m.end(1), m.end()
        new = f"{host}:{ctx.source.port}{parameters or ''}"
        if parameters and ctx.msg.text[at - 1] != "<":  # they would be the header's
            new = f"<{address.uri[:start]}{new}{address.uri[end:]}>"
            start, end = 0, len(address.uri)
        edits.append((at + start, end - start, new))
    return 1


@module.function(routes=R)
def fix_nated_register(ctx: Context) -> int:
    """Set the AVP ``received_avp`` to the address that the REGISTER came from, for save(). 1 always."""
    if AvpName.received:
        ctx.avps.setdefault(AvpName.received, []).append(source_uri(ctx.source))
    else:
        log(WARNING, "nathelper", "fix_nated_register", "the parameter received_avp is not set: nothing is noted")
    return 1


@module.function(routes=R)
def add_rcv_param(ctx: Context, in_uri: int | None = None) -> int:
    """Add ``received`` with the address that the message came from to its Contacts; with ``in_uri`` to their URIs.

    1 done, also when there is no Contact; -1 for one that cannot be read.
    """
    found = _contacts(ctx)
    if found is None:
        return -1
    received = f';received="{source_uri(ctx.source)}"'
    for at, address in found:
        if in_uri:
            place = _URI_END(address.uri)
            assert place is not None
            ctx.msg.edits.append((at + place.start(), 0, received))
        else:
            value = address.value
            behind = len(value) - value.index(address.uri, len(address.display))
            ctx.msg.edits.append((at + behind, 0, received))
    return 1


@module.function(routes=R | O | F | B | L)
def fix_nated_sdp(ctx: Context, flags: Annotated[int, "mask", CHANGES], ip: Line | None = None, lines: str | None = None) -> int:
    """Repair the SDP body, or the SDP parts of a multipart one. 1, also when the body is something else; -1 there is no body.

    ``lines`` are added at the end, before the last line end.
    """
    msg = ctx.msg
    body = msg.pending_body()
    if not body:
        return -1
    places = [part for part in parts(ctx) if part.kind == "application/sdp"]
    if not places:
        return 1
    address = (ip or ctx.source.ip).strip("[]")
    for part in reversed(places):
        repaired = _repaired(body[part.content : part.end], flags, address, lines or "")
        body = body[: part.content] + repaired + body[part.end :]
    msg.replace_body(body)
    return 1


def _repaired(description: str, flags: int, address: str, lines: str) -> str:
    """A session description with its addresses changed and lines added.

    ``lines`` go before the last line end, as in OpenSIPS: begin them with one.
    """
    null = flags & FIX_NULL
    family = "IP6" if ":" in address else "IP4"
    added = "a=direction:active\r\n" if flags & ADD_DIRECTION else ""
    for flag, pattern in _ADDRESS.items():
        if flags & flag:
            if _LETTER[flag] not in oldip_skip.value:
                old = dict.fromkeys(m[2] for m in pattern.finditer(description) if m[2] not in ("0.0.0.0", address))
                added += "".join(f"{_NOTE[flag]}:{one}\r\n" for one in old)
            # 0.0.0.0 means hold (RFC 2543 B.5), not a place
            description = pattern.sub(
                lambda m: m[0] if m[2] == "0.0.0.0" and not null else f"{m[1]}{family} {address}", description
            )
    if flags & ADD_NORTPPROXY:
        added += nortpproxy_str.value
    text = description.rstrip("\r\n")
    return text + lines + (description[len(text) :] or "\r\n") + added
