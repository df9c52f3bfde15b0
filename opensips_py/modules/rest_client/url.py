"""URLs of HTTP requests (RFC 3986, RFC 9110 4.2)."""

from __future__ import annotations

from typing import NamedTuple

from opensips_py.sip.remembered import remembered


class Origin(NamedTuple):
    """Where requests go: connections are kept by origin."""

    secure: bool
    host: str
    """Without brackets around an IPv6 address."""
    port: int
    profile: str = ""
    """TLS client settings that the connection was made with (rest_init_client_tls)."""

    @property
    def field(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class HttpUrl(NamedTuple):
    """A URL, taken apart."""

    origin: Origin
    target: str
    """Path and query for the request line."""
    credentials: str | None
    """``user:password``, for Basic authentication."""


def _escape(text: str) -> str:
    """Characters that may not stand in a request line are percent-encoded, as curl does with bytes above ASCII."""
    return "".join(c if "!" <= c <= "~" else f"%{ord(c):02X}" for c in text)


def _origin(scheme: str, authority: str) -> tuple[Origin, str | None]:
    secure = scheme == "https"
    credentials, at, place = authority.rpartition("@")
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"[{place}] is not a host")
        port = port[1:]
    else:
        host, _, port = place.partition(":")
    if not host or any(c <= " " or c > "~" for c in host):
        raise ValueError(f"[{place}] is not a host")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"[{port}] is not a port")
    return Origin(secure, host.lower(), int(port or (443 if secure else 80))), credentials if at else None


@remembered
def parse_http_url(text: str) -> HttpUrl:
    """Take a URL apart; without a scheme it is http, as with curl. ValueError says what is wrong."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "http", text.strip()
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError(f"[{scheme}] is not a supported scheme: http and https are")
    rest = rest.partition("#")[0]
    end = len(rest)
    for mark in "/?":
        at = rest.find(mark)
        if 0 <= at < end:
            end = at
    origin, credentials = _origin(scheme, rest[:end])
    target = rest[end:]
    if not target.startswith("/"):
        target = "/" + target
    if not target.isascii() or not target.isprintable() or " " in target:
        target = _escape(target)
    return HttpUrl(origin, target, credentials)
