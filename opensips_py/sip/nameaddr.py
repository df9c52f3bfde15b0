"""Addresses in From, To, Contact, Route, Record-Route … (``name-addr`` and ``addr-spec`` of RFC 3261 20.10)."""

from __future__ import annotations

from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import LWS, split_values
from opensips_py.sip.lazy import lazy
from opensips_py.sip.params import Params, find_param, parse_params, unquote


class NameAddr:
    """One address. ``uri`` is the text between ``<>``; parameters after a bare URI belong to the header."""

    def __init__(self, value: str, display: str, uri: str, tail: str) -> None:
        self.value = value
        """The whole value, without surrounding white space."""
        self.display = display
        """Display name as received: quotes stay; empty when there is none."""
        self.uri = uri
        self.tail = tail
        """The header parameters as received, without the first ``;``."""

    @lazy
    def params(self) -> Params:
        """Header parameters by lower-case name."""
        return parse_params(self.tail) if self.tail else {}

    @lazy
    def tag(self) -> str | None:
        """The ``tag`` parameter; None when absent."""
        return find_param(self.tail, "tag") if self.tail else None

    @property
    def display_text(self) -> str:
        """Display name without quotes and escapes."""
        return unquote(self.display)


def parse_nameaddr(text: str) -> NameAddr:
    """Read one address; ParseError when it is not one. ``*`` (Contact of a REGISTER) is its own URI."""
    value = text.strip(LWS)
    if value[:1] == '"':
        i, n = 1, len(value)
        while i < n and value[i] != '"':
            i += 2 if value[i] == "\\" else 1
        if i >= n:
            raise ParseError(f"quoted string does not end: {value[:40]!r}")
        open_at = value.find("<", i)
        if value[i + 1 : open_at].strip(LWS) or open_at < 0:
            raise ParseError(f"no <URI> after the display name: {value[:40]!r}")
    else:
        open_at = value.find("<")
        if open_at > 0 and '"' in value[:open_at]:
            if not _is_bare(value, open_at):
                raise ParseError(f"a quote in a display name that is not quoted: {value[:40]!r}")
            open_at = -1
    if open_at < 0:
        uri, _, tail = value.partition(";")
        uri = uri.rstrip(LWS)
        if not uri:
            raise ParseError("empty address")
        return NameAddr(value, "", uri, tail)
    close_at = value.find(">", open_at)
    if close_at < 0:
        raise ParseError(f"'>' is missing: {value[:40]!r}")
    tail = value[close_at + 1 :]
    if tail:
        tail = tail.lstrip(LWS)
        if tail[0] != ";":
            raise ParseError(f"unexpected text after '>': {value[:60]!r}")
        tail = tail[1:]
    return NameAddr(value, value[:open_at].rstrip(LWS), value[open_at + 1 : close_at].strip(LWS), tail)


def _is_bare(value: str, open_at: int) -> bool:
    """The ``<`` is in a quoted parameter after a bare URI: an unquoted display name has neither ``;`` nor quotes."""
    quote_at = value.find('"', 0, open_at)
    return quote_at > 0 and value.find(";", 0, quote_at) > 0


def parse_nameaddrs(text: str) -> list[NameAddr]:
    """Read a comma-separated list of addresses; ParseError when one of them is not one."""
    return [parse_nameaddr(value) for value in split_values(text)]
