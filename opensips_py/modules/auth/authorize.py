"""pv_www_authorize(), pv_proxy_authorize(): credentials against variables; consume_credentials()."""

from __future__ import annotations

from typing import Annotated, Any

from opensips_py.modules.auth import credentials
from opensips_py.modules.auth.credentials import FAILED, PROXY, WWW
from opensips_py.modules.auth.declared import Settings, calculate_ha1, module
from opensips_py.script.context import Context
from opensips_py.script.declarations import R
from opensips_py.server.log import ERROR, log
from opensips_py.sip.edits import Deleted


def _specs_fault(realm: str, registry: Any) -> str | None:
    if Settings.username is None:
        return 'there are no variables to compare with: set modparam("auth", "username_spec", "$avp(user)") and "password_spec"'
    return None


RealmText = Annotated[str, "str", _specs_fault]


@module.function(routes=R)
def pv_www_authorize(ctx: Context, realm: RealmText) -> int:
    """Compare the credentials in Authorization with the variables ``username_spec`` and ``password_spec``.

    1 they are right, -1 another user, -2 wrong password, -3 the nonce is not ours, has ended or was used, -4 no credentials for
    the realm, -5 credentials that lack something. ``realm`` empty: the host of To for a REGISTER, else of From.
    """
    return _authorize(ctx, WWW, realm)


@module.function(routes=R)
def pv_proxy_authorize(ctx: Context, realm: RealmText) -> int:
    """The same for Proxy-Authorization."""
    return _authorize(ctx, PROXY, realm)


def _authorize(ctx: Context, header: str, realm: str) -> int:
    claim = credentials.claim(ctx, header, realm)
    if isinstance(claim, int):
        return claim
    if Settings.username is None or Settings.password is None:
        log(ERROR, "auth", "pv_authorize", "the variables to compare with are not named: set username_spec and password_spec")
        return FAILED
    username, password = Settings.username.get(ctx), Settings.password.get(ctx)
    known = username is not None and password is not None and str(username) in (claim.username, claim.user)
    stored = "" if password is None else str(password)
    # of an unknown user as well: it takes as long
    ha1 = claim.hashed(stored) if calculate_ha1.value else stored.lower()
    verdict = credentials.judge(claim, ha1 if stored else None, known=known)
    ctx.slots.update(verdict.slots)
    return verdict.rc


@module.function(routes=R)
def consume_credentials(ctx: Context) -> int:
    """Remove the credentials that one of the functions has found right. -1 when there are none."""
    header = credentials.authorized(ctx)
    if header is None or header.start in Deleted(ctx.msg.edits):
        return -1
    ctx.msg.remove_header(header)
    return 1
