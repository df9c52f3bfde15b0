"""What RFC 3261 asks of a message and no parser needs: ranges of numbers, headers that may stand there once, forms of values.

:func:`unreadable` finds headers whose values cannot be read. :func:`fault` finds the rest of what RFC 4475 calls invalid: blanks
in the request line, numbers out of range, repeated headers, a CSeq for another method. Each gives the first fault in words,
or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from opensips_py.sip.cseq import parse_cseq
from opensips_py.sip.errors import ParseError
from opensips_py.sip.headers import LWS, split_values
from opensips_py.sip.message import SipMessage
from opensips_py.sip.nameaddr import parse_nameaddrs
from opensips_py.sip.params import Params, parse_params
from opensips_py.sip.via import parse_via

_ADDRESSES = frozenset(
    (
        *("contact", "diversion", "from", "p-asserted-identity", "p-preferred-identity", "path", "record-route", "refer-to"),
        *("referred-by", "remote-party-id", "reply-to", "route", "service-route", "to"),
    )
)
"""Headers that consist of addresses."""

_MAY_BE_EMPTY = frozenset(("accept", "accept-encoding", "accept-language", "allow", "organization", "subject", "supported"))
"""Headers with a grammar that allows an empty value (RFC 3261 25.1)."""

_HAVE_VALUES = frozenset(
    (
        *("call-id", "content-disposition", "content-encoding", "content-language", "content-length", "content-type", "cseq"),
        *("date", "event", "expires", "max-forwards", "mime-version", "min-expires", "min-se", "priority", "privacy"),
        *("proxy-require", "rack", "reason", "replaces", "require", "retry-after", "rseq", "server", "session-expires"),
        *("subscription-state", "timestamp", "unsupported", "user-agent", "via", "warning", "allow-events"),
    )
)
"""Others whose value must say something."""

SINGLE = frozenset(
    (
        *("call-id", "content-disposition", "content-length", "content-type", "cseq", "date", "event", "expires", "from"),
        *("join", "max-forwards", "mime-version", "min-expires", "min-se", "organization", "priority", "rack", "refer-to"),
        *("referred-by", "replaces", "reply-to", "retry-after", "rseq", "server", "session-expires", "sip-etag"),
        *("sip-if-match", "subject", "subscription-state", "timestamp", "to", "user-agent"),
    )
)
"""Headers that a message has once (RFC 3261 7.3.1: those whose value is not a list)."""

_SECONDS = 2**32 - 1
"""Largest ``delta-seconds`` (RFC 3261 20.19, 20.33), RSeq and RAck (RFC 3262 7.1)."""
_CSEQ = 2**31 - 1
"""RFC 3261 8.1.1.5."""
_OCTET = 255
"""Max-Forwards (RFC 3261 20.22), and ``ttl`` of a Via."""

_date = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3]\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} [0-2]\d:[0-5]\d:[0-6]\d GMT"
).fullmatch
_qvalue = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?").fullmatch
_warning = re.compile(r"\d{3}\s+\S+\s+\"", re.DOTALL).match


def unreadable(msg: SipMessage) -> str | None:
    """The first header of a message that cannot be read."""
    for header in msg.headers:
        kind = header.kind
        value = header.value.rstrip(LWS)
        if not value:
            if kind in _HAVE_VALUES or kind in _ADDRESSES:
                return f"empty {header.name}"
        elif kind in _ADDRESSES or kind == "via":
            try:
                if kind == "via":
                    for each in split_values(value):
                        parse_via(each)
                else:
                    parse_nameaddrs(value)
            except ParseError as error:
                return f"{header.name}: {error.reason}"
        elif kind == "cseq" and parse_cseq(value) is None:
            return f"{header.name}: not a number and a method"
    return None


def fault(msg: SipMessage) -> str | None:
    """The first thing that RFC 3261 does not allow in a message whose headers can be read."""
    if msg.is_request:
        line = msg.text[: msg.headers[0].start].rstrip("\r\n") if msg.headers else ""
        if line != f"{msg.method} {msg.ruri} {msg.version.strip()}":
            return "white space in the request line"
        if msg.cseq is not None and msg.cseq.method != msg.method:
            return f"CSeq is for {msg.cseq.method}, the request is {msg.method}"
    seen: set[str] = set()
    for header in msg.headers:
        if header.kind in seen and header.kind in SINGLE:
            return f"more than one {header.name}"
        seen.add(header.kind)
        check = _VALUES.get(header.kind)
        if check is not None:
            wrong = check(header.value.rstrip(LWS))
            if wrong is not None:
                return f"{header.name}: {wrong}"
    return None


def is_rfc3261(msg: SipMessage) -> bool:
    """Whether a message is of RFC 3261, and not of RFC 2543, by the branch of its Via (RFC 3261 17.2.3)."""
    return (msg.via.branch or "").startswith("z9hG4bK")


def holds_another_message(msg: SipMessage) -> bool:
    """Whether what a datagram holds after the body is another message, which nobody reads (RFC 3261 18.3)."""
    rest = msg.text[msg.body_end :].lstrip("\r\n")
    words = rest.partition("\n")[0].rstrip("\r").split(" ")
    return len(words) > 2 and "SIP/2.0" in (words[0], words[-1])


def _number(text: str, largest: int, what: str = "number") -> str | None:
    if not (text.isascii() and text.isdigit()):
        return f"{text[:40]!r} is not a {what}"
    digits = text.lstrip("0")
    if len(digits) > 10 or int(digits or "0") > largest:
        return f"{text[:40]} is more than {largest}"
    return None


def _seconds(text: str) -> str | None:
    return _number(text, _SECONDS, "number of seconds")


def _seconds_and_parameters(text: str) -> str | None:
    """``Retry-After: 18000 (in a meeting);duration=3600``, ``Session-Expires: 90;refresher=uac``."""
    number, _, tail = text.partition(";")
    return _seconds(number.partition("(")[0].strip(LWS)) or _numbers(parse_params(tail), duration=_SECONDS)


def _cseq(text: str) -> str | None:
    return _number(text.split()[0], _CSEQ) if text else None


def _rack(text: str) -> str | None:
    words = text.split()
    if len(words) != 3:
        return "not two numbers and a method"
    return _number(words[0], _SECONDS) or _number(words[1], _CSEQ)


def _date_of(text: str) -> str | None:
    return None if _date(text) else f"{text[:40]!r} is not a date in GMT"


def _warnings(text: str) -> str | None:
    wrong = next((value for value in split_values(text) if not _warning(value)), None)
    return None if wrong is None else f"{wrong[:40]!r} is not a three-digit code, an agent and a text"


def _contacts(text: str) -> str | None:
    for address in parse_nameaddrs(text):
        params = address.params
        q = params.get("q")
        if "q" in params and not _qvalue(q or ""):
            return f"{q!r} is not a q value"
        wrong = _numbers(params, expires=_SECONDS)
        if wrong is not None:
            return wrong
    return None


def _vias(text: str) -> str | None:
    return _first(_numbers(parse_via(value).params, ttl=_OCTET) for value in split_values(text))


def _numbers(params: Params, **largest: int) -> str | None:
    """Whether those parameters, where they are, are numbers up to a limit."""
    return _first(_number(params[name] or "", limit) for name, limit in largest.items() if name in params)


def _first(faults: Iterable[str | None]) -> str | None:
    return next((each for each in faults if each is not None), None)


_VALUES: dict[str, Callable[[str], str | None]] = {
    "contact": _contacts,
    "cseq": _cseq,
    "date": _date_of,
    "expires": _seconds,
    "max-forwards": lambda text: _number(text, _OCTET),
    "min-expires": _seconds,
    "min-se": _seconds_and_parameters,
    "rack": _rack,
    "retry-after": _seconds_and_parameters,
    "rseq": lambda text: _number(text, _SECONDS),
    "session-expires": _seconds_and_parameters,
    "via": _vias,
    "warning": _warnings,
}
"""What else must be true of a value that can be read."""
