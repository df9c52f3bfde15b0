"""t_write_req(), t_write_unix(): a request is described to a program, which answers it by the management command t_reply.

Twenty lines are written (version 0.3 of OpenSIPS' format), with ``.`` for nothing where a line may not be empty:

1. the version; 2. ``sip_request.ACTION``; 3. the method; 4., 5. user and host of the R-URI; 6., 7. address and port that the
request came to (``.``: 5060); 8. the R-URI; 9. the R-URI of the program's own requests in the dialog; 10., 11. From and To;
12. Call-ID; 13., 14. their tags; 15. the number in CSeq; 16. the transaction, ``entry:label``; 17., 18. Route and next hop of the
program's requests; 19. the message flags and what ``tw_append`` adds, up to a line with a dot; 20. the body.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
from collections.abc import Callable
from typing import Annotated, Any

from opensips_py.modules.tm.declared import module, tw_append, unix_tx_timeout
from opensips_py.modules.tm.injection import add_waiting_branch, end_waiting
from opensips_py.script import variables
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, R
from opensips_py.script.variable_syntax import VariableError
from opensips_py.script.variables import Registry, Variable
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.sip.contact_edits import current
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import SipMessage
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import identity

VERSION = "0.3"
LONGEST_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""

# --- what tw_append adds ----------------------------------------------------------------------------------------------

_LEAD = re.compile(r"\s*([^\s:]+)\s*:\s*")
_TITLE = re.compile(r"\s*([^\s=;$]+)\s*=\s*")

Elements = tuple[list[tuple[str, Variable]], bool]
"""Titles and variables, and whether the body is wanted."""


def _parse(text: str, registry: Registry) -> tuple[str, Elements]:
    """``NAME: [title=]$variable; …``: the name in lower case, and what it adds. Raises ConfigError."""
    lead = _LEAD.match(text)
    if lead is None:
        raise ConfigError(f'tm: tw_append "{text}" does not begin with a name and a colon')
    position, found, body = lead.end(), [], False
    while position < len(text):
        title = _TITLE.match(text, position)
        start = position if title is None else title.end()
        start += len(text[start:]) - len(text[start:].lstrip())
        try:
            if text[start : start + 1] != "$":
                raise VariableError("a variable is expected")
            variable, position = registry.scan(text, start)
        except VariableError as error:
            raise ConfigError(f'tm: tw_append "{text}", at "{text[start : start + 20]}": {error.message}') from None
        if title is not None:
            found.append((title[1], variable))
        elif variable.text == "$rb":
            body = True
        else:
            raise ConfigError(f'tm: tw_append "{text}": only $rb needs no title, {variable.text} does')
        rest = text[position:].lstrip()
        if rest and not rest.startswith(";"):
            raise ConfigError(f'tm: tw_append "{text}": a semicolon is expected before "{rest[:20]}"')
        position = len(text) - len(rest) + 1
    return lead[1].lower(), (found, body)


_appends: dict[str, Elements] = {}


@module.on_config
def _configure() -> None:
    _appends.clear()
    for text in tw_append.value:
        name, elements = _parse(text, variables.current())
        if name in _appends:
            raise ConfigError(f'tm: tw_append "{name}" is defined twice')
        _appends[name] = elements


def _fault(text: str, registry: Any) -> str | None:
    action, slash, name = text.partition("/")
    if not action:
        return "the name of the action is missing: ACTION or ACTION/APPEND"
    if not slash:
        return None
    known = [lead[1] for given in tw_append.value if (lead := _LEAD.match(given)) is not None]
    if name.lower() in (one.lower() for one in known):
        return None
    return f'tw_append "{name}" is not defined (modparam tm tw_append): {", ".join(known) or "there is none"}'


Info = Annotated[str, "str", _fault]

# --- the description --------------------------------------------------------------------------------------------------


def _describe(ctx: Context, info: str) -> bytes:
    msg = ctx.msg
    action, _, name = info.partition("/")
    elements, body = _appends[name.lower()] if name else ([], False)
    uri = uri_or_none(ctx.ruri)
    from_, to, cseq = msg.from_, msg.to, msg.cseq
    port = ctx.socket.port
    contact, route, next_hop = _dialog(msg)
    lines = [
        VERSION,
        f"sip_request.{action}",
        msg.method,
        (uri.user if uri is not None else None) or "",
        (uri.host if uri is not None else None) or "",
        ctx.socket.host,
        "." if port == 5060 else str(port),
        ctx.ruri,
        contact or ".",
        (msg.value("from") or "").rstrip(),
        (msg.value("to") or "").rstrip(),
        msg.call_id or "",
        (None if from_ is None else from_.tag) or "",
        (None if to is None else to.tag) or "",
        "" if cseq is None else str(cseq.number),
        identity.ident(ctx.tx.key),
        route or ".",
        next_hop or ".",
        _added(ctx, elements),
        msg.body if msg.method == "INVITE" or body else ".",
    ]
    return "".join(f"{line}\n" for line in lines).encode("latin-1")


def _added(ctx: Context, elements: list[tuple[str, Variable]]) -> str:
    """The message flags, as hexadecimal digits with the lowest first, and the elements that have a value."""
    digits = f"{ctx.flags:x}"
    text = f"P-MsgFlags: {digits[::-1]}\n"
    for title, variable in elements:
        value = variable.get(ctx)
        if value is not None:
            text += f"{title}: {value}\n"
    return text + "."


def _dialog(msg: SipMessage) -> tuple[str, str, str]:
    """R-URI, Route and next hop of requests that the program may send in the dialog (RFC 3261 12.1.1)."""
    try:
        contacts, records = current(msg), msg.record_routes
    except ParseError:
        contacts, records = [], []
    target = contacts[0].uri if contacts else ("" if msg.from_ is None else msg.from_.uri)
    if not records:
        return target, "", ""
    routes = [record.uri for record in records]
    first = uri_or_none(routes[0])
    if first is not None and first.lr:
        return target, ",".join(f"<{route}>" for route in routes), routes[0]
    return routes[0], ",".join(f"<{route}>" for route in [*routes[1:], target]), ""


# --- the functions ----------------------------------------------------------------------------------------------------


@module.function(routes=R | F | B)
def t_write_req(ctx: Context, info: Info, path: str) -> int:
    """Write a description of the request to a FIFO; a program answers by the management command t_reply, or 408 follows.

    ``info`` is ``action`` or ``action/append``, where ``append`` is the name of a ``tw_append``. 1 written, -1 not: no
    transaction, nobody reads the FIFO, or it is full.
    """
    return _hand_over(ctx, "t_write_req", info, lambda data: _to_fifo(path, data))


@module.function(routes=R | F | B)
def t_write_unix(ctx: Context, info: Info, path: str) -> int:
    """As t_write_req(), in one datagram to a Unix socket, which is waited for if its buffer is full (``unix_tx_timeout``)."""
    return _hand_over(ctx, "t_write_unix", info, lambda data: _to_socket(path, data))


def _hand_over(ctx: Context, function: str, info: str, write: Callable[[bytes], None]) -> int:
    tx = ctx.tx
    fault = _fault(info, None)
    if fault is not None:
        log(ERROR, "tm", function, fault)
        return -1
    if tx is None:
        log(ERROR, "tm", function, "there is no transaction: call t_newtran() before")
        return -1
    # before the program can answer: it is to find the transaction
    added = add_waiting_branch(ctx, tx, lambda rec: rec.fr)
    if added != 1:
        return added
    try:
        write(_describe(ctx, info))
    except OSError as error:
        end_waiting(tx)
        log(ERROR, "tm", function, f"the request is not handed over: {error.strerror or error}")
        return -1
    return 1


def _to_fifo(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.EAGAIN, f"{path} has taken only a part of it")
    finally:
        os.close(descriptor)


def _to_socket(path: str, data: bytes) -> None:
    if not path or len(path) > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, f"{path!r} cannot be the path of a socket")
    deadline = this.clock.now() + unix_tx_timeout.value
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.connect(path)
        while True:
            try:
                sender.send(data)
                return
            except BlockingIOError:
                left = deadline - this.clock.now()
                if left <= 0:
                    raise
                poll = select.poll()
                poll.register(sender, select.POLLOUT)
                poll.poll(left * 1000)
