"""SIP, SIPS and TEL URIs (RFC 3261 19.1, RFC 3966), and URNs for emergency services (RFC 5031).

Parts are kept as received: escapes stay, an IPv6 address keeps its brackets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import LWS
from opensips_py.sip.params import parse_params, split_quoted
from opensips_py.sip.remembered import remembered

_host_port = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::([0-9]{0,5}))?").fullmatch
_loose_host_port = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%, -]+)(?::([0-9]{0,5}))?").fullmatch
_forbidden = re.compile(r"[\x00-\x1f<>\x7f]").search
_control = re.compile(r"[\x00-\x1f\x7f]").search
_service = re.compile(r"((?:nena:)?service):([^:]+)", re.IGNORECASE).fullmatch
_escape = re.compile(r"%([0-9A-Fa-f]{2})")
_unsafe_in_user = re.compile(r"[^A-Za-z0-9\-_.!~*'()&=+$,;?/]")

DEFAULT_PORTS = {"sip": 5060, "sips": 5061}

_MUST_APPEAR_IN_BOTH = ("user", "ttl", "method", "maddr", "transport")
"""Parameters of which one URI may not have what the other lacks (RFC 3261 19.1.4)."""


class Uri(NamedTuple):
    """A URI's parts; None for what is not there, or is empty. ``uri._replace(user="bob")`` makes a changed one."""

    scheme: str
    """As received; compare ``kind`` instead."""
    user: str | None = None
    """User part with its parameters (``+1-555;npdi``); the number of a ``tel:`` URI."""
    password: str | None = None
    host: str | None = None
    """None in ``tel:`` URIs."""
    port: int | None = None
    params_text: str = ""
    """URI parameters as received, without the first ``;``."""
    headers_text: str = ""
    """What follows ``?``."""
    namespace: str = ""
    """``service`` of ``urn:service:sos``, whose host is ``sos``."""

    @property
    def kind(self) -> str:
        """The scheme in lower case."""
        return self.scheme.lower()

    @property
    def params(self) -> Mapping[str, str | None]:
        """URI parameters by lower-case name; None for one without ``=``."""
        return _params(self.params_text)

    @property
    def headers(self) -> Mapping[str, str | None]:
        """Headers after ``?`` by lower-case name, still escaped."""
        return _headers(self.headers_text)

    @property
    def transport(self) -> str | None:
        """The ``transport`` parameter as received; of several the last one, as OpenSIPS has it."""
        return _transport(self.params_text)

    @property
    def lr(self) -> bool:
        """Whether it names a loose router (RFC 3261 16.4)."""
        return "lr" in self.params

    @property
    def address(self) -> str | None:
        """The host without the brackets of an IPv6 reference."""
        return None if self.host is None else self.host.strip("[]")

    @property
    def effective_port(self) -> int:
        """The port, or the scheme's default."""
        return self.port or DEFAULT_PORTS.get(self.kind, 5060)

    def __str__(self) -> str:
        """The URI as text."""
        text = f"{self.scheme}:{self.namespace}:" if self.namespace else self.scheme + ":"
        if self.user is not None:
            text += self.user
            if self.password is not None:
                text += ":" + self.password
            if self.host is not None:
                text += "@"
        if self.host is not None:
            text += self.host
            if self.port is not None:
                text += f":{self.port}"
        if self.params_text:
            text += ";" + self.params_text
        if self.headers_text:
            text += "?" + self.headers_text
        return text


@remembered
def parse_uri(text: str) -> Uri:
    """Read a URI; ParseError when it is not a SIP, SIPS, TEL or service URN one. Cached."""
    return _parse(text)


def _parse(text: str, blanks: bool = False) -> Uri:
    scheme, colon, rest = text.partition(":")
    kind = scheme.lower()
    if not colon or kind not in ("sip", "sips", "tel", "tels", "urn"):
        raise ParseError(f"not a SIP URI: {text[:60]!r}")
    if (_control if blanks else _forbidden)(text) or (" " in text and not blanks):
        raise ParseError(f"bad character in URI {text[:60]!r}")
    if kind == "urn":
        return _parse_urn(text, scheme, rest)
    if kind not in DEFAULT_PORTS:
        number, _, params = rest.partition(";")
        _, at, host = number.partition("@")
        if not number or '"' in number or (at and host[:1] in ("", ":")):
            raise ParseError(f"bad number in URI {text[:60]!r}")
        return Uri(scheme, number, params_text=params)
    user = password = None
    userinfo, at, place = rest.partition("@")
    if at:
        user, _, password = userinfo.partition(":")
        if not user or '"' in userinfo or (password and ":" in password):
            raise ParseError(f"bad user in URI {text[:60]!r}")
    else:
        place = rest
    place, _, headers = place.partition("?")
    place, _, params = place.partition(";")
    m = (_loose_host_port if blanks else _host_port)(place)
    if m is None:
        raise ParseError(f"bad host or port in URI {text[:60]!r}")
    host, digits = m.groups()
    port = int(digits) if digits else None
    if port is not None and port > 65535:
        raise ParseError(f"bad port in URI {text[:60]!r}")
    return Uri(scheme, user, password or None, host, port, params, headers)


def _parse_urn(text: str, scheme: str, rest: str) -> Uri:
    name, _, params = rest.partition(";")
    m = _service(name)
    if m is None:
        raise ParseError(f"not the URN of a service: {text[:60]!r}")
    return Uri(scheme, host=m[2], params_text=params, namespace=m[1])


@remembered
def uri_or_none(text: str) -> Uri | None:
    """:func:`parse_uri` for callers to whom a bad URI is NULL. Cached, failures too."""
    try:
        return parse_uri(text)
    except ParseError:
        return None


def loose_uri(text: str) -> Uri | None:
    """A URI as scripts see it: OpenSIPS reads one with blanks in user or host. For :func:`parse_uri`, and so for all that
    leaves the server, that is none."""
    uri = uri_or_none(text)
    if uri is not None:
        return uri
    try:
        return _parse(text, blanks=True)
    except ParseError:
        return None


@remembered
def _params(text: str) -> Mapping[str, str | None]:
    return MappingProxyType(parse_params(text))


@remembered
def _headers(text: str) -> Mapping[str, str | None]:
    return MappingProxyType(parse_params(text, "&"))


@remembered
def _transport(params_text: str) -> str | None:
    if params_text.lower().count("transport") < 2:
        return _params(params_text).get("transport")
    found = None
    for piece in split_quoted(params_text, ";"):
        name, _, value = piece.partition("=")
        if name.strip(LWS).lower() == "transport":
            found = value.strip(LWS)
    return found


def unescape(text: str) -> str:
    """Replace ``%HH`` by the byte it means; other ``%`` stay."""
    return _escape.sub(lambda m: chr(int(m[1], 16)), text) if "%" in text else text


def escape(text: str) -> str:
    """Escape what may not stand in the user part of a URI (RFC 3261 25.1)."""
    return _unsafe_in_user.sub(lambda m: f"%{ord(m[0]) & 255:02X}", text)


def same_uri(a: str, b: str) -> bool:
    """Whether two URIs are equal (RFC 3261 19.1.4); ones that cannot be read are equal when their texts are."""
    if a == b:
        return True
    one, two = uri_or_none(a), uri_or_none(b)
    if one is None or two is None or one.kind != two.kind or one.port != two.port:
        return False
    if unescape(one.user or "") != unescape(two.user or "") or unescape(one.password or "") != unescape(two.password or ""):
        return False
    if unescape(one.host or "").lower() != unescape(two.host or "").lower() or one.namespace.lower() != two.namespace.lower():
        return False
    p, q = one.params, two.params
    if any((name in p) != (name in q) for name in _MUST_APPEAR_IN_BOTH):
        return False
    if any(unescape(p[name] or "").lower() != unescape(q[name] or "").lower() for name in p.keys() & q.keys()):
        return False
    h, i = one.headers, two.headers
    return h.keys() == i.keys() and all(unescape(h[name] or "") == unescape(i[name] or "") for name in h)
