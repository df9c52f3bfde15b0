"""Who: From, To, Contact, and the headers of identity, diversion and transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opensips_py.script.context import Context, Value
from opensips_py.script.variable_kinds import listed, scalar
from opensips_py.sip.contact_edits import current_or_none
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import split_values
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr
from opensips_py.sip.params import unquote
from opensips_py.sip.uri import loose_uri


@scalar("fu", "from")
def _fu(ctx: Context) -> Value:
    """URI of From."""
    address = ctx.msg.from_
    return None if address is None else address.uri


@scalar("tu", "to")
def _tu(ctx: Context) -> Value:
    """URI of To."""
    address = ctx.msg.to
    return None if address is None else address.uri


@scalar("ft")
def _ft(ctx: Context) -> Value:
    """Tag of From."""
    address = ctx.msg.from_
    return None if address is None else address.tag


@scalar("tt")
def _tt(ctx: Context) -> Value:
    """Tag of To."""
    address = ctx.msg.to
    return None if address is None else address.tag


def _from(ctx: Context) -> NameAddr | None:
    return ctx.msg.from_


def _to(ctx: Context) -> NameAddr | None:
    return ctx.msg.to


def _header(kind: str) -> Callable[[Context], NameAddr | None]:
    """The first address of a header."""

    def read(ctx: Context) -> NameAddr | None:
        value = ctx.msg.value(kind)
        if value is None:
            return None
        try:
            return parse_nameaddr(split_values(value)[0])
        except ParseError:
            return None

    return read


def _declare(header: str, source: Callable[[Context], NameAddr | None], uri: str, user: str, domain: str, name: str) -> None:
    """Variables of the parts of an address: names with blanks between them, or none."""

    def read_uri(ctx: Context) -> Value:
        address = source(ctx)
        return None if address is None else address.uri

    def read_user(ctx: Context) -> Value:
        address = source(ctx)
        parts = None if address is None else loose_uri(address.uri)
        return None if parts is None else parts.user

    def read_domain(ctx: Context) -> Value:
        address = source(ctx)
        parts = None if address is None else loose_uri(address.uri)
        return None if parts is None else parts.host

    def read_name(ctx: Context) -> Value:
        address = source(ctx)
        return None if address is None else address.display or None

    for variable, read, part in (
        (uri, read_uri, "URI"),
        (user, read_user, "User of the URI"),
        (domain, read_domain, "Domain of the URI"),
        (name, read_name, "Display name"),
    ):
        if variable:
            scalar(*variable.split(), doc=f"{part} in {header}.")(read)


_declare("From", _from, "", "fU from.user", "fd from.domain", "fn")
_declare("To", _to, "", "tU to.user", "td to.domain", "tn")
_declare("P-Preferred-Identity", _header("p-preferred-identity"), "pu", "pU", "pd", "pn")
_declare("P-Asserted-Identity", _header("p-asserted-identity"), "ai", "", "", "")
_declare("Remote-Party-ID", _header("remote-party-id"), "re", "", "", "")
_declare("Refer-To", _header("refer-to"), "rt", "", "", "")
_diversion = _header("diversion")
_declare("Diversion", _diversion, "di", "", "", "")


@scalar("dip")
def _dip(ctx: Context) -> Value:
    """Parameter ``privacy`` of Diversion."""
    address = _diversion(ctx)
    return None if address is None else address.params.get("privacy")


@scalar("dir")
def _dir(ctx: Context) -> Value:
    """Parameter ``reason`` of Diversion."""
    address = _diversion(ctx)
    return None if address is None else address.params.get("reason")


@listed("ct")
def _ct(ctx: Context, argument: str | None) -> Sequence[Value]:
    """Contact values, over commas and headers."""
    values = [value for value in ctx.msg.values("contact") if value]
    return _Star() if values == ["*"] else values


class _Star(tuple[Value, ...]):
    """The list ``*``: one element when asked for the first, none when counted from the end (as OpenSIPS answers)."""

    def __new__(cls) -> _Star:
        return super().__new__(cls, ("*",))

    def __getitem__(self, index: object) -> Value:  # type: ignore[override]
        return "*" if index == 0 else None


_FIELDS = ("name", "uri", "q", "expires", "methods", "received", "params")


@listed("ct.fields", argument="required")
def _ct_fields(ctx: Context, argument: str | None) -> Sequence[Value]:
    """A part of each Contact value: name, uri, q, expires, methods, received or params."""
    values = [value for value in ctx.msg.values("contact") if value]
    if values == ["*"]:
        return _NoFields()
    name = (argument or "").strip()
    if ctx.msg.edits:
        changed = current_or_none(ctx.msg)
        if changed:
            return [_field(address, name) for address in changed]
    found: list[Value] = []
    for value in values:
        try:
            found.append(_field(parse_nameaddr(value), name))
        except ParseError:
            return found
    return found


class _NoFields(tuple[Value, ...]):
    """The fields of ``Contact: *``: each is NULL, all together are an empty string."""

    def __new__(cls) -> _NoFields:
        return super().__new__(cls, ("",))

    def __getitem__(self, index: object) -> Value:  # type: ignore[override]
        return None


def _field(address: NameAddr, field: str) -> Value:
    if field == "uri":
        return address.uri
    if field == "name":
        return address.display or None
    if field == "params":
        return address.tail or None
    value = address.params.get(field) if field in _FIELDS else None
    return None if value is None else unquote(value)
