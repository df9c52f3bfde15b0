"""LDAP URLs (RFC 4516) as scripts write them: the host part is the name of a session."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

SCOPES = {"": "BASE", "base": "BASE", "one": "LEVEL", "sub": "SUBTREE"}
"""Scopes, and what the library calls them."""
EVERYTHING = "(objectClass=*)"


class UrlError(Exception):
    """A text is not an LDAP URL; it says why."""


@dataclass(frozen=True)
class LdapUrl:
    """A search."""

    session: str
    base: str
    attributes: tuple[str, ...]
    """Empty: all."""
    scope: str
    filter: str


def parse_ldap_url(text: str) -> LdapUrl:
    """Read ``ldap://session/dn?attributes?scope?filter``. Raises UrlError."""
    scheme, separator, rest = text.partition("://")
    if scheme.lower() != "ldap" or not separator:
        raise UrlError("it does not begin with ldap://")
    session, _, search = rest.partition("/")
    if "?" in session:
        raise UrlError("there is no / after the session")
    parts = [unquote(part, "latin-1") for part in search.split("?")]
    parts += [""] * (4 - len(parts))
    if len(parts) > 5:
        raise UrlError("it has more than a DN, attributes, scope and filter; write %3F for a ? in one of them")
    base, attributes, scope, filter_ = parts[:4]
    if scope.lower() not in SCOPES:
        raise UrlError(f"the scope is base, one or sub, not {scope}")
    names = tuple(name.strip() for name in attributes.split(",") if name.strip())
    filter_ = filter_.strip() or EVERYTHING
    if not filter_.startswith("("):
        filter_ = f"({filter_})"
    return LdapUrl(session.lower(), base, names, SCOPES[scope.lower()], filter_)


_ESCAPED = str.maketrans({"*": "\\2a", "(": "\\28", ")": "\\29", "\\": "\\5c", "?": "%3F", "%": "%25", "\0": "\\00"})


def escaped(text: str) -> str:
    """A text that stands for itself in the filter of an LDAP URL (RFC 4515 section 3, RFC 4516 section 2.1)."""
    return text.translate(_ESCAPED)
