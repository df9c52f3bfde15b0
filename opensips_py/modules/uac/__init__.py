"""OpenSIPS module uac: From and To under another name, and answers to challenges.

What was replaced is restored by itself in replies. For later requests of the dialog both URIs are kept in Record-Route, sealed
(:mod:`opensips_py.modules.uac.sealed`): whoever sends a request chooses what stands in Route, and must not choose what is written
into From or To here. ``restore_mode``: ``auto`` restores in loose_route(), ``manual`` only with
uac_restore_from() and uac_restore_to(), ``none`` keeps nothing.
"""

from __future__ import annotations

from opensips_py.modules import rr
from opensips_py.modules import uac_auth as uac_credentials
from opensips_py.modules.uac import raised_cseq, sealed
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, Line, Module, R
from opensips_py.server.log import ERROR, log
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import address_headers
from opensips_py.tm.forking import RECORD_FLAGS
from opensips_py.tm.record import RESTORE_FROM, RESTORE_TO
from opensips_py.tm.transaction import look

module = Module("uac", doc="From and To under another name, answers to challenges (OpenSIPS module uac)", depends=("tm", "rr"))

rr_from_store_param = module.param("rr_from_store_param", str, "vsf", doc="parameter of Record-Route that keeps From")
rr_to_store_param = module.param("rr_to_store_param", str, "vst", doc="parameter of Record-Route that keeps To")
restore_mode = module.param("restore_mode", str, "auto", doc="none, manual or auto")
restore_passwd = module.param(
    "restore_passwd",
    str,
    "",
    doc="what the kept URIs are sealed with; by default a random key, so that dialogs do not survive a restart, and other "
    "servers cannot restore",
)
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
    for call in (_keep_numbers, _restore_automatically):
        if call in rr.routed:
            rr.routed.remove(call)
    rr.routed.append(_keep_numbers)
    if mode == "auto":
        rr.routed.append(_restore_automatically)


# --- what is kept in Record-Route -----------------------------------------------------------------------------------


def store(ctx: Context, kind: str, original: str, new: str) -> str:
    """Both URIs in one parameter value, good for this dialog alone."""
    return sealed.seal(sealed.key_of(restore_passwd.value), f"{kind} {ctx.msg.call_id}", f"{original}\0{new}")


def other_uri(ctx: Context, kind: str, stored: str, uri: str, upstream: bool) -> str | None:
    """The URI that stands for ``uri`` on the other side; None when the parameter was not made by :func:`store` for this dialog.

    ``upstream`` decides when ``uri`` is neither of the two, because its sender has written it in another way.
    """
    text = sealed.unseal(sealed.key_of(restore_passwd.value), f"{kind} {ctx.msg.call_id}", stored)
    original, both, new = (text or "").partition("\0")
    if not both:
        return None
    if uri == original != new:
        found = new
    elif uri == new:
        found = original
    else:
        found = original if upstream else new
    return found if uri_or_none(found) is not None else None


# --- replacing ------------------------------------------------------------------------------------------------------


def _replace(ctx: Context, kind: str, display: str | None, uri: str) -> int:
    msg = ctx.msg
    mode = restore_mode.value
    if mode == "auto" and uri and msg.to is not None and msg.to.tag is not None:
        log(ERROR, "uac", f"uac_replace_{kind}", "a request of a dialog keeps its URIs with restore_mode auto (it has a To tag)")
        return -1
    if not _one_line(display or "") or not _one_line(uri):
        log(ERROR, "uac", f"uac_replace_{kind}", "a display name or URI with a line end or NUL would be another header")
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
    rr.add_rr_param(ctx, f";{name}={store(ctx, kind, original, uri)}")
    _restore_in_replies(ctx, kind)
    return 1


def _one_line(text: str) -> bool:
    return "\r" not in text and "\n" not in text and "\0" not in text


def _restore_in_replies(ctx: Context, kind: str) -> None:
    flag = RESTORE_FROM if kind == "from" else RESTORE_TO
    ctx.slots[RECORD_FLAGS] = ctx.slots.get(RECORD_FLAGS, 0) | flag


@module.function(routes=R | B | F)
def uac_replace_from(ctx: Context, display: Line | None, uri: Line) -> int:
    """Replace display name and URI of From. An empty display name removes it, an omitted one leaves it; so does an empty URI.

    1 done, -1 error.
    """
    return _replace(ctx, "from", display, uri)


@module.function(routes=R | B | F)
def uac_replace_to(ctx: Context, display: Line | None, uri: Line) -> int:
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
    uri = None if found is None else other_uri(ctx, kind, stored, found[1].uri, upstream)
    if uri is None:
        log(ERROR, "uac", f"uac_restore_{kind}", "what Route says of the URI was not made by this server for this dialog")
        return False
    address_headers.replace(ctx.msg, now, None, uri)
    if restore_mode.value == "auto":
        _restore_in_replies(ctx, now)
    return True


def _restore_automatically(ctx: Context) -> None:
    _restore(ctx, "from")
    _restore(ctx, "to")


def _keep_numbers(ctx: Context) -> None:
    """Go on from the number in CSeq that an answered challenge has led to."""
    of_route = rr.route_param(ctx, raised_cseq.PARAMETER)
    raised_cseq.follow(ctx, None if of_route is None or rr.is_direction(ctx, "upstream") == 1 else of_route)


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

    Aims the request at the URI of the branch that was challenged, adds Authorization or Proxy-Authorization, and raises CSeq by
    one (RFC 3261 22.2), as it is then in the whole dialog; what goes back to the caller has its own number again. To be followed
    by t_relay(). 1 done; -1 no such reply, no challenge with a known algorithm and realm.
    """
    msg, reply = ctx.msg, ctx.reply
    if reply is None or reply.status not in (401, 407) or msg.cseq is None:
        log(ERROR, "uac", "uac_auth", "there is no 401 or 407 to answer")
        return -1
    uri = _uri_of_branch(ctx)
    line = uac_credentials.answer(ctx, reply, msg.method, uri, msg.pending_body())
    if line is None:
        log(ERROR, "uac", "uac_auth", "there is no credential for the realm of the challenge, or its algorithm is unknown")
        return -1
    before = ctx.slots.get(ANSWER)
    if before is not None:  # called twice
        msg.edits = [edit for edit in msg.edits if edit[1] or edit[2] != before]
    else:
        by = raised_cseq.answer_challenge(ctx)
        if msg.to is None or msg.to.tag is None:
            rr.add_rr_param(ctx, f";{raised_cseq.PARAMETER}={by}")
    ctx.new_uri = None if uri == msg.ruri else uri
    msg.append_header(line)
    ctx.slots[ANSWER] = line
    return 1


def _uri_of_branch(ctx: Context) -> str:
    """The R-URI of the branch that was challenged."""
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None or not 0 <= ctx.branch_index < len(rec.branches):
        return ctx.ruri
    return rec.branches[ctx.branch_index].uri or ctx.ruri
