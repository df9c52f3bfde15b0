"""Requests made here (RFC 3261 8.1.1), and where the next request of their dialog goes (12.1.2, 12.2.1.1)."""

from __future__ import annotations

from typing import NamedTuple

from opensips_py.sip.errors import ParseError
from opensips_py.sip.forward import DEFAULT_USER_AGENT, MAX_FORWARDS
from opensips_py.sip.message import SipMessage
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr
from opensips_py.sip.uri import uri_or_none

DEFAULT_CSEQ = 10
"""CSeq number of requests outside a dialog, as OpenSIPS chooses it."""


def build_request(
    method: str,
    ruri: str,
    *,
    via: str,
    from_: str,
    to: str,
    call_id: str,
    cseq: int = DEFAULT_CSEQ,
    headers: str = "",
    body: str = "",
    user_agent: str = DEFAULT_USER_AGENT,
    max_forwards: int = MAX_FORWARDS,
) -> bytes:
    """A request with its headers in the order of OpenSIPS.

    ``via`` is a whole line, ``user_agent`` too or empty, both without CRLF; ``from_`` and ``to`` are values with their tags;
    ``headers`` are further lines (Route, Content-Type of ``body`` …), each with its CRLF.
    """
    agent = f"{user_agent}\r\n" if user_agent else ""
    return (
        f"{method} {ruri} SIP/2.0\r\n{via}\r\nTo: {to}\r\nFrom: {from_}\r\nCSeq: {cseq} {method}\r\nCall-ID: {call_id}\r\n"
        f"Max-Forwards: {max_forwards}\r\nContent-Length: {len(body)}\r\n{agent}{headers}\r\n{body}"
    ).encode("latin-1")


def with_tag(value: str, tag: str) -> str:
    """A From or To value with ``tag`` in place of the one that it has, if any. Raises ParseError.

    A bare URI is put into ``<>``: what follows it would otherwise be read as parameters of the header.
    """
    address = parse_nameaddr(value)
    display = f"{address.display} " if address.display else ""
    params = "".join(
        f";{name}" if text is None else f";{name}={text}" for name, text in address.params.items() if name.lower() != "tag"
    )
    return f"{display}<{address.uri}>{params};tag={tag}"


class DialogRoute(NamedTuple):
    """Where requests in a dialog go."""

    ruri: str | None
    """R-URI; None when the peer has named no Contact."""
    next_hop: str | None
    """URI whose address they are sent to; None as for ``ruri``."""
    routes: list[str]
    """Values of their Route header."""


def dialog_route(reply: SipMessage) -> DialogRoute:
    """The route of a dialog that ``reply`` has made, for the side that sent the request (12.1.2). Raises ParseError.

    The route set is Record-Route in reverse order; the remote target is the Contact. A first hop that routes strictly gets its
    own URI as R-URI, and the remote target comes last in Route (12.2.1.1).
    """
    contacts = reply.contacts
    target = contacts[0].uri if contacts else None
    route_set: list[NameAddr] = list(reversed(reply.record_routes))
    if not route_set:
        return DialogRoute(target, target, [])
    first = route_set[0]
    uri = uri_or_none(first.uri)
    if uri is None:
        raise ParseError(f"bad URI in Record-Route: {first.uri[:60]!r}")
    if uri.lr:
        return DialogRoute(target, first.uri, [route.value for route in route_set])
    last = [] if target is None else [f"<{target}>"]
    return DialogRoute(first.uri, first.uri, [route.value for route in route_set[1:]] + last)
