"""Credentials of a request: finding them, and whether they are right. For pv_*_authorize() and modules that know passwords.

The order of work keeps attackers cheap and tells them nothing: a foreign nonce is refused before a password is looked up,
and a user that does not exist costs the same as a wrong password. A *claim* holds all that is needed to judge it later, in
any process.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

import msgspec

from ipc.store import StoreFull
from opensips_py.modules.auth import nonce
from opensips_py.modules.auth.declared import Settings, realm_prefix
from opensips_py.script.context import Context
from opensips_py.server.log import ERROR, log
from opensips_py.sip.digest import Credentials, ha1, ha2, hash_name, parse_credentials, response_for
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import Header
from opensips_py.sip.uri import loose_uri

AUTHORIZED = 1
NO_USER = -1
WRONG_PASSWORD = -2
STALE = -3
NO_CREDENTIALS = -4
FAILED = -5

WWW = "authorization"
PROXY = "proxy-authorization"

STALE_SLOT = "auth.stale"
"""Slot of a Context: the next challenge says ``stale=true``."""
_COUNT = re.compile(r"[0-9A-Fa-f]{8}")
_MISSING = {"MD5": "0" * 32, "SHA-256": "0" * 64, "SHA-512-256": "0" * 64}
"""HA1 of those who have none."""


class Claim(msgspec.Struct, array_like=True):
    """Who somebody says they are, with a nonce of ours."""

    header: str
    """Kind of header: ``WWW`` or ``PROXY``."""
    username: str
    realm: str
    nonce: str
    response: str
    ha2: str
    algorithm: str | None
    cnonce: str | None
    qop: str | None
    nc: str | None
    client: bytes
    """Who may use the nonce once more."""

    @property
    def user(self) -> str:
        """The user name before ``@``."""
        return self.username.partition("@")[0]

    @property
    def domain(self) -> str:
        """What follows ``@`` in the user name; empty when nothing does."""
        return self.username.partition("@")[2]

    @property
    def hash_name(self) -> str:
        """Name of the hash: ``MD5`` …"""
        return hash_name(self.algorithm)

    def hashed(self, password: str) -> str:
        """HA1 with a password."""
        return ha1(self.username, self.realm, password, self.hash_name)


class Verdict(NamedTuple):
    """What becomes of a claim."""

    rc: int
    slots: dict[str, bool]
    """What is kept with the message (``Context.slots``)."""


def claim(ctx: Context, header: str, realm: str) -> Claim | int:
    """The credentials of a request for a realm (empty: that of From or To), or a return code. They are not judged yet.

    The first header counts, as in OpenSIPS. ACK and CANCEL cannot be challenged: 1 (RFC 3261 22.1).
    """
    msg = ctx.msg
    if msg.method in ("ACK", "CANCEL"):
        return AUTHORIZED
    asked = realm or realm_of(ctx)
    if asked is None:
        return FAILED
    given = credentials_of(ctx, header)
    if given is None or given.realm is None or given.realm.lower() != asked.lower():
        return NO_CREDENTIALS
    if not (given.username and given.nonce and given.uri and given.response) or not _is_counted(given):
        return FAILED
    if not nonce.holds(given.nonce):
        ctx.slots[STALE_SLOT] = True
        return STALE
    if not _is_asked_for(given.algorithm):
        return WRONG_PASSWORD
    return Claim(
        header=header,
        username=given.username,
        realm=given.realm,
        nonce=given.nonce,
        response=given.response,
        ha2=ha2(given, msg.method, msg.body),
        algorithm=given.algorithm,
        cnonce=given.cnonce,
        qop=given.qop,
        nc=given.nc,
        client=_client(ctx, given.qop),
    )


def judge(claimed: Claim, ha1_hex: str | None, *, known: bool = True) -> Verdict:
    """Whether the response is right, and the nonce not used before. ``ha1_hex``: None, or empty, when there is no password.

    ``known``: there is such a user.
    """
    expected = response_for(claimed, ha1_hex or _MISSING[claimed.hash_name], claimed.ha2)
    right = compare_digest(expected.encode("latin-1"), claimed.response.lower().encode("latin-1"))
    if not known:
        return Verdict(NO_USER, {})
    if not right or not ha1_hex:
        return Verdict(WRONG_PASSWORD, {})
    count = int(claimed.nc, 16) if claimed.qop and claimed.nc else None
    try:
        first = nonce.use(claimed.nonce, count, claimed.client)
    except StoreFull as full:
        log(ERROR, "auth", "authorize", f"a nonce cannot be marked as used: {full}")
        return Verdict(FAILED, {})
    if not first:
        return Verdict(STALE, {STALE_SLOT: True})
    return Verdict(AUTHORIZED, {authorized_slot(claimed.header): True})


def authorized_slot(header: str) -> str:
    """Slot of a Context: the credentials of that header are right."""
    return f"auth.{header}"


def authorized(ctx: Context) -> Header | None:
    """The header with credentials that are right; None when there is none."""
    for header in (WWW, PROXY):
        if ctx.slots.get(authorized_slot(header)):
            return ctx.msg.header(header)
    return None


def credentials_of(ctx: Context, header: str) -> Credentials | None:
    """What the first header of a kind holds; None when it is not there, or not Digest."""
    text = ctx.msg.value(header)
    if text is None:
        return None
    try:
        return parse_credentials(text)
    except ParseError:
        return None


def realm_of(ctx: Context) -> str | None:
    """The host of To for a REGISTER, else that of From, without ``realm_prefix``; None when there is none."""
    address = ctx.msg.to if ctx.msg.method == "REGISTER" else ctx.msg.from_
    uri = None if address is None else loose_uri(address.uri)
    host = None if uri is None else uri.host
    if not host:
        return None
    prefix = realm_prefix.value
    return host[len(prefix) :] if prefix and host.lower().startswith(prefix.lower()) and len(host) > len(prefix) else host


def _is_counted(given: Credentials) -> bool:
    """With a qop there are count and nonce of the client (RFC 7616 3.4)."""
    if given.qop is None:
        return not (given.algorithm or "").lower().endswith("-sess") or given.cnonce is not None
    return given.qop.lower() in ("auth", "auth-int") and bool(given.cnonce) and _COUNT.fullmatch(given.nc or "") is not None


def _is_asked_for(algorithm: str | None) -> bool:
    """Whether we take this algorithm: an answer with a weaker one than asked for is none."""
    return (algorithm or "MD5").lower() in [name.lower() for name in Settings.algorithms]


def _client(ctx: Context, qop: str | None) -> bytes:
    """Who may use a nonce once more: without qop who sends the same message again (a retransmission, or what another process
    finds half done), with qop the same client."""
    source = ctx.source
    about = ctx.msg.raw if qop is None else (ctx.msg.call_id or "").encode("latin-1")
    return blake2b(f"{source.proto}:{source.ip}:{source.port} ".encode() + about, digest_size=8).digest()
