"""What of a request the hashes are made of."""

from __future__ import annotations

from opensips_py.modules.dispatcher.algorithms import hash_of
from opensips_py.script.context import Context
from opensips_py.script.pseudo_variables_auth import credentials
from opensips_py.sip.uri import DEFAULT_PORTS, loose_uri


def hash_of_call_id(ctx: Context, user_only: bool) -> int | None:
    call_id = ctx.msg.call_id
    return None if call_id is None else hash_of(call_id)


def hash_of_from(ctx: Context, user_only: bool) -> int | None:
    address = ctx.msg.from_
    return None if address is None else _hash_of_uri(address.uri, user_only)


def hash_of_to(ctx: Context, user_only: bool) -> int | None:
    address = ctx.msg.to
    return None if address is None else _hash_of_uri(address.uri, user_only)


def hash_of_ruri(ctx: Context, user_only: bool) -> int | None:
    return _hash_of_uri(ctx.ruri, user_only)


def hash_of_credentials(ctx: Context, user_only: bool) -> int | None:
    """None when the request has no credentials."""
    name = credentials(ctx).get("username")
    return hash_of(name) if name else None


def _hash_of_uri(text: str, user_only: bool) -> int | None:
    """Of user and host, with the port if it is not the usual one; without a user of the host alone."""
    uri = loose_uri(text)
    if uri is None:
        return None
    user, host = uri.user or "", uri.host or ""
    if user and user_only:
        return hash_of(user)
    if uri.port is not None and uri.port != DEFAULT_PORTS.get(uri.kind):
        host = f"{host}:{uri.port}"
    return hash_of(user, host)
