"""Following the Route headers of a request (RFC 3261 16.4, 16.6 step 6, 16.12): for loose_route() of module rr.

Two ways for a request to come here: the R-URI is the remote target and our address stands in the first Route (the previous hop
routes loosely), or our address stands in the R-URI and the remote target in the last Route (it routes strictly, as in RFC 2543).
"""

from __future__ import annotations

import re

from opensips_py.net.own_address import is_ours
from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.edits import deletes
from opensips_py.sip.message import Header, SipMessage
from opensips_py.sip.uri import uri_or_none

ROUTED = 1
NOT_BY_ROUTE = -1

_next_route = re.compile(
    r"""[\s,]*+(?:"(?:[^"\\]++|\\.)*"\s*+|[^<,"]*+)
    <(?P<uri>sips?:(?:(?P<user>[^@>]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s;?:@<>"]+)(?::(?P<port>[0-9]{1,5}))?
    (?:;(?P<params>[^?>]*))?(?:\?[^>]*)?)>[^,<>]*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
).match
_lr = re.compile(r"(?:^|;)\s*lr\s*(?:[;=]|$)", re.IGNORECASE).search
_transport = re.compile(r"(?:^|;)\s*transport=([A-Za-z]+)", re.IGNORECASE).search
_r2 = re.compile(r"(?:^|;)r2=", re.IGNORECASE).search

Route = tuple[re.Match[str], Header]
"""One value, with the header that it stands in."""


def follow_routes(ctx: Context, ignored_user: str, double: bool, warn: bool, slot: str) -> int:
    """Take off what is ours and aim the request at the next hop; ``slot`` gets the parameters of our URI."""
    msg = ctx.msg
    uri = uri_or_none(ctx.ruri)
    if uri is None:
        return NOT_BY_ROUTE
    to = msg.to
    preloaded = to is None or to.tag is None
    to_us = (
        not preloaded
        and uri.host is not None
        and (not ignored_user or uri.user != ignored_user)
        and _is_own(ctx, uri.host, uri.port or 5060)
    )
    if not to_us:
        params = _only_ours(ctx)
        if params is not None:
            ctx.slots[slot] = params
            return NOT_BY_ROUTE if preloaded else ROUTED
    routes = _read(msg)
    if not routes:
        return NOT_BY_ROUTE
    if to_us:
        ctx.slots[slot] = uri.params_text
        return _after_strict(ctx, routes, ignored_user, double, warn)
    ours = _ours(ctx, routes, ignored_user, double, warn)
    if ours:
        ctx.slots[slot] = routes[0][0]["params"] or ""
        if ours == len(routes):
            _take_off(msg, routes, ours)
            return NOT_BY_ROUTE if preloaded else ROUTED
    target = routes[ours][0]
    if _lr(target["params"] or "") is not None:
        _take_off(msg, routes, ours)
        ctx.dst_uri = target["uri"]
    else:  # the next hop routes strictly: it wants its own URI in the request line, and the remote target in the last Route
        _take_off(msg, routes, ours + 1)
        msg.append_header(f"Route: <{ctx.ruri}>\r\n")
        ctx.new_uri = target["uri"]
    return ROUTED


def _only_ours(ctx: Context) -> str | None:
    """Shortcut for the usual case, a single Route as record_route() writes it: takes it off and gives its parameters."""
    msg = ctx.msg
    if msg._kinds.count("route") != 1:
        return None
    header = msg.header("route")
    assert header is not None
    value = header.value
    for edit in msg.edits:
        if header.start <= edit[0] < header.end:
            return None
    address = f"<sip:{ctx.socket.route};"
    end = len(value) - 1
    if not value.startswith(address) or value.find(">") != end or "r2=" in value or "?" in value:
        return None
    msg.edits.append((header.start, header.end - header.start, ""))
    return value[len(address) : end]


def _after_strict(ctx: Context, routes: list[Route], ignored_user: str, double: bool, warn: bool) -> int:
    """The previous hop has put our URI into the request line (RFC 3261 16.4): the remote target is the last Route."""
    msg = ctx.msg
    ours = _ours(ctx, routes, ignored_user, double, warn)
    if ours == len(routes):
        _take_off(msg, routes, ours)
        return NOT_BY_ROUTE
    target = routes[ours][0]
    if _lr(target["params"] or "") is None:
        _take_off(msg, routes, ours + 1)
        ctx.new_uri = target["uri"]
        return ROUTED
    last = routes[-1]
    ctx.dst_uri = target["uri"]
    ctx.new_uri = last[0]["uri"]
    if ours == len(routes) - 1:
        _take_off(msg, routes, len(routes))
    else:
        _take_off(msg, routes, ours)
        _take_off_last(msg, routes)
    return ROUTED


def _read(msg: SipMessage) -> list[Route]:
    """All Route values; empty when one cannot be read."""
    if msg._kinds.count("route") == 1:
        header = msg.header("route")
        headers = [] if header is None else [header]
    else:
        headers = msg.all("route")
    found: list[Route] = []
    for header in headers:
        value = header.value
        at, length = 0, len(value.rstrip())
        while at < length:
            m = _next_route(value, at)
            if m is None:
                return []
            found.append((m, header))
            at = m.end()
    return found


def _is_own(ctx: Context, host: str, port: int) -> bool:
    socket = ctx.socket
    return (host == socket.host and port == socket.port) or is_ours(host, port)


def _is_own_route(ctx: Context, route: re.Match[str], ignored_user: str) -> bool:
    if ignored_user and route["user"] == ignored_user:
        return False
    port = route["port"]
    return _is_own(ctx, route["host"], int(port) if port else 5060)


def _ours(ctx: Context, routes: list[Route], ignored_user: str, double: bool, warn: bool) -> int:
    """How many of the first Routes are ours: 0, 1, or 2 when we have recorded ourselves once for each side.

    Of two, the second is the side on which the request goes on: it is sent from that socket.
    """
    first = routes[0][0]
    if not _is_own_route(ctx, first, ignored_user):
        return 0
    if not double or len(routes) == 1 or _r2(first["params"] or "") is None:
        return 1
    second = routes[1][0]
    if _r2(second["params"] or "") is None:
        return 1
    transport = _transport(second["params"] or "")
    socket = _socket(second["host"], int(second["port"] or 5060), "udp" if transport is None else transport[1].lower())
    if socket is not None:
        ctx.send_socket = socket
    elif warn:
        log(WARNING, "rr", "loose_route", f"no socket found for the second own Route {second['uri']}")
    return 2


def _socket(host: str, port: int, proto: str) -> ListenSocket | None:
    host = host.strip("[]").lower()
    for socket in this.sockets:
        if socket.proto != proto:
            continue
        if (socket.host.lower() == host and socket.port == port) or (
            socket.advertised_host is not None
            and socket.advertised_host.strip("[]").lower() == host
            and (socket.advertised_port or socket.port) == port
        ):
            return socket
    return None


def _take_off(msg: SipMessage, routes: list[Route], count: int) -> None:
    """Remove the first ``count`` Route values."""
    for i in range(count):
        match, header = routes[i]
        if i + 1 < len(routes) and routes[i + 1][1] is header:
            if i + 1 == count and not deletes(msg.edits, header.value_start):  # what follows in this header stays
                at = match.end() + 1
                while header.value[at : at + 1] in (" ", "\t", "\r", "\n"):
                    at += 1
                msg.edits.append((header.value_start, at, ""))
        elif not msg.edits:
            msg.edits.append((header.start, header.end - header.start, ""))
        else:
            msg.remove_header(header)


def _take_off_last(msg: SipMessage, routes: list[Route]) -> None:
    """Remove the last Route value; it is not the only one left."""
    match, header = routes[-1]
    before, its_header = routes[-2]
    if its_header is not header:
        msg.remove_header(header)
    elif not deletes(msg.edits, header.value_start + before.end()):
        start = header.value_start + before.end()
        msg.edits.append((start, match.end() - before.end(), ""))
