"""save(): a REGISTER request, or the reply to one (RFC 3261 10.3).

The contacts of one request are taken all or none, but for those that ``max_contacts`` has no room for: as in OpenSIPS they are
refused, and the others stay. How much there is to do is for the request to say: it is done before the
shared store is written, and limits come first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from ipc.store import StoreError
from opensips_py.core.functions_network import socket_named
from opensips_py.modules.registrar import declared
from opensips_py.modules.registrar.declared import AvpNames, aor_of, module
from opensips_py.modules.usrloc import location
from opensips_py.modules.usrloc.contact import ALL_METHODS, Contact, methods_of, q_of, q_text
from opensips_py.modules.usrloc.declared import cseq_delay, matching_mode, nat_mask
from opensips_py.modules.usrloc.ordering import Contacts, TooManyAlike
from opensips_py.modules.usrloc.tables import Table
from opensips_py.net import tcp
from opensips_py.script.context import Q_UNSPECIFIED, Context
from opensips_py.script.declarations import O, R
from opensips_py.script.flag_words import FlagWord, FlagWords
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.contact_edits import current
from opensips_py.sip.headers import kind_of
from opensips_py.sip.message import ParseError, SipMessage
from opensips_py.sip.nameaddr import NameAddr, parse_nameaddr
from opensips_py.sip.params import unquote
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm import overload, server_transaction, stateless
from opensips_py.tm.msg_translator import REPLY_HEADERS

REFUSED = -2
"""Return code: an error has been answered (with flag ``r``: there was one)."""

MAX_USER_AGENT = 255
"""Characters of User-Agent that are kept: as many as OpenSIPS' table has room for."""

SAVE_FLAGS = FlagWords(
    FlagWord("memory-only", "m", "contacts are kept in memory, as they are in any case"),
    FlagWord("no-reply", "r", "no reply is sent"),
    FlagWord("max-contacts", "c", "at most so many contacts", "N"),
    FlagWord("force-registration", "f", "with max-contacts: drop the oldest"),
    FlagWord("min-expires", "e", "lowest expires", "N"),
    FlagWord("max-expires", "E", "highest expires", "N"),
    FlagWord("matching-mode", "M", "contacts are the same by URI (0), or by URI and Call-ID (1)", "N"),
    FlagWord("path-off", "p0", "Path is stored, and never given back"),
    FlagWord("path-lazy", "p1", "Path is stored, and given back if the user agent supports it"),
    FlagWord(
        "path-strict", "p2", "as path-lazy, but a user agent that does not support it is answered 420; its contacts are stored"
    ),
    FlagWord("path-received", "v", "take `received` of Path"),
    FlagWord("socket-header", "s", "the socket is that of the header `sock_hdr_name`"),
    FlagWord("only-request-contacts", "o", "the reply lists only the contacts of the request"),
)

_FLAG = re.compile(r"([a-zA-Z])\(?([0-9]*)\)?")


@dataclass(slots=True, frozen=True)
class Flags:
    """The second parameter of save()."""

    reply: bool = True
    socket_header: bool = False
    only_own: bool = False
    force: bool = False
    max_contacts: int | None = None
    min_expires: int | None = None
    max_expires: int | None = None
    matching: int | None = None
    path: int | None = None
    path_received: bool = False


@lru_cache(256)
def read_flags(text: str) -> Flags:
    """Read the flags; unknown letters are logged once and passed over, as OpenSIPS does."""
    found: dict[str, bool | int] = {}
    for letter, digits in _FLAG.findall(text):
        number = int(digits) if digits else 0
        if letter in "rsofv":
            name = {"r": "reply", "s": "socket_header", "o": "only_own", "f": "force", "v": "path_received"}[letter]
            found[name] = letter != "r"
        elif letter in "ceEMp":
            name = {"c": "max_contacts", "e": "min_expires", "E": "max_expires", "M": "matching", "p": "path"}[letter]
            found[name] = number
        elif letter != "m":  # memory only: contacts are nowhere else
            log(WARNING, "registrar", "save", f"unknown flag {letter}")
    return Flags(**found)  # type: ignore[arg-type]  # (each name has the type of its kind of letter)


class _Refusal(Exception):
    """The request cannot be granted."""

    def __init__(self, code: int, reason: str, why: str = "", headers: str = "") -> None:
        super().__init__(why)
        self.code, self.reason = code, reason
        self.headers = headers + (f"P-Registrar-Error: {why}\r\n" if why else "")
        self.contacts: list[Contact] = []


HIGHEST_CSEQ = 2**63 - 1
"""What is stored of a number in CSeq, which RFC 3261 8.1.1.5 keeps below 2**31; larger ones count as this."""


def _bad(why: str) -> _Refusal:
    return _Refusal(400, "Bad Request", why)


@module.function(routes=R | O)
def save(
    ctx: Context,
    domain: Table,
    flags: Annotated[str, "letters", SAVE_FLAGS] | None = None,
    aor: str | None = None,
    ownership_tag: str | None = None,
) -> int:
    """Take over what a REGISTER says about the contacts of the user in To (or of ``aor``, a URI), and answer it.

    ``domain`` is the table, usually ``location``.

    1 done and answered 200, -2 refused and answered with an error, -1 neither.
    """
    if ownership_tag is not None:
        log(WARNING, "registrar", "save", "contacts are those of one server: the ownership tag means nothing")
    options = read_flags(flags) if flags else _NO_FLAGS
    msg = ctx.msg
    try:
        requested, found, path_header = _register(ctx, domain, options, aor)
    except _Refusal as refusal:
        declared.rejected.add()
        headers = _contact_header(refusal.contacts) + refusal.headers
        if refusal.code >= 500 and declared.retry_after.value and "Retry-After:" not in headers:
            headers += f"Retry-After: {declared.retry_after.value}\r\n"
        if options.reply and msg.is_request:
            return REFUSED if _answer(ctx, refusal.code, refusal.reason, headers) > 0 else -1
        return REFUSED
    declared.accepted.add()
    if requested and ctx.socket.proto != "udp" and ctx.flags & declared.persistent_mask():
        tcp.prolong(ctx, max(contact.expires for contact in requested) - this.clock.now())
    if not options.reply or not msg.is_request:
        return 1
    if options.only_own:
        own = Contacts(requested)
        found = [contact for contact in found if own.first(contact.uri) is not None]
    if options.path == 2 and ctx.msg.has("path") and not path_header:
        headers = _contact_header(found) + "Unsupported: path\r\n" + _path_header(msg)
        return _answer(ctx, 420, "Bad Extension", headers + "P-Registrar-Error: No support for found Path indicated\r\n")
    return _answer(ctx, 200, "OK", _contact_header(found) + path_header)


_NO_FLAGS = Flags()


def _answer(ctx: Context, code: int, reason: str, headers: str) -> int:
    if headers:
        ctx.slots[REPLY_HEADERS] = ctx.slots.get(REPLY_HEADERS, "") + headers
    if ctx.tx is not None:
        return server_transaction.reply(ctx, code, reason)
    return stateless.send(ctx, code, reason)


def _check_lengths(aor: str) -> None:
    user, _, domain = aor.partition("@")
    limits = (
        (user, declared.max_username_len.value),
        (domain, declared.max_domain_len.value),
        (aor, declared.max_aor_len.value),
    )
    if any(len(part) > limit for part, limit in limits):
        raise _bad("Address of record too long")


def _register(ctx: Context, table: str, flags: Flags, aor_uri: str | None) -> tuple[list[Contact], list[Contact], str]:
    """The contacts asked for, those that are registered then, and further headers of the reply."""
    msg = ctx.msg
    if aor_uri is None:
        if msg.to is None:
            raise _bad("Error while parsing headers")
        aor_uri = msg.to.uri
    aor = aor_of(aor_uri)
    if aor is None:
        raise _bad("Could not extract the address of record")
    _check_lengths(aor)
    addresses = _addresses(msg)
    if not addresses:
        return [], location.find(table, aor), ""
    limit = _limit(flags)
    if limit and len(addresses) > 2 * limit:  # so many may go and as many come
        raise _too_many()
    cseq = msg.cseq
    if cseq is None or msg.call_id is None:
        raise _bad("Error while parsing headers")
    number = min(cseq.number, HIGHEST_CSEQ)
    path, path_header, path_received = _path(msg, flags)
    try:
        if addresses[0].uri == "*":
            _check_star(msg, addresses)
            found = location.change(table, aor, lambda old: _without_all(old, msg.call_id or "", number))
            return [], found, path_header
        requested = _requested(ctx, flags, addresses, number, path, path_received)
        left_out: list[Contact] = []
        found = location.change(table, aor, lambda old: _updated(old, requested, flags, left_out))
        if left_out:
            refusal = _too_many()
            refusal.contacts = found
            raise refusal
        return requested, found, path_header
    except location.AorTooLong:
        raise _bad("Address of record too long") from None
    except location.TooMuch:
        raise _Refusal(503, "Service Unavailable", "Contacts too large") from None
    except StoreError as error:
        log(ERROR, "registrar", "save", str(error))
        raise _Refusal(503, "Service Unavailable", "No room for the contact", overload.RETRY_HEADER) from None


def _addresses(msg: SipMessage) -> list[NameAddr]:
    try:
        return current(msg)
    except ParseError:
        raise _bad("Contact parse error") from None


def _check_star(msg: SipMessage, addresses: list[NameAddr]) -> None:
    if len(addresses) > 1:
        raise _bad("* used in contact and more than 1 contact")
    if _seconds(msg.value("expires")) != 0:
        raise _bad("* used in contact and expires is not zero")


def _seconds(text: str | None) -> int | None:
    """The number in an Expires header or parameter; ``default_expires`` when it is none, None when there is no text."""
    if text is None:
        return None
    text = text.strip(' \t\r\n"')
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return int(declared.default_expires.value)
    return min(int(text), 0xFFFFFFFF)


def _requested(
    ctx: Context, flags: Flags, addresses: list[NameAddr], cseq: int, path: str | None, path_received: str | None
) -> list[Contact]:
    """The contacts of the request. One that is to be removed has ``expires`` -1."""
    msg = ctx.msg
    now = this.clock.now()
    default = _seconds(msg.value("expires"))
    low = declared.min_expires.value if flags.min_expires is None else flags.min_expires
    high = declared.max_expires.value if flags.max_expires is None else flags.max_expires
    allow = msg.value("allow")
    methods = ALL_METHODS if allow is None else methods_of(",".join(msg.values("allow")))
    names = AvpNames
    received = path_received or (_avp(ctx, names.received) if names.received else None)
    attributes = _avp(ctx, names.attributes) if names.attributes else None
    branch_flags = ctx.branch_flags | (nat_mask() if path_received else 0)
    socket = _socket(ctx, flags)
    agent = (msg.user_agent or "n/a")[:MAX_USER_AGENT]
    found = []
    for address in addresses:
        uri = address.uri
        if uri == "*":  # it may only be alone
            raise _bad("Contact parse error")
        if len(uri) > declared.max_contact_len.value or len(received or "") > declared.max_contact_len.value:
            raise _bad("Contact/Received too long")
        if uri_or_none(uri) is None:
            raise _bad("Contact is not a URI")
        params = address.params if address.tail else {}
        seconds = _seconds(params.get("expires")) if params else None
        if seconds is None:
            seconds = default
        if seconds is None:
            seconds = declared.default_expires.value
        if seconds > 0:
            seconds = max(seconds, low)
            if high:
                seconds = min(seconds, high)
        q = declared.default_q.value
        own_methods, instance = methods, None
        if params:
            text = params.get("q")
            if text is not None:
                own_q = q_of(text)
                if own_q is None:
                    raise _bad("Invalid q parameter")
                q = own_q
            instance = params.get("+sip.instance")
            text = params.get("methods")
            if text is not None:
                own_methods = methods_of(unquote(text))
        expires = now + seconds if seconds else -1.0
        found.append(
            Contact(
                uri=uri,
                expires=expires,
                call_id=msg.call_id or "",
                cseq=cseq,
                q=q,
                user_agent=agent,
                received=received,
                path=path,
                socket=socket,
                methods=own_methods,
                flags=ctx.flags,
                branch_flags=branch_flags,
                instance=instance,
                attributes=attributes,
                modified=now,
            )
        )
    return found


def _avp(ctx: Context, name: str) -> str | None:
    values = ctx.avps.get(name)
    return str(values[-1]) if values else None


def _socket(ctx: Context, flags: Flags) -> str:
    """The name of the socket through which the user agent can be reached."""
    if flags.socket_header and declared.sock_hdr_name.value:
        text = ctx.msg.value(kind_of(declared.sock_hdr_name.value))
        if text is not None:
            named = socket_named(text.strip())
            if named is not None:
                return named.name
            log(WARNING, "registrar", "save", f"this server has no socket {text.strip()}")
    return ctx.socket.name


def _check_order(old: Contact, call_id: str, cseq: int, now: float) -> bool:
    """RFC 3261 10.3 step 7: within one Call-ID, CSeq must grow. False for a retransmission."""
    if old.call_id != call_id or cseq > old.cseq:
        return True
    if cseq == old.cseq and now - old.modified <= cseq_delay.value:
        return False
    raise _bad("Invalid CSeq number")


def _without_all(old: list[Contact], call_id: str, cseq: int) -> list[Contact]:
    now = this.clock.now()
    try:
        for contact in old:
            _check_order(contact, call_id, cseq, now)
    except _Refusal as refusal:
        refusal.contacts = old
        raise
    return []


def _updated(old: list[Contact], requested: list[Contact], flags: Flags, left_out: list[Contact]) -> list[Contact] | None:
    """What the contacts become; None when nothing changes (a retransmission). ``left_out``: those that there is no room for."""
    left_out.clear()
    contacts = Contacts(old, _by_call_id(flags))
    try:
        for new in requested:
            one = contacts.first(new.uri, new.call_id)
            if one is not None and not _check_order(one, new.call_id, new.cseq, new.modified):
                return None
        for new in requested:
            if new.expires < 0:
                contacts.remove(new.uri, new.call_id)
            else:
                contacts.put(new)
        fitting = _limited(contacts.in_order(), old, requested, flags, left_out)
        return None if left_out and len(fitting) == len(old) and not set(map(id, fitting)) - set(map(id, old)) else fitting
    except TooManyAlike:
        raise _too_many() from None
    except _Refusal as refusal:
        refusal.contacts = old
        raise


def _by_call_id(flags: Flags) -> bool:
    """Whether contacts are the same by URI and Call-ID."""
    return bool(matching_mode.value if flags.matching is None else flags.matching)


def _too_many() -> _Refusal:
    return _Refusal(503, "Service Unavailable", "Too many registered contacts")


def _limit(flags: Flags) -> int:
    """How many contacts a user may have; 0: any number."""
    return int(declared.max_contacts.value) if flags.max_contacts is None else flags.max_contacts


def _limited(
    contacts: list[Contact], old: list[Contact], requested: list[Contact], flags: Flags, left_out: list[Contact]
) -> list[Contact]:
    """Hold the number of contacts below the limit: leave out the last of the new ones, or with flag ``f`` the oldest of all."""
    limit = _limit(flags)
    excess = len(contacts) - limit
    if not limit or excess <= 0:
        return contacts
    if flags.force:
        new = set(map(id, requested))
        oldest = sorted((one for one in contacts if id(one) not in new), key=lambda one: one.modified)[:excess]
        if len(oldest) == excess:
            dropped = set(map(id, oldest))
            return [one for one in contacts if id(one) not in dropped]
        raise _too_many()
    known = Contacts(old, _by_call_id(flags))
    there = set(map(id, contacts))
    added = [one for one in requested if id(one) in there and known.first(one.uri, one.call_id) is None]
    left_out += added[-excess:]
    without = set(map(id, left_out))
    return [one for one in contacts if id(one) not in without]


def _contact_header(contacts: list[Contact]) -> str:
    """The Contact header that lists what is registered; empty when nothing is."""
    if not contacts:
        return ""
    now = this.clock.now()
    values = []
    for contact in contacts:
        value = f"<{contact.uri}>"
        if contact.q != Q_UNSPECIFIED:
            value += f";q={q_text(contact.q)}"
        value += f";expires={contact.remaining(now)}"
        if contact.received is not None:
            value += f';{declared.received_param.value}="{contact.received}"'
        values.append(value)
    return f"Contact: {', '.join(values)}\r\n"


def _path(msg: SipMessage, flags: Flags) -> tuple[str | None, str, str | None]:
    """RFC 3327: the Path to store, the header that goes into the reply, and the ``received`` of its first URI (flag ``v``)."""
    if flags.path is None or not msg.has("path"):
        return None, "", None
    path = ", ".join(msg.values("path"))
    supported = any(option.lower() == "path" for option in msg.values("supported"))
    received = None
    if flags.path_received:
        try:
            first = parse_nameaddr(msg.values("path")[0])
        except ParseError:
            raise _bad("Error while parsing Path") from None
        m = _RECEIVED(first.uri)
        received = None if m is None else unquote(m[1])
    return path, _path_header(msg) if flags.path > 0 and supported else "", received


def _path_header(msg: SipMessage) -> str:
    return f"Path: {', '.join(msg.values('path'))}\r\n"


_RECEIVED = re.compile(r';received=("[^"]*"|[^;?]+)', re.IGNORECASE).search
