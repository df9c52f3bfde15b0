"""OpenSIPS module uac_auth: credentials with which this server answers challenges (RFC 3261 22.2, RFC 8760)."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError, Module, Var
from opensips_py.script.variables import VariableError, by_text
from opensips_py.sip.digest import HASHES, Credentials, digest_response, ha1, parse_credentials
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import SipMessage

module = Module("uac_auth", doc="Credentials for answering challenges (OpenSIPS module uac_auth)")

_none: list[str] = []
credential = module.param(
    "credential",
    str,
    list(_none),
    doc="`user:realm:password`; a password that begins with 0x is the HA1 in hexadecimal digits",
    multiple=True,
)
auth_realm_avp = module.param("auth_realm_avp", str, "", doc="AVP with the realm, for one more credential: `$avp(name)`")
auth_username_avp = module.param("auth_username_avp", str, "", doc="AVP with its user name")
auth_password_avp = module.param("auth_password_avp", str, "", doc="AVP with its password")


class Secret(NamedTuple):
    """Who we are in a realm."""

    username: str
    password: str

    def hashed(self, realm: str, algorithm: str) -> str:
        """HA1, computed or as given."""
        if self.password.startswith("0x"):
            return self.password[2:].lower()
        return ha1(self.username, realm, self.password, algorithm)


class _Known:
    """What the parameters say, read once."""

    secrets: dict[str, Secret] = {}
    avps: tuple[Var, Var, Var] | None = None
    """Realm, user name, password."""


@module.on_config
def configure() -> None:
    """Read the credentials."""
    _Known.secrets = {}
    for text in credential.value:
        parts = text.split(":", 2)
        if len(parts) != 3 or not all(parts):
            raise ConfigError(f'uac_auth: credential "{text.split(":")[0]}:…" must be "user:realm:password"')
        _Known.secrets[parts[1]] = Secret(parts[0], parts[2])
    given = [parameter.value for parameter in (auth_realm_avp, auth_username_avp, auth_password_avp)]
    _Known.avps = None
    if any(given):
        if not all(given):
            raise ConfigError("uac_auth: auth_realm_avp, auth_username_avp and auth_password_avp belong together")
        _Known.avps = (_avp("realm", given[0]), _avp("username", given[1]), _avp("password", given[2]))


def _avp(what: str, text: str) -> Var:
    try:
        variable = by_text(text)
    except VariableError as error:
        raise ConfigError(f"uac_auth: auth_{what}_avp: {error}") from None
    if not text.startswith("$avp("):
        raise ConfigError(f'uac_auth: auth_{what}_avp is "{text}"; it must be an AVP, as in "$avp(name)"')
    return variable


def secret_for(ctx: Context, realm: str) -> Secret | None:
    """Who we are in ``realm``: as the AVPs say, else as a credential does; None when neither knows it."""
    if _Known.avps is not None:
        its_realm, username, password = (variable.get(ctx) for variable in _Known.avps)
        if username is not None and password is not None and (its_realm is None or str(its_realm) == realm):
            return Secret(str(username), str(password))
    return _Known.secrets.get(realm)


def answer(ctx: Context, reply: SipMessage, method: str, uri: str, body: str) -> str | None:
    """The header line that answers the challenge in a 401 or 407.

    The first challenge counts whose algorithm we know and for whose realm there is a credential (RFC 8760 2.4: the server has
    put the one that it likes best first). None when there is no such.
    """
    challenge, header = {401: ("www-authenticate", "Authorization"), 407: ("proxy-authenticate", "Proxy-Authorization")}.get(
        reply.status, ("", "")
    )
    for value in (found.value for found in reply.all(challenge)):
        try:
            asked = parse_credentials(value)
        except ParseError:
            continue
        algorithm = (asked.algorithm or "MD5").upper().removesuffix("-SESS")
        if asked.realm is None or asked.nonce is None or algorithm not in HASHES:
            continue
        qop = _qop(asked)
        secret = secret_for(ctx, asked.realm)
        if secret is not None and qop is not None:
            return f"{header}: {_credentials(asked, secret, algorithm, qop, method, uri, body)}\r\n"
    return None


def _qop(asked: Credentials) -> str | None:
    """The quality of protection to use; empty for none, None when all that are offered are unknown."""
    if not asked.qop:
        return ""
    offered = [option.strip().lower() for option in asked.qop.split(",")]
    return next((option for option in ("auth", "auth-int") if option in offered), None)


def _credentials(asked: Credentials, secret: Secret, algorithm: str, qop: str, method: str, uri: str, body: str) -> str:
    needs_cnonce = qop or (asked.algorithm or "").upper().endswith("-SESS")
    mine = Credentials(
        username=secret.username,
        realm=asked.realm,
        nonce=asked.nonce,
        uri=uri,
        response=None,
        algorithm=asked.algorithm,
        cnonce=secrets.token_hex(8) if needs_cnonce else None,
        opaque=asked.opaque,
        qop=qop or None,
        nc="00000001" if qop else None,
        params=asked.params,
    )
    response = digest_response(mine, secret.hashed(asked.realm or "", algorithm), method, body)
    parts = [f'username="{secret.username}"', f'realm="{asked.realm}"', f'nonce="{asked.nonce}"', f'uri="{uri}"']
    if asked.opaque is not None:
        parts.append(f'opaque="{asked.opaque}"')
    if qop:
        parts += [f"qop={qop}", f"nc={mine.nc}"]
    if mine.cnonce is not None:
        parts.append(f'cnonce="{mine.cnonce}"')
    parts.append(f'response="{response}"')
    parts.append(f"algorithm={asked.algorithm or 'MD5'}")
    return "Digest " + ", ".join(parts)
