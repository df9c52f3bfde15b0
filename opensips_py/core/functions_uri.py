"""Changing the R-URI and the destination: each function puts one part of the URI anew and leaves the rest as it is."""

from __future__ import annotations

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL
from opensips_py.script.pseudo_variables_uri import ruri_parts, with_user
from opensips_py.sip.uri import Uri


def _replace(ctx: Context, uri: Uri) -> int:
    ctx.new_uri = str(uri)
    return 1


@module.function(routes=ALL)
def seturi(ctx: Context, uri: str) -> int:
    """Replace the R-URI."""
    ctx.new_uri = uri
    return 1


@module.function(routes=ALL)
def revert_uri(ctx: Context) -> int:
    """Restore the R-URI as received."""
    ctx.new_uri = None
    return 1


@module.function(routes=ALL)
def sethost(ctx: Context, host: str) -> int:
    """Replace the host of the R-URI; the port stays. -1 when the R-URI has none."""
    uri = ruri_parts(ctx)
    return -1 if uri is None or uri.host is None or not host else _replace(ctx, uri._replace(host=host))


@module.function(routes=ALL)
def sethostport(ctx: Context, hostport: str) -> int:
    """Replace host and port of the R-URI: ``host[:port]``."""
    uri = ruri_parts(ctx)
    if uri is None or uri.host is None or not hostport:
        return -1
    host, port = split_hostport(hostport)
    return _replace(ctx, uri._replace(host=host, port=port))


def split_hostport(text: str) -> tuple[str, int | None]:
    """``host[:port]``, with brackets around an IPv6 address."""
    head, bracket, tail = text.rpartition("]")
    host, colon, digits = tail.partition(":")
    port = int(digits) if colon and digits.isascii() and digits.isdigit() else None
    return head + bracket + host, port


@module.function(routes=ALL)
def setport(ctx: Context, port: str) -> int:
    """Replace the port of the R-URI. -1 for what is no port."""
    uri = ruri_parts(ctx)
    if uri is None or uri.host is None or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        return -1
    return _replace(ctx, uri._replace(port=int(port)))


@module.function(routes=ALL)
def setuser(ctx: Context, user: str) -> int:
    """Replace the user of the R-URI; a password stays."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    ctx.new_uri = with_user(uri, user)
    return 1


@module.function(routes=ALL)
def setuserpass(ctx: Context, userpass: str) -> int:
    """Replace user and password of the R-URI: ``user[:password]``."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    user, _, password = userpass.partition(":")
    return _replace(ctx, uri._replace(user=user or None, password=password or None))


@module.function(routes=ALL)
def prefix(ctx: Context, text: str) -> int:
    """Put text before the user of the R-URI."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    ctx.new_uri = with_user(uri, text + (uri.user or ""))
    return 1


@module.function(routes=ALL)
def strip(ctx: Context, count: int) -> int:
    """Remove characters from the start of the user of the R-URI."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    ctx.new_uri = with_user(uri, (uri.user or "")[max(0, count) :])
    return 1


@module.function(routes=ALL)
def strip_tail(ctx: Context, count: int) -> int:
    """Remove characters from the end of the user of the R-URI."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    user = uri.user or ""
    ctx.new_uri = with_user(uri, user[: max(0, len(user) - max(0, count))])
    return 1


@module.function(routes=ALL)
def setdsturi(ctx: Context, uri: str) -> int:
    """Set where the request is sent to instead of its R-URI (``$du``)."""
    ctx.dst_uri = uri or None
    return 1


@module.function(routes=ALL)
def resetdsturi(ctx: Context) -> int:
    """Forget the destination (``$du``)."""
    ctx.dst_uri = None
    return 1


@module.function(routes=ALL)
def isdsturiset(ctx: Context) -> int:
    """Whether a destination is set (``$du``)."""
    return -1 if ctx.dst_uri is None else 1
