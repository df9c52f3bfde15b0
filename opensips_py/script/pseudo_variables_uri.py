"""The request's destination: ``$ru`` and its parts, ``$ou``, ``$du``, ``$ds``."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.script.context import Q_UNSPECIFIED, Context, RouteKind, Value, ValueRefused
from opensips_py.script.one_line import one_line
from opensips_py.script.pseudo_variables_network import transport_number
from opensips_py.script.variable_kinds import Getter, NumericText, scalar
from opensips_py.sip.uri import Uri, loose_uri


def text_for_uri(value: Value) -> str:
    """A value that becomes a URI or a part of one; ValueRefused unless it is a text of one line (not a number)."""
    text = value.text if isinstance(value, NumericText) else value
    if not isinstance(text, str):
        raise ValueRefused(f"a text is expected, not {'NULL' if value is None else f'the number {value}'}")
    one_line(text)
    return text


def _set_ruri(ctx: Context, value: Value) -> None:
    uri = text_for_uri(value)
    if uri:
        ctx.new_uri, ctx.q = uri, Q_UNSPECIFIED
    else:
        ctx.new_uri = None


@scalar("ru", "ruri", write=_set_ruri, takes_text=True)
def _ruri(ctx: Context) -> Value:
    """Request-URI; writable, which resets its q; an empty text restores it as received. NULL while it is not a URI."""
    uri = ctx.new_uri
    if uri is None:
        uri = ctx.msg.ruri
    return uri if loose_uri(uri) is not None else None


def with_user(uri: Uri, user: str | None) -> str:
    """``uri`` with another user; None or ``""`` removes user and password."""
    return str(uri._replace(user=user) if user else uri._replace(user=None, password=None))


def with_port(uri: Uri, port: str) -> str:
    """``uri`` with a text as its port, whether it is one or not; without when there is none."""
    if uri.host is None or not port:
        return str(uri._replace(port=None))
    head = str(uri._replace(port=None, params_text="", headers_text=""))
    tail = str(uri._replace(port=None))[len(head) :]
    return f"{head}:{port}{tail}"


def protocol_of(uri: Uri) -> str:
    """The transport that a URI asks for: its parameter, or the default of the scheme."""
    return (uri.transport or ("tls" if uri.kind == "sips" else "udp")).lower()


def ruri_parts(ctx: Context) -> Uri | None:
    """The current R-URI taken apart; None when it is no URI, or in a reply."""
    uri = ctx.new_uri
    return loose_uri(ctx.msg.ruri if uri is None else uri)


def _original(ctx: Context) -> Uri | None:
    return loose_uri(ctx.msg.ruri)


def _destination(ctx: Context) -> Uri | None:
    return None if ctx.dst_uri is None else loose_uri(ctx.dst_uri)


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
        if uri is None:
            return None
        port = uri.port
        return uri.effective_port if port is None else NumericText(port, str(port))

    return read


def _protocol(source: Source) -> Getter:
    def read(ctx: Context) -> Value:
        uri = source(ctx)
        return None if uri is None else protocol_of(uri)

    return read


def _present(uri: Uri | None, what: str) -> Uri:
    if uri is None:
        raise ValueRefused(f"there is no {what} to change")
    return uri


def _set_user(ctx: Context, value: Value) -> None:
    uri = _present(ruri_parts(ctx), "R-URI")
    user = "" if value is None else text_for_uri(value)
    if not user and uri.password is None:
        ctx.new_uri = str(uri._replace(user=None))
    else:  # a password alone is left as it is: such a URI is invalid, as in OpenSIPS
        ctx.new_uri = str(uri._replace(user=user))


def _set_host(ctx: Context, value: Value) -> None:
    ctx.new_uri = str(_present(ruri_parts(ctx), "R-URI")._replace(host=text_for_uri(value)))


def _port_text(value: Value) -> str:
    """The text of a port to be written, whatever it is."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else text_for_uri(value)


def _set_port(ctx: Context, value: Value) -> None:
    ctx.new_uri = with_port(_present(ruri_parts(ctx), "R-URI"), _port_text(value))


scalar("rU", "ruri.user", write=_set_user, takes_text=True, doc="User of the R-URI; NULL or an empty text removes it.")(
    _user(ruri_parts)
)
scalar("rd", "ruri.domain", write=_set_host, takes_text=True, doc="Host of the R-URI.")(_host(ruri_parts))
scalar("rp", write=_set_port, doc="Port of the R-URI, or the usual one of its transport; NULL removes it.")(_port(ruri_parts))
scalar("rP", numbers=transport_number, doc="Transport of the R-URI.")(_protocol(ruri_parts))
scalar("oU", doc="User of the R-URI as received.")(_user(_original))
scalar("od", doc="Host of the R-URI as received.")(_host(_original))
scalar("op", doc="Port of the R-URI as received.")(_port(_original))
scalar("oP", numbers=transport_number, doc="Transport of the R-URI as received.")(_protocol(_original))


@scalar("ou", "ouri")
def _ou(ctx: Context) -> Value:
    """Request-URI as received; NULL when it is not a URI."""
    uri = ctx.msg.ruri
    return uri if loose_uri(uri) is not None else None


MAX_Q = 1000


def _set_q(ctx: Context, value: Value) -> None:
    if not isinstance(value, int):
        raise ValueRefused("a q is a number, in thousandths")
    ctx.q = min(int(value), MAX_Q)


@scalar("ru_q", write=_set_q)
def _ru_q(ctx: Context) -> Value:
    """q of the R-URI in thousandths, 1000 at most; -1 when it has none. NULL in a reply."""
    return ctx.q if ctx.msg.is_request else None


def _set_du(ctx: Context, value: Value) -> None:
    ctx.dst_uri = None if value is None else text_for_uri(value) or None


@scalar("du", "duri", write=_set_du, takes_text=True)
def _du(ctx: Context) -> Value:
    """Where the request is sent to instead of its R-URI."""
    return ctx.dst_uri


def _set_dd(ctx: Context, value: Value) -> None:
    ctx.dst_uri = str(_present(_destination(ctx), "$du")._replace(host=text_for_uri(value)))


def _set_dp(ctx: Context, value: Value) -> None:
    ctx.dst_uri = with_port(_present(_destination(ctx), "$du"), _port_text(value))


scalar("dd", write=_set_dd, takes_text=True, doc="Host of the destination ($du).")(_host(_destination))
scalar("dp", write=_set_dp, doc="Port of the destination ($du).")(_port(_destination))
scalar("dP", numbers=transport_number, doc="Transport of the destination ($du).")(_protocol(_destination))


def q_text(q: int) -> str:
    """q in thousandths as it stands in a Contact: ``0.7``; empty when there is none."""
    if q < 0:
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
    """The destinations as a Contact header: the R-URI, if it has been changed, and the appended branches."""
    changed = ctx.msg.is_request and (ctx.new_uri is not None or ctx.route_kind is RouteKind.BRANCH)
    entries = [(ctx.ruri, ctx.q)] if changed else []
    entries += [(branch.uri, branch.q) for branch in ctx.branches]
    if not entries:
        return None
    return "Contact: " + ", ".join(f"<{uri}>" + (f";q={q_text(q)}" if q >= 0 else "") for uri, q in entries)


def _set_path(ctx: Context, value: Value) -> None:
    ctx.path = None if value is None else text_for_uri(value)


@scalar("path", write=_set_path, takes_text=True)
def _path(ctx: Context) -> Value:
    """Route set for the request (Path, RFC 3327)."""
    return ctx.path
