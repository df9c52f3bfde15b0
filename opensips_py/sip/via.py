"""Via values (RFC 3261 20.42, RFC 3581)."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import LWS, skip_comment
from opensips_py.sip.lazy import lazy
from opensips_py.sip.params import Params, parse_params, split_quoted
from opensips_py.sip.remembered import remembered

DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "SCTP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}

_token = r"[A-Za-z0-9\-.!%*_+`'~]+"
_sent_by = re.compile(
    rf"\s*({_token})\s*/\s*({_token})\s*/\s*({_token})\s+(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)\s*(?::\s*([0-9]{{1,5}})\s*)?"
).fullmatch


class Sent(NamedTuple):
    """What stands before the parameters of a Via."""

    name: str
    version: str
    transport: str
    host: str
    port: int | None


@remembered
def parse_sent(text: str) -> Sent:
    """Read what stands before the parameters. Cached: peers keep sending the same."""
    m = _sent_by(text)
    if m is None:
        raise ParseError(f"bad Via: {text[:60].strip()!r}")
    name, version, transport, host, port = m.groups()
    number = None if port is None else int(port)
    if name.upper() != "SIP":
        raise ParseError(f"bad Via: protocol {name[:20]!r}")
    if version != "2.0":
        raise ParseError(f"bad Via: version {version[:20]!r}", code=505)
    if number is not None and number > 65535:
        raise ParseError(f"bad Via: port {number}")
    return Sent(name, version, transport.upper(), host, number)


class Via:
    """One Via value. ``host`` is as on the wire (an IPv6 address in brackets); ``transport`` is in upper case."""

    comment: str | None = None
    """Text of the comment at its end (RFC 2543 allowed one)."""

    def __init__(self, value: str, sent: Sent, tail: str) -> None:
        self.value = value
        """The whole value as received."""
        self.sent = sent
        _, _, self.transport, self.host, self.port = sent
        self.tail = tail
        """Text after the first ``;``: the parameters as received."""
        self.plain = tail[:7] == "branch=" and ";" not in tail
        """It has no parameter but ``branch``: then RFC 3581 has nothing to say about it."""
        self.branch = tail[7:].strip(LWS) if self.plain else self.params.get("branch")
        """The ``branch`` parameter; None when there is none."""

    @property
    def name(self) -> str:
        """``SIP`` as received."""
        return self.sent.name

    @property
    def version(self) -> str:
        """``2.0``."""
        return self.sent.version

    @lazy
    def params(self) -> Params:
        """Parameters by lower-case name."""
        return parse_params(self.tail)

    @property
    def received(self) -> str | None:
        """The ``received`` parameter as it came in."""
        return self.params.get("received")

    @property
    def rport(self) -> int | None:
        """The value of ``rport`` as it came in; None when absent, empty, or no port."""
        value = self.params.get("rport")
        if value is None or not (value.isascii() and value.isdigit()) or len(value) > 5:
            return None
        number = int(value)
        return number if 0 < number < 65536 else None

    @property
    def sent_by(self) -> str:
        """``host[:port]`` in canonical form, for matching."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """The host without the brackets of an IPv6 reference."""
        return self.host.strip("[]")

    @property
    def effective_port(self) -> int:
        """The port, or the transport's default."""
        return self.port or DEFAULT_PORTS.get(self.transport, 5060)


def parse_via(text: str) -> Via:
    """Read one Via value; ParseError when it is not one."""
    sent, _, tail = text.partition(";")
    if "(" in text:
        return _with_comment(text)
    return Via(text, parse_sent(sent), tail)


def _with_comment(text: str) -> Via:
    """A Via with a comment at its end (RFC 2543 allowed one; so does OpenSIPS)."""
    start = text.find("(")
    end = skip_comment(text, start)
    sent, _, tail = (text[:start] + text[end:]).partition(";")
    via = Via(text, parse_sent(sent), tail)
    via.comment = text[start + 1 : end - 1]
    return via


def mark_source(via: Via, ip: str, port: int, force_rport: bool = False, *, rport_first: bool = False) -> str:
    """The value of ``via`` as a server must pass it on, having received it from ``ip`` and ``port``.

    ``received`` goes after the sent-by when that differs from ``ip`` (RFC 3261 18.2.1), or when there is an ``rport``, which is
    filled in its place (RFC 3581 4). ``force_rport`` adds an ``rport`` that is not there: after ``received``, or before it
    with ``rport_first`` (OpenSIPS does the former in its replies, the latter in requests that it forwards).
    Returns the value unchanged when there is nothing to add.
    """
    pieces = split_quoted(via.value, ";")
    marked = [pieces[0].rstrip(LWS)]
    rport = f"rport={port}"
    has_rport = False
    for piece in pieces[1:]:
        name = piece.partition("=")[0].strip(LWS).lower()
        if name == "rport":
            if not has_rport:
                marked.append(rport)
            has_rport = True
        elif name != "received":  # what the sender claims there is not believed
            marked.append(piece)
    if has_rport or force_rport or not same_host(via.host, ip):
        added = [f"received={ip}"]
        if force_rport and not has_rport:
            added.insert(0 if rport_first else 1, rport)
        marked[1:1] = added
    elif len(marked) == len(pieces):
        return via.value
    return ";".join(marked)


def same_host(host: str, ip: str) -> bool:
    """Whether the host of a Via or URI (an IPv6 address may be in brackets) is the address ``ip``."""
    if host == ip:
        return True
    if ":" not in ip:
        return False
    try:
        return ip_address(host.strip("[]")) == ip_address(ip)
    except ValueError:
        return False
