"""Where a text of the message would be read as something else: SQL, a shell command, an LDAP filter, a URL, a header.

Who sends a message chooses its user names, headers and body. This file knows which variables hold such text, what takes the
danger out of it, and which parameters of functions read more than text; ``check_injection`` walks through a script with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SQL, SHELL, LDAP, URL, HEADER = "SQL", "a shell command", "an LDAP filter", "a URL", "a header"
CONTEXTS = frozenset((SQL, SHELL, LDAP, URL, HEADER))
TEXT = CONTEXTS - {HEADER}
"""Where a part of an address is dangerous: it cannot hold what ends a header."""

SINKS: Mapping[str, Mapping[int, str]] = {
    "avp_db_query": {0: SQL},
    "sql_query": {0: SQL},
    "sql_query_one": {0: SQL},
    "exec": {0: SHELL},
    "ldap_search": {0: LDAP},
    "rest_get": {0: URL},
    "rest_post": {0: URL},
    "rest_put": {0: URL},
    **{name: {0: HEADER} for name in ("append_hf", "insert_hf", "append_to_reply", "rest_append_hf", "t_add_hdrs")},
    "append_urihf": {0: HEADER, 1: HEADER},
    **{name: {1: HEADER} for name in ("send_reply", "sl_send_reply", "t_reply")},
}
"""Functions and their parameters that read more than text."""

_PARTS = (
    *(
        "Au",
        "aU",
        "ad",
        "adu",
        "ai",
        "an",
        "ar",
        "au",
        "ci",
        "dd",
        "di",
        "du",
        "duri",
        "fU",
        "fd",
        "from",
        "ft",
        "fu",
        "oU",
        "od",
        "ou",
    ),
    *(
        "pU",
        "pd",
        "pu",
        "rU",
        "rd",
        "re",
        "rm",
        "rt",
        "ru",
        "ruri",
        "ruri.domain",
        "ruri.user",
        "tU",
        "td",
        "to",
        "tt",
        "tu",
        "path",
    ),
    *("auth.alg", "auth.cnonce", "auth.nc", "auth.nonce", "auth.opaque", "auth.qop", "auth.resp", "ds"),
)
_TEXTS = ("cT", "ct", "ct.fields", "dip", "dir", "fn", "hdr", "hdr_name", "mb", "pn", "rb", "rr", "tn", "ua")
SOURCES: Mapping[str, frozenset[str]] = {**dict.fromkeys(_PARTS, TEXT), **dict.fromkeys(_TEXTS, CONTEXTS)}
"""Variables that hold what the sender has written, and where that is dangerous."""

_HARMLESS = (
    *("csv.count", "ip.family", "ip.isip", "ip.isip4", "ip.isip6", "ip.isprivate", "ip.matches", "ip.ntop", "nameaddr.len"),
    *("param.count", "param.exist", "s.crc32", "s.dec2hex", "s.encode.hexa", "s.hex2dec", "s.index", "s.int", "s.len", "s.md5"),
    *("s.rindex", "uri.port", "via.port", "via.rport", "uri.ttl"),
)
"""Transformations that leave digits, hexadecimal digits or an address."""
_SAFE_FOR: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(_HARMLESS, CONTEXTS),
    "s.b64encode": CONTEXTS - {URL},
    "s.escape.common": frozenset((SQL,)),
    "s.escape.shell": frozenset((SHELL,)),
    "s.escape.user": frozenset((HEADER,)),
    "s.escape.param": frozenset((HEADER,)),
    "rest.escape": CONTEXTS - {LDAP},
    **{name: frozenset((HEADER,)) for name in ("uri.user", "uri.host", "uri.domain", "s.trim")},
}
_UNDOES = ("s.unescape.common", "s.unescape.user", "s.unescape.param", "rest.unescape", "s.b64decode", "s.decode.hexa", "s.xor")
"""Transformations after which anything may stand again."""

WAYS_OUT = {
    SQL: "s.escape.common",
    SHELL: "s.escape.shell",
    URL: "rest.escape",
    HEADER: "s.escape.user",
}
"""The transformation that makes a text harmless."""


@dataclass(frozen=True, slots=True)
class Taint:
    """A text of the message: the variable that it comes from, and where it is dangerous."""

    source: str
    contexts: frozenset[str]


def transformed(contexts: frozenset[str], names: list[str]) -> frozenset[str]:
    """Where a text is still dangerous after these transformations."""
    for name in names:
        if name in _UNDOES:
            contexts = CONTEXTS
        else:
            contexts -= _SAFE_FOR.get(name, frozenset())
    return contexts


def quoted(before: str) -> bool:
    """Does what follows ``before`` in SQL stand in quotes?"""
    inside = ""
    escaped = False
    for c in before:
        if escaped:
            escaped = False
        elif c == "\\" and inside:
            escaped = True
        elif inside:
            inside = "" if c == inside else inside
        elif c in "'\"`":
            inside = c
    return inside in ("'", '"')
