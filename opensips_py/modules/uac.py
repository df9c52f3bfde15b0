"""OpenSIPS module uac: From and To under another name, and answers to challenges.

What was replaced is restored by itself in replies. For later requests of the dialog, the replaced URI and the original one are
kept in Record-Route, as their exclusive or: whichever side sends, the URI that it uses gives the other one. ``restore_mode``:
``auto`` restores in loose_route(), ``manual`` only with uac_restore_from() and uac_restore_to(), ``none`` keeps nothing.
"""

from __future__ import annotations

import base64
import binascii
from itertools import cycle, zip_longest

from opensips_py.core import address_headers
from opensips_py.core.forking import RECORD_FLAGS
from opensips_py.core.log import ERROR, log
from opensips_py.modules import rr
from opensips_py.modules import uac_auth as uac_credentials
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, Module, R
from opensips_py.tm.record import RESTORE_CSEQ, RESTORE_FROM, RESTORE_TO

module = Module("uac", doc="From and To under another name, answers to challenges (OpenSIPS module uac)", depends=("tm", "rr"))

rr_from_store_param = module.param("rr_from_store_param", str, "vsf", doc="parameter of Record-Route that keeps From")
rr_to_store_param = module.param("rr_to_store_param", str, "vst", doc="parameter of Record-Route that keeps To")
restore_mode = module.param("restore_mode", str, "auto", doc="none, manual or auto")
restore_passwd = module.param("restore_passwd", str, "", doc="key that the kept URIs are encrypted with")
module.param("force_dialog", int, 0, doc="keep the URIs in a dialog", no_effect="they are kept in Record-Route")


@module.on_check
@module.on_config
def configure() -> None:
    """Check the parameters; restore in loose_route() if that is wanted."""
    mode = restore_mode.value
    if mode not in ("none", "manual", "auto"):
        raise ConfigError(f'uac: restore_mode is "{mode}"; it must be "none", "manual" or "auto"')
    for parameter in (rr_from_store_param, rr_to_store_param):
        if not parameter.value:
            raise ConfigError(f"uac: {parameter.name} must not be empty")
    if _restore_automatically in rr.routed:
        rr.routed.remove(_restore_automatically)
    if mode == "auto":
        rr.routed.append(_restore_automatically)


# --- what is kept in Record-Route -----------------------------------------------------------------------------------


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip_longest(one, other, fillvalue=0))


def _crypt(data: bytes) -> bytes:
    key = restore_passwd.value.encode("latin-1")
    return bytes(a ^ b for a, b in zip(data, cycle(key), strict=False)) if key else data


def store(old: str, new: str) -> str:
    """Both URIs in one parameter value."""
    mixed = _crypt(_xor(old.encode("latin-1"), new.encode("latin-1")))
    return base64.b64encode(mixed).decode().replace("=", "-")


def other_uri(stored: str, uri: str) -> str | None:
    """The URI that stands for ``uri`` on the other side; None when the parameter does not hold one."""
    known = uri.encode("latin-1")
    try:
        mixed = _crypt(base64.b64decode(stored.replace("-", "=").encode("latin-1"), validate=True))
    except (binascii.Error, ValueError):
        return None
    if len(mixed) < len(known):
        return None
    found = _xor(mixed, known).rstrip(b"\0")
    return found.decode("latin-1") or None


# --- replacing ------------------------------------------------------------------------------------------------------


def _replace(ctx: Context, kind: str, display: str | None, uri: str) -> int:
    msg = ctx.msg
    mode = restore_mode.value
    if mode == "auto" and uri and msg.to is not None and msg.to.tag is not None:
        log(ERROR, "uac", f"uac_replace_{kind}", "a request of a dialog keeps its URIs with restore_mode auto (it has a To tag)")
        return -1
    found = address_headers.read(msg, kind)
    if found is None:
        log(ERROR, "uac", f"uac_replace_{kind}", f"{kind.capitalize()} cannot be read")
        return -1
    original = found[1].uri
    address_headers.replace(msg, kind, display, uri or None)
    if mode == "none" or not uri:
        return 1
    name = rr_from_store_param.value if kind == "from" else rr_to_store_param.value
    rr.add_rr_param(ctx, f";{name}={store(original, uri)}")
    _restore_in_replies(ctx, kind)
    return 1


def _restore_in_replies(ctx: Context, kind: str) -> None:
    flag = RESTORE_FROM if kind == "from" else RESTORE_TO
    ctx.slots[RECORD_FLAGS] = ctx.slots.get(RECORD_FLAGS, 0) | flag


@module.function(routes=R | B | F)
def uac_replace_from(ctx: Context, display: str | None, uri: str) -> int:
    """Replace display name and URI of From. An empty display name removes it, an omitted one leaves it; so does an empty URI.

    1 done, -1 error.
    """
    return _replace(ctx, "from", display, uri)


@module.function(routes=R | B | F)
def uac_replace_to(ctx: Context, display: str | None, uri: str) -> int:
    """Replace display name and URI of To, as uac_replace_from() does."""
    return _replace(ctx, "to", display, uri)


# --- restoring ------------------------------------------------------------------------------------------------------


def _restore(ctx: Context, kind: str) -> bool:
    """Put the URI of the other side into a request of the dialog. False when there is nothing to restore.

    ``kind`` is the header of the request that began the dialog: in one that goes upstream From and To have changed places.
    """
    stored = rr.route_param(ctx, rr_from_store_param.value if kind == "from" else rr_to_store_param.value)
    if stored is None:
        return False
    upstream = rr.is_direction(ctx, "upstream") == 1
    now = {"from": "to", "to": "from"}[kind] if upstream else kind
    found = address_headers.read(ctx.msg, now)
    uri = None if found is None else other_uri(stored, found[1].uri)
    if uri is None:
        log(ERROR, "uac", f"uac_restore_{kind}", f"the URI kept in Route does not fit {now.capitalize()} of the request")
        return False
    address_headers.replace(ctx.msg, now, None, uri)
    _restore_in_replies(ctx, now)
    return True


def _restore_automatically(ctx: Context) -> None:
    _restore(ctx, "from")
    _restore(ctx, "to")


@module.function(routes=R | B | F)
def uac_restore_from(ctx: Context) -> int:
    """Restore what uac_replace_from() has replaced, in a later request of the dialog. 1 done, -1 nothing to restore."""
    return 1 if _restore(ctx, "from") else -1


@module.function(routes=R | B | F)
def uac_restore_to(ctx: Context) -> int:
    """Restore what uac_replace_to() has replaced, in a later request of the dialog. 1 done, -1 nothing to restore."""
    return 1 if _restore(ctx, "to") else -1


# --- answering challenges -------------------------------------------------------------------------------------------

ANSWER = "uac.answer"
"""Slot of a Context: the Authorization line that uac_auth() has added to the request."""


@module.function(routes=R | B | F)
def uac_auth(ctx: Context) -> int:
    """Answer the challenge of a 401 or 407 (in a failure route) with a credential of module uac_auth.

    Adds Authorization or Proxy-Authorization and raises CSeq by one (RFC 3261 22.2); what goes back to the caller has its own
    number again. To be followed by t_relay(). 1 done; -1 no such reply, no challenge with a known algorithm and realm.
    """
    msg, reply = ctx.msg, ctx.reply
    if reply is None or reply.status not in (401, 407) or msg.cseq is None:
        log(ERROR, "uac", "uac_auth", "there is no 401 or 407 to answer")
        return -1
    line = uac_credentials.answer(ctx, reply, msg.method, ctx.ruri, msg.pending_body())
    if line is None:
        log(ERROR, "uac", "uac_auth", "there is no credential for the realm of the challenge, or its algorithm is unknown")
        return -1
    before = ctx.slots.get(ANSWER)
    if before is not None:  # an answer to an earlier challenge, to a nonce that was stale
        msg.edits = [edit for edit in msg.edits if edit[1] or edit[2] != before]
    msg.append_header(line)
    ctx.slots[ANSWER] = line
    times = ctx.slots["uac.times"] = ctx.slots.get("uac.times", 0) + 1
    address_headers.set_cseq(msg, msg.cseq.number + times)
    ctx.slots[RECORD_FLAGS] = ctx.slots.get(RECORD_FLAGS, 0) | RESTORE_CSEQ
    return 1
