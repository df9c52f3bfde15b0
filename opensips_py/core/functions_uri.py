"""Changing the R-URI and the destination: each function puts one part of the URI anew and leaves the rest as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from opensips_py.core.core_module import module
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, Line
from opensips_py.script.pseudo_variables_uri import ruri_parts
from opensips_py.script.variables import Registry
from opensips_py.server.log import ERROR, log
from opensips_py.sip.uri import Uri


def _rebuilt(ctx: Context, uri: Uri, *, user: str | None, password: str | None, place: str) -> int:
    """Put the R-URI together from texts, as they are: what comes out may be no URI, and then reads as NULL."""
    text = f"{uri.scheme}:"
    if user or password is not None:
        text += user or ""
        if password is not None:
            text += f":{password}"
        text += "@"
    text += place
    if uri.params_text:
        text += f";{uri.params_text}"
    if uri.headers_text:
        text += f"?{uri.headers_text}"
    ctx.new_uri = text
    return 1


def _with_user(ctx: Context, uri: Uri, user: str) -> int:
    return _rebuilt(ctx, uri, user=user, password=uri.password, place=_place(uri))


def _with_place(ctx: Context, uri: Uri, place: str) -> int:
    return _rebuilt(ctx, uri, user=uri.user, password=uri.password, place=place)


def _place(uri: Uri) -> str:
    host = uri.host or ""
    return host if uri.port is None else f"{host}:{uri.port}"


@module.function(routes=ALL)
def seturi(ctx: Context, uri: Line) -> int:
    """Replace the R-URI; an empty text restores the one received."""
    ctx.new_uri = uri or None
    return 1


@module.function(routes=ALL)
def revert_uri(ctx: Context) -> int:
    """Restore the R-URI as received."""
    ctx.new_uri = None
    return 1


@module.function(routes=ALL)
def sethost(ctx: Context, host: Line) -> int:
    """Replace the host of the R-URI; the port stays. A tel: URI gets one."""
    uri = ruri_parts(ctx)
    return -1 if uri is None else _with_place(ctx, uri, host if uri.port is None else f"{host}:{uri.port}")


@module.function(routes=ALL)
def sethostport(ctx: Context, hostport: Line) -> int:
    """Replace host and port of the R-URI: ``host[:port]``."""
    uri = ruri_parts(ctx)
    return -1 if uri is None else _with_place(ctx, uri, hostport)


@module.function(routes=ALL)
def setport(ctx: Context, port: Line) -> int:
    """Replace the port of the R-URI; an empty text removes it."""
    uri = ruri_parts(ctx)
    return -1 if uri is None else _with_place(ctx, uri, f"{uri.host or ''}:{port}" if port else uri.host or "")


@module.function(routes=ALL)
def setuser(ctx: Context, user: Line) -> int:
    """Replace the user of the R-URI; a password stays."""
    uri = ruri_parts(ctx)
    return -1 if uri is None else _with_user(ctx, uri, user)


@module.function(routes=ALL)
def setuserpass(ctx: Context, userpass: Line) -> int:
    """Replace user and password of the R-URI: ``user[:password]``."""
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    user, colon, password = userpass.partition(":")
    return _rebuilt(ctx, uri, user=user, password=password if colon else None, place=_place(uri))


@module.function(routes=ALL)
def prefix(ctx: Context, text: Line) -> int:
    """Put text before the user of the R-URI."""
    uri = ruri_parts(ctx)
    return -1 if uri is None else _with_user(ctx, uri, text + (uri.user or ""))


@module.function(routes=ALL)
def strip(ctx: Context, count: int) -> int:
    """Remove characters from the start of the user of the R-URI."""
    return _shortened(ctx, count, lambda user: user[count:])


@module.function(routes=ALL)
def strip_tail(ctx: Context, count: int) -> int:
    """Remove characters from the end of the user of the R-URI."""
    return _shortened(ctx, count, lambda user: user[: max(0, len(user) - count)])


def _shortened(ctx: Context, count: int, shorten: Callable[[str], str]) -> int:
    uri = ruri_parts(ctx)
    if uri is None:
        return -1
    if not uri.user:
        return 1
    if count < 0:  # OpenSIPS leaves an invalid URI alone
        return _with_user(ctx, uri, f":{uri.user}")
    return _with_user(ctx, uri, shorten(uri.user))


@module.function(routes=ALL)
def setdsturi(ctx: Context, uri: Line) -> int:
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


def _declare_renamed(old: str, new: str) -> None:
    """A name that went with OpenSIPS 2.2: a text is refused at check, and with a variable the call fails when it runs."""
    message = f"'{old}()' is deprecated, use {new}() instead"

    def fault(text: str, registry: Registry) -> str:
        return message

    def renamed(ctx: Context, text: str) -> int:
        log(ERROR, "core", old, message)
        return -1

    renamed.__name__ = old
    renamed.__doc__ = f"Use ``{new}()``. A text is refused at check, and with a variable the call fails (-1)."
    renamed.__annotations__["text"] = Annotated[str, "str", fault]
    module.function(routes=ALL)(renamed)


for _new in ("seturi", "sethost", "sethostport", "setport", "setuser", "setuserpass"):
    _declare_renamed(_new.replace("set", "rewrite", 1), _new)
