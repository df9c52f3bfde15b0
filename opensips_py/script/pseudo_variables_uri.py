"""The request's destination: ``$ru`` and its parts, ``$ou``, ``$du``, ``$ds``."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.script.context import Q_UNSPECIFIED, Context, Value
from opensips_py.script.one_line import one_line
from opensips_py.script.variable_kinds import Getter, scalar
from opensips_py.sip.uri import Uri, uri_or_none


def _line(value: Value) -> str:
    """A value as text; ValueRefused when it would end the line that it will stand in."""
    text = str(value)
    one_line(text)
    return text


def _set_ruri(ctx: Context, value: Value) -> None:
    ctx.new_uri = None if value is None else _line(value)


@scalar("ru", "ruri", write=_set_ruri)
def _ruri(ctx: Context) -> Value:
    """Request-URI; writable, NULL restores the received one. NULL while it is not a URI."""
    uri = ctx.new_uri
    if uri is None:
        return ctx.msg.ruri or None
    return uri if uri_or_none(uri) is not None else None


def with_user(uri: Uri, user: str | None) -> str:
    """``uri`` with another user; None or ``""`` removes user and password."""
    return str(uri._replace(user=user) if user else uri._replace(user=None, password=None))


def with_port(uri: Uri, port: Value) -> str:
    """``uri`` with another port; what is no port removes it."""
    number = int(port) if isinstance(port, int) or (isinstance(port, str) and port.isascii() and port.isdigit()) else None
    return str(uri._replace(port=number))


def protocol_of(uri: Uri) -> str:
    """The transport that a URI asks for: its parameter, or the default of the scheme."""
    return (uri.transport or ("tls" if uri.kind == "sips" else "udp")).lower()


def ruri_parts(ctx: Context) -> Uri | None:
    """The current R-URI taken apart; None when it is no URI, or in a reply."""
    uri = ctx.new_uri
    return uri_or_none(ctx.msg.ruri if uri is None else uri)


def _original(ctx: Context) -> Uri | None:
    return uri_or_none(ctx.msg.ruri)


def _destination(ctx: Context) -> Uri | None:
    return None if ctx.dst_uri is None else uri_or_none(ctx.dst_uri)


Source = Callable[[Context], "Uri | None"]


def _user(source: Source) -> Getter:
    def read(ctx: Context) -> Value:
        uri = source(ctx)
        return None if uri is None else uri.user

    return read


def _host(source: Source) -> Getter:
    def read(ctx: Context) -> Value:
        uri = source(ctx)
        return None if uri is None else uri.host

    return read


def _port(source: Source) -> Getter:
    def read(ctx: Context) -> Value:
        uri = source(ctx)
        return None if uri is None else uri.effective_port

    return read


def _protocol(source: Source) -> Getter:
    def read(ctx: Context) -> Value:
        uri = source(ctx)
        return None if uri is None else protocol_of(uri)

    return read


def _set_user(ctx: Context, value: Value) -> None:
    uri = ruri_parts(ctx)
    if uri is not None:
        ctx.new_uri = with_user(uri, None if value is None else _line(value))


def _set_host(ctx: Context, value: Value) -> None:
    uri = ruri_parts(ctx)
    if uri is not None and value is not None:
        ctx.new_uri = str(uri._replace(host=_line(value)))


def _set_port(ctx: Context, value: Value) -> None:
    uri = ruri_parts(ctx)
    if uri is not None:
        ctx.new_uri = with_port(uri, value)


scalar("rU", "ruri.user", write=_set_user, doc="User of the R-URI; NULL or an empty text removes it.")(_user(ruri_parts))
scalar("rd", "ruri.domain", write=_set_host, doc="Host of the R-URI.")(_host(ruri_parts))
scalar("rp", write=_set_port, doc="Port of the R-URI, or the usual one of its transport; NULL removes it.")(_port(ruri_parts))
scalar("rP", doc="Transport of the R-URI.")(_protocol(ruri_parts))
scalar("oU", doc="User of the R-URI as received.")(_user(_original))
scalar("od", doc="Host of the R-URI as received.")(_host(_original))
scalar("op", doc="Port of the R-URI as received.")(_port(_original))
scalar("oP", doc="Transport of the R-URI as received.")(_protocol(_original))


@scalar("ou")
def _ou(ctx: Context) -> Value:
    """Request-URI as received."""
    return ctx.msg.ruri or None


def _set_q(ctx: Context, value: Value) -> None:
    if value is None:
        ctx.q = Q_UNSPECIFIED
    elif isinstance(value, int):
        ctx.q = int(value)


@scalar("ru_q", write=_set_q)
def _ru_q(ctx: Context) -> Value:
    """q of the R-URI in thousandths."""
    return None if ctx.q == Q_UNSPECIFIED else ctx.q


def _set_du(ctx: Context, value: Value) -> None:
    ctx.dst_uri = None if value is None or value == "" else _line(value)


@scalar("du", "duri", write=_set_du)
def _du(ctx: Context) -> Value:
    """Where the request is sent to instead of its R-URI."""
    return ctx.dst_uri


def _set_dd(ctx: Context, value: Value) -> None:
    uri = _destination(ctx)
    if uri is not None and value is not None:
        ctx.dst_uri = str(uri._replace(host=_line(value)))


def _set_dp(ctx: Context, value: Value) -> None:
    uri = _destination(ctx)
    if uri is not None:
        ctx.dst_uri = with_port(uri, value)


scalar("dd", write=_set_dd, doc="Host of the destination ($du).")(_host(_destination))
scalar("dp", write=_set_dp, doc="Port of the destination ($du).")(_port(_destination))
scalar("dP", doc="Transport of the destination ($du).")(_protocol(_destination))


def q_text(q: int) -> str:
    """q in thousandths as it stands in a Contact: ``0.7``; empty when there is none."""
    if q == Q_UNSPECIFIED:
        return ""
    return f"{q / 1000:.3f}".rstrip("0").rstrip(".")


def q_value(text: str) -> int | None:
    """q in thousandths from its text; None when it is not one."""
    try:
        q = float(text)
    except ValueError:
        return None
    return round(q * 1000) if 0 <= q <= 1 else None


@scalar("ds")
def _ds(ctx: Context) -> Value:
    """The appended branches as a Contact header."""
    if not ctx.branches:
        return None
    entries = [f"<{b.uri}>" + (f";q={q_text(b.q)}" if b.q != Q_UNSPECIFIED else "") for b in ctx.branches]
    return "Contact: " + ", ".join(entries)


def _set_path(ctx: Context, value: Value) -> None:
    ctx.path = None if value is None else _line(value)


@scalar("path", write=_set_path)
def _path(ctx: Context) -> Value:
    """Route set for the request (Path, RFC 3327)."""
    return ctx.path
