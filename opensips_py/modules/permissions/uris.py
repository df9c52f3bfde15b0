"""allow_routing(), allow_register(), allow_uri(): pairs of URIs against files of rules.

A pair is allowed when a rule of the file ``allow`` matches it, or none of the file ``deny`` does; a file that is missing has no
rules. URIs are compared as ``sip:user@host``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from opensips_py.modules.permissions import declared
from opensips_py.modules.permissions.declared import module
from opensips_py.modules.permissions.rules import RuleError, Rules, read
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, L, MIError, R, S, T, V
from opensips_py.server.log import ERROR, log
from opensips_py.sip.errors import ParseError
from opensips_py.sip.uri import loose_uri

_MOST = 200
"""Pairs of files that are kept."""


class _Pair(NamedTuple):
    """What is allowed, and what is not."""

    allow: Rules
    deny: Rules

    def allows(self, left: str, right: str) -> bool:
        return self.allow.match(left, right) or not self.deny.match(left, right)


_pairs: dict[str | None, _Pair] = {}


def _name_fault(name: str, registry: Any) -> str | None:
    """The files that the script names are read before it runs."""
    try:
        _files(name)
    except RuleError as error:
        return str(error)
    return None


BaseName = Annotated[str, "str", _name_fault]


@module.on_check
def load() -> None:
    """Read the default files; those that a script names follow when it is checked."""
    _pairs.clear()
    try:
        _files(None)
    except RuleError as error:
        raise ConfigError(f"permissions: {error}") from None


def _files(name: str | None) -> _Pair:
    found = _pairs.get(name)
    if found is None:
        if name is None:
            allow, deny = declared.default_allow_file.value, declared.default_deny_file.value
        else:
            allow, deny = (name + _suffix(one.value) for one in (declared.allow_suffix, declared.deny_suffix))
        found = _Pair(read(allow), read(deny))
        if len(_pairs) >= _MOST:
            _pairs.clear()
        _pairs[name] = found
    return found


def _suffix(text: str) -> str:
    """``allow`` and ``.allow`` are the same."""
    return text if text.startswith(".") else f".{text}"


def _judge(function: str, name: str | None, left: str | None, rights: Iterable[str | None]) -> int:
    """1 when all pairs are allowed."""
    try:
        rules = _files(name)
    except RuleError as error:
        log(ERROR, "permissions", function, str(error))
        return -1
    if left is None:
        return -1
    return 1 if all(right is not None and rules.allows(left, right) for right in rights) else -1


def _plain(text: str) -> str | None:
    """``sip:user@host`` of a URI; None when it is not a SIP URI."""
    uri = loose_uri(text)
    if uri is None:
        return None
    host = uri.host or ""
    return f"sip:{uri.user}@{host}" if uri.user else f"sip:{host}"


@module.function(routes=R | F | L)
def allow_routing(ctx: Context, name: BaseName | None = None) -> int:
    """Whether From may call the R-URI and, with ``check_all_branches``, further branches. 1, or -1."""
    address = ctx.msg.from_
    targets = [ctx.ruri, *(branch.uri for branch in ctx.branches if declared.check_all_branches.value)]
    return _judge("allow_routing", name, None if address is None else _plain(address.uri), map(_plain, targets))


@module.function(routes=R | F | L)
def allow_register(ctx: Context, name: BaseName) -> int:
    """Whether To may register all Contacts of the request; ``*`` and none are allowed. 1, or -1."""
    address = ctx.msg.to
    try:
        contacts = [contact.uri for contact in ctx.msg.contacts]
    except ParseError:
        return -1
    if not contacts or contacts == ["*"]:
        return 1
    return _judge("allow_register", name, None if address is None else _plain(address.uri), map(_plain, contacts))


@module.function(routes=R | F | B | L | S | T | V)
def allow_uri(ctx: Context, name: BaseName, uri: str) -> int:
    """Whether a URI, on the left side of the rules, may go with the R-URI. 1, or -1."""
    return _judge("allow_uri", name, _plain(uri), [_plain(ctx.ruri) or ""])


@module.mi("allow_uri", ("basename", "uri", "contact"))
def mi_allow_uri(basename: str, uri: str, contact: str) -> str:
    """Whether the rules of two files allow a pair of URIs."""
    if _judge("allow_uri", basename, _plain(uri), [_plain(contact)]) < 0:
        raise MIError(403, "Forbidden")
    return "OK"
