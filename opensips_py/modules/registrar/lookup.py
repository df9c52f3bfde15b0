"""lookup() and its relatives: from an address of record to the contacts that are registered for it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, NamedTuple

from opensips_py.modules.registrar.declared import AvpNames, aor_of, module, registered_uri
from opensips_py.modules.usrloc import location
from opensips_py.modules.usrloc.contact import Contact
from opensips_py.modules.usrloc.tables import Table
from opensips_py.script.context import Branch, Context
from opensips_py.script.declarations import B, F, L, Line, O, R, ReadVar
from opensips_py.script.flag_words import FlagWord, FlagWords
from opensips_py.script.posix_regex import Regex, RegexError, compile_regex
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.contact_edits import current
from opensips_py.sip.errors import ParseError
from opensips_py.sip.nameaddr import parse_nameaddrs
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm.record import MAX_BRANCHES

NOT_FOUND = -1
NO_METHOD = -2
FAILED = -3
BAD_URI = -475
"""OpenSIPS' number for a URI that cannot be read."""


class Flags(NamedTuple):
    """The second parameter of lookup()."""

    no_branches: bool
    only_branches: bool
    of_branches: bool
    by_method: bool
    user_agent: Regex | None


LOOKUP_FLAGS = FlagWords(
    FlagWord("no-branches", "b", "only the best contact, no branches"),
    FlagWord("to-branches-only", "B", "all contacts become branches, the R-URI stays"),
    FlagWord("branch", "r", "the branches are looked up, too"),
    FlagWord("method-filtering", "m", "only contacts that take the method"),
    FlagWord("ua-filtering", "u", "only user agents that match", "/regex/"),
    FlagWord("case-insensitive", "i", "with ua-filtering: letters' case does not matter"),
    FlagWord("extended-regexp", "e", "with ua-filtering: the expression is extended, as it is in any case"),
    FlagWord("global", "g", "no effect: contacts of a cluster"),
    FlagWord("max-ping-latency", "y", "no effect: answers to pings are not watched", "N"),
    FlagWord("sort-by-latency", "Y", "no effect: answers to pings are not watched"),
)
_USER_AGENT = re.compile(r"u/((?:[^/\\]|\\.)*)/")


@lru_cache(256)
def read_flags(text: str) -> Flags | None:
    """Read the flags; None (and a line in the log) when the regular expression of ``u/…/`` is none."""
    pattern = None
    m = _USER_AGENT.search(text)
    letters = text
    if m is not None:
        letters = text[: m.start()] + text[m.end() :]
        try:
            pattern = compile_regex(m[1], ignore_case="i" in letters)
        except RegexError as error:
            log(ERROR, "registrar", "lookup", f"bad regular expression {m[1]!r}: {error}")
            return None
    for letter in letters:
        if letter not in "bBrmie ,":
            log(WARNING, "registrar", "lookup", f"flag {letter} has no effect")
    return Flags("b" in letters, "B" in letters, "r" in letters, "m" in letters, pattern)


@module.function(routes=R | O | F)
def lookup(
    ctx: Context, domain: Table, flags: Annotated[str, "letters", LOOKUP_FLAGS] | None = None, aor: str | None = None
) -> int:
    """Replace the R-URI by the contact with the highest q that is registered for it (or for ``aor``, a URI).

    The others become branches. 1 found, -1 none, -2 none takes the method, -3 error.
    """
    options = _NO_FLAGS
    if flags:
        read = read_flags(flags)
        if read is None:
            return FAILED
        options = read
    address = aor_of(ctx.ruri if aor is None else aor)
    if address is None:
        return FAILED
    rc, found = _fitting(ctx, domain, address, options)
    expanded: list[Contact] = []
    if options.of_branches and not options.no_branches:
        waiting, ctx.branches = ctx.branches, []
        for branch in waiting:
            of_branch = aor_of(branch.uri)
            if of_branch is not None:
                expanded += _fitting(ctx, domain, of_branch, options)[1]
    contacts = found + expanded
    if not contacts:
        return rc
    rest = contacts
    if not options.only_branches:
        rest = contacts[1:]
        _aim(ctx, contacts[0])
    if not options.no_branches:
        for contact in rest:
            if len(ctx.branches) >= MAX_BRANCHES - 1:
                log(WARNING, "registrar", "lookup", f"{address} has more contacts than a request can have branches")
                break
            ctx.branches.append(_branch(contact))
    if AvpNames.attributes:
        for contact in contacts:
            if contact.attributes is not None:  # the first contact's on top
                ctx.avps.setdefault(AvpNames.attributes, []).insert(0, contact.attributes)
    return 1


_NO_FLAGS = Flags(False, False, False, False, None)


def _fitting(ctx: Context, table: str, aor: str, flags: Flags) -> tuple[int, list[Contact]]:
    """The contacts of one user that pass the filters, and the return code if these are all."""
    found = location.find(table, aor)
    rc = NOT_FOUND
    if flags.user_agent is not None:
        found = [contact for contact in found if flags.user_agent.test(contact.user_agent)]
    if flags.by_method:
        taking = [contact for contact in found if contact.supports(ctx.msg.method)]
        if found and not taking:
            rc = NO_METHOD
        found = taking
    return rc, found


def _next_hop(contact: Contact) -> str | None:
    """Where requests to a contact go: the first Path URI (RFC 3327 5.3), or the address that the REGISTER came from."""
    if contact.path is None:
        return contact.received
    try:
        return parse_nameaddrs(contact.path)[0].uri
    except ParseError:
        return contact.received


def _aim(ctx: Context, contact: Contact) -> None:
    ctx.new_uri = contact.uri
    ctx.dst_uri = _next_hop(contact)
    ctx.path = contact.path
    ctx.q = contact.q
    ctx.branch_flags = contact.branch_flags
    ctx.send_socket = this.sockets_by_name.get(contact.socket, ctx.send_socket)


def _branch(contact: Contact) -> Branch:
    socket = contact.socket if contact.socket in this.sockets_by_name else None
    return Branch(contact.uri, _next_hop(contact), contact.path, contact.q, contact.branch_flags, socket)


@module.function(routes=R | F | O | B | L)
def is_registered(ctx: Context, domain: Table, aor: str | None = None) -> int:
    """Whether a user has a contact: 1 yes, -1 no. Without ``aor`` (a URI): To of a REGISTER, From of other requests."""
    found = _contacts(ctx, domain, aor)
    if not found:
        return -1
    if AvpNames.attributes:
        for contact in found:
            if contact.attributes is not None:
                ctx.avps.setdefault(AvpNames.attributes, []).insert(0, contact.attributes)
    return 1


@module.function(routes=R | F | O | B | L)
def is_contact_registered(
    ctx: Context, domain: Table, aor: str | None = None, contact: str | None = None, callid: str | None = None
) -> int:
    """Whether a user has this contact, or one with this Call-ID: 1 yes, -1 no. Neither: the first Contact of the message."""
    if contact is None and callid is None:
        try:
            contact = current(ctx.msg)[0].uri
        except (ParseError, IndexError):
            return -1
    for one in _contacts(ctx, domain, aor):
        if (contact is None or one.same(contact)) and (callid is None or one.call_id == callid):
            return 1
    return -1


@module.function(routes=R | F | O | B | L)
def is_ip_registered(ctx: Context, domain: Table, aor: str | None, ip: ReadVar) -> int:
    """Whether a contact of a user came from this address (from one of an AVP's values): 1 yes, -1 no, -2 ``aor`` is not a URI."""
    if aor is not None and aor_of(aor) is None:
        return -2
    every = getattr(ip, "values", None)
    values = [ip.get(ctx)] if every is None else every(ctx)
    wanted = {str(value).strip("[]") for value in values if value is not None}
    for contact in _contacts(ctx, domain, aor):
        parts = uri_or_none(contact.received or contact.uri)
        if parts is not None and parts.address in wanted:
            return 1
    return -1


@module.function(routes=R | O)
def remove(
    ctx: Context,
    domain: Table,
    aor: str,
    contact: str | None = None,
    next_hop: str | None = None,
    sip_instance: str | None = None,
) -> int:
    """Remove contacts of a user (``aor`` is a URI): all, or those with this URI, this next hop (an address), this instance.

    1 done, also when there was nothing to remove; -475 ``aor`` is not a URI of a user.
    """
    address = aor_of(aor)
    if address is None:
        return BAD_URI
    if contact is None and next_hop is None and sip_instance is None:
        location.remove(domain, address)
        return 1

    def stays(one: Contact) -> bool:
        if contact is not None and not one.same(contact):
            return True
        if sip_instance is not None and (one.instance or "").strip('"<>') != sip_instance.strip('"<>'):
            return True
        if next_hop is None:
            return False
        parts = uri_or_none(_next_hop(one) or one.uri)
        return parts is None or parts.address != next_hop.strip("[]")

    try:
        location.change(domain, address, lambda found: [one for one in found if stays(one)])
    except location.AorTooLong:
        return -1
    return 1


def _contacts(ctx: Context, table: str, aor: str | None) -> list[Contact]:
    uri = registered_uri(ctx) if aor is None else aor
    address = None if uri is None else aor_of(uri)
    return [] if address is None else location.find(table, address)


@module.function(routes=R | F | O | B | L)
def add_sock_hdr(ctx: Context, name: Line) -> int:
    """Add a header that names the socket that the request came to (``proto:address:port``). 1 always."""
    socket = ctx.socket
    host = f"[{socket.host}]" if ":" in socket.host else socket.host
    ctx.msg.append_header(f"{name}: {socket.proto}:{host}:{socket.port}\r\n")
    return 1
