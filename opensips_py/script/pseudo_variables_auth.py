"""Credentials of the request (RFC 3261 22, RFC 7616)."""

from __future__ import annotations

from opensips_py.script.context import Context, Value
from opensips_py.script.variable_kinds import scalar
from opensips_py.sip.params import parse_params, unquote
from opensips_py.sip.uri import loose_uri


def credentials(ctx: Context) -> dict[str, str]:
    """Parameters of the Digest credentials by lower-case name, quotes taken off; empty when there are none.

    A REGISTER has them in Authorization, other requests in Proxy-Authorization; the other header is the second choice.
    """
    msg = ctx.msg
    kinds = ("authorization", "proxy-authorization")
    for kind in kinds if msg.method == "REGISTER" else reversed(kinds):
        value = msg.value(kind)
        if value is not None:
            words = value.split(None, 1)
            if len(words) < 2 or words[0].lower() != "digest":
                return {}
            params = parse_params(words[1], ",")
            if None in params.values():  # a name without a value: OpenSIPS reads nothing of them
                return {}
            return {name: unquote(text) for name, text in params.items() if text is not None}
    return {}


def _declare(variable: str, name: str, doc: str) -> None:
    def read(ctx: Context) -> Value:
        return credentials(ctx).get(name)

    scalar(variable, doc=doc)(read)


for _variable, _name, _doc in (
    ("aU", "username", "User name of the credentials, whole."),
    ("ar", "realm", "Realm of the credentials."),
    ("adu", "uri", "URI of the credentials."),
    ("an", "nonce", "Nonce of the credentials."),
    ("auth.nonce", "nonce", "Nonce of the credentials."),
    ("auth.resp", "response", "Response of the credentials."),
    ("auth.cnonce", "cnonce", "The client's nonce of the credentials."),
    ("auth.opaque", "opaque", "Opaque string of the credentials."),
    ("auth.alg", "algorithm", "Algorithm of the credentials."),
    ("auth.qop", "qop", "Quality of protection of the credentials."),
    ("auth.nc", "nc", "Nonce count of the credentials."),
):
    _declare(_variable, _name, _doc)


@scalar("au")
def _au(ctx: Context) -> Value:
    """User name of the credentials, without the domain."""
    name = credentials(ctx).get("username")
    return None if name is None else name.partition("@")[0]


@scalar("ad")
def _ad(ctx: Context) -> Value:
    """Domain of the user name of the credentials."""
    name = credentials(ctx).get("username")
    return None if name is None else name.partition("@")[2] or None


@scalar("Au")
def _accounted(ctx: Context) -> Value:
    """User to be charged: ``user@host`` of From."""
    address = ctx.msg.from_
    uri = None if address is None else loose_uri(address.uri)
    return None if uri is None else f"{uri.user or ''}@{uri.host or ''}"
