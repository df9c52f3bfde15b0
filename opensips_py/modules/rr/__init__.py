"""OpenSIPS module rr: Record-Route, and routing by Route (RFC 3261 16.4, 16.6 step 4, 16.12).

``record_route()`` writes the header with the address that the request was received on. Which socket the request leaves
from is known only when it is relayed: when it is another one, :func:`_two_sockets` makes two headers of it then.
"""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.modules.rr.loose_route import NOT_BY_ROUTE, follow_routes
from opensips_py.script.context import Context, ListenSocket
from opensips_py.script.declarations import B, F, Line, Module, Pattern, R
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, log
from opensips_py.sip.edits import Edit
from opensips_py.sip.message import SipMessage
from opensips_py.sip.params import parse_params
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import msg_translator

module = Module("rr", doc="Record-Route and loose routing (OpenSIPS module rr)")

append_fromtag = module.param("append_fromtag", int, 1, doc="put the From tag into Record-Route (ftag), for is_direction()")
enable_double_rr = module.param(
    "enable_double_rr", int, 1, doc="two Record-Route headers when a request leaves from another socket than it came to"
)
add_username = module.param("add_username", int, 0, doc="put the user of the R-URI into Record-Route")
ignore_user = module.param("ignore_user", str, "", doc="a URI with this user is not one of ours, even if its address is")
enable_socket_mismatch_warning = module.param(
    "enable_socket_mismatch_warning", int, 1, doc="warn when the second of two own Routes names no socket of this server"
)


@module.on_config
def configure() -> None:
    """Have Record-Route follow the socket that a request leaves from."""
    msg_translator.on_other_socket(_two_sockets)


RECORDED = "rr"
"""Slot of a Context: a Record-Route has been added."""
PENDING = "rr.pending"
"""Slot: parameters of add_rr_param() for a Record-Route still to come."""
ADDED = "rr.added"
"""Slot: parameters that add_rr_param() has put into the Record-Route."""
PARAMS = "rr.params"
"""Slot: parameters of the URI by which the request was routed to us (``$rr_params``)."""

_NAME = "Record-Route: <"

routed: list[Callable[[Context], None]] = []
"""Called when loose_route() has followed the Routes of a request (OpenSIPS: rr callbacks).

The parameters of our own Route, by which a module knows its dialog, are in ``ctx.slots[PARAMS]``; those that it wants there
it gives to :func:`add_rr_param`. What it changes in ``ctx`` and in the message's edits holds for the request. A module adds its
call in ``on_config``, once.
"""


def _recorded(ctx: Context) -> int:
    """Place of our Record-Route among the edits, or -1. A branch has edits of its own: the mark alone does not tell."""
    if RECORDED in ctx.slots:
        for i, edit in enumerate(ctx.msg.edits):
            if not edit[1] and edit[2].startswith(_NAME):
                return i
    return -1


def _from_tag(msg: SipMessage) -> str:
    """The tag of From; empty when there is none."""
    value = msg.value("from")
    if value is None:
        return ""
    if value.count(";") == 1:
        _, _, tail = value.partition(">;tag=")
        if tail and '"' not in tail:
            return tail.rstrip(" \t\r\n")
    address = msg.from_
    return "" if address is None else address.tag or ""


def _user(ctx: Context) -> str:
    if not add_username.value:
        return ""
    for uri in (uri_or_none(ctx.ruri), uri_or_none(ctx.msg.ruri)):
        if uri is not None and uri.user:
            return f"{uri.user}@"
    return ""


def _parameters(text: str) -> str:
    return text if not text or text[0] == ";" else f";{text}"


@module.function(routes=R | B | F)
def record_route(ctx: Context, parameters: Line | None = None) -> int:
    """Add a Record-Route with this server's address, so that later requests of the dialog come here too.

    ``parameters`` (``;name=value``) go into its URI as they are. 1 added, -1 when the request has one of ours already.
    """
    slots = ctx.slots
    if RECORDED in slots and _recorded(ctx) >= 0:
        log(ERROR, "rr", "record_route", "double attempt to record-route")
        return -1
    more = parameters or ""
    if PENDING in slots:
        more += slots.pop(PENDING)
    if append_fromtag.value:
        tag = _from_tag(ctx.msg)
        if tag:
            more = f";ftag={tag}{more}"
    ctx.msg.insert_header(f"{_NAME}sip:{_user(ctx)}{ctx.socket.route};lr{more}>\r\n")
    slots[RECORDED] = 1
    return 1


@module.function(routes=R | B | F)
def record_route_preset(ctx: Context, address: Line, outbound: Line | None = None) -> int:
    """Add a Record-Route with ``address`` (``host[:port][;parameter…]``), without looking whether it is this server.

    With ``outbound`` two are added, that with ``address`` before the other one. 1 added, -1 when the request
    has a Record-Route of ours already.
    """
    slots = ctx.slots
    if RECORDED in slots and _recorded(ctx) >= 0:
        log(ERROR, "rr", "record_route_preset", "double attempt to record-route")
        return -1
    tag = _from_tag(ctx.msg) if append_fromtag.value else ""
    tail = f"{f';ftag={tag}' if tag else ''};lr{slots.pop(PENDING, '')}"
    user = _user(ctx)
    lines = f"{_NAME}sip:{user}{address}{tail}>\r\n"
    if outbound is not None:
        lines += f"{_NAME}sip:{user}{outbound}{tail}>\r\n"
    ctx.msg.insert_header(lines)
    slots[RECORDED] = 1
    return 1


@module.function(routes=R | B | F)
def add_rr_param(ctx: Context, parameter: Line) -> int:
    """Add ``;name=value`` to the Record-Route that record_route() has added, or will add. 1 always."""
    text = _parameters(parameter)
    place = _recorded(ctx)
    if place < 0:
        ctx.slots[PENDING] = ctx.slots.get(PENDING, "") + text
    else:
        offset, length, lines = ctx.msg.edits[place]
        added = ctx.slots.get(ADDED, "")
        if not lines.endswith(f"{added}>\r\n"):  # another branch's
            added = ""
        # as in OpenSIPS the last one added comes first
        ctx.msg.edits[place] = (offset, length, lines.replace(f"{added}>\r\n", f"{text}{added}>\r\n"))
        ctx.slots[ADDED] = text + added
    return 1


def _two_sockets(ctx: Context, socket: ListenSocket, edits: list[Edit]) -> list[Edit]:
    """The request leaves from another socket than it came to, or under another name: that must stand in the route set."""
    if RECORDED not in ctx.slots:
        return edits
    inbound, outbound = ctx.socket.route, socket.route
    for i, (offset, length, lines) in enumerate(edits):
        if not length and lines.startswith(_NAME):
            before, ours, tail = lines.partition(f"{inbound};lr")
            if not ours or inbound == outbound:
                return edits
            if socket.index == ctx.socket.index:  # the same one, under another name
                lines = f"{before}{outbound};lr{tail}"
            elif enable_double_rr.value:
                lines = f"{before}{outbound};r2=on;lr{tail}{before}{inbound};r2=on;lr{tail}"
            else:
                lines = f"{before}{outbound};lr{tail}"
            return [*edits[:i], (offset, length, lines), *edits[i + 1 :]]
    return edits


@module.function(routes=R)
def loose_route(ctx: Context) -> int:
    """Route the request by its Route headers: take off ours, and aim ``$du`` or ``$ru`` at the next one.

    1 routed; -1 no Route header, one that cannot be read, or nothing but our own address preloaded by a request that begins a
    dialog (it is taken off nevertheless).
    """
    if "route" not in ctx.msg._kinds:
        return NOT_BY_ROUTE
    code = follow_routes(ctx, ignore_user.value, bool(enable_double_rr.value), bool(enable_socket_mismatch_warning.value), PARAMS)
    for call in routed:
        try:
            call(ctx)
        except Exception as error:  # a fault of one module: the request goes its way
            report_error(error, "loose_route")
    return code


@module.function(routes=R)
def check_route_param(ctx: Context, pattern: Pattern) -> int:
    """Whether the parameters of the Route by which the request came here match a regular expression: 1 yes, -1 no."""
    found = _route_params(ctx)
    return 1 if found is not None and pattern.test(f";{found}") else -1


@module.function(routes=R)
def is_direction(ctx: Context, direction: str) -> int:
    """Whether the request goes ``downstream`` (as the one that began the dialog) or ``upstream``: 1 yes, -1 no.

    Told from ``ftag`` in Route; without it a request counts as downstream. Needs ``append_fromtag``.
    """
    wanted = direction.lower()
    if wanted not in ("downstream", "upstream"):
        log(ERROR, "rr", "is_direction", f"unknown direction {direction!r}: downstream or upstream is expected")
        return -1
    if not append_fromtag.value:
        log(ERROR, "rr", "is_direction", "needs the parameter append_fromtag to be 1")
        return -1
    found = _route_params(ctx)
    ftag = None if found is None else parse_params(found).get("ftag")
    tag = _from_tag(ctx.msg)
    upstream = bool(ftag) and bool(tag) and ftag != tag
    return 1 if upstream == (wanted == "upstream") else -1


def route_param(ctx: Context, name: str) -> str | None:
    """Value of a parameter of our URI that loose_route() has taken off; None when it has none of that name."""
    found = _route_params(ctx)
    return None if found is None else parse_params(found).get(name.lower())


def _route_params(ctx: Context) -> str | None:
    value = ctx.slots.get(PARAMS)
    return value if isinstance(value, str) and value else None


@module.variable("rr_params")
def _rr_params(ctx: Context, argument: str | None, index: int | str | None) -> str | None:
    """Parameters of the URI of ours that loose_route() has taken off; NULL before it, or when none was ours."""
    return _route_params(ctx)
