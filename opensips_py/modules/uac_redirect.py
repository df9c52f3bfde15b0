"""OpenSIPS module uac_redirect: following redirections (3xx replies, RFC 3261 8.1.3.4) in failure routes.

The Contacts of the 3xx replies become destinations of the request, for the script to relay to. Filters are regular expressions
over their URIs.
"""

from __future__ import annotations

from opensips_py.core.functions_branches import add_branch
from opensips_py.script.context import Branch, Context
from opensips_py.script.declarations import ConfigError, F, Module
from opensips_py.script.posix_regex import Regex, RegexError, compile_dynamic, compile_regex
from opensips_py.script.pseudo_variables_uri import q_value
from opensips_py.server.log import ERROR, log
from opensips_py.sip.message import ParseError, reread
from opensips_py.sip.nameaddr import parse_nameaddrs
from opensips_py.sip.uri import uri_or_none
from opensips_py.tm.transaction import look

module = Module("uac_redirect", doc="Following 3xx replies (OpenSIPS module uac_redirect)", depends=("tm",))

default_filter = module.param(
    "default_filter", str, "accept", doc="what happens to a contact that no filter matches: accept or deny"
)
deny_filter = module.param("deny_filter", str, "", doc="regular expression of URIs that are not followed")
accept_filter = module.param("accept_filter", str, "", doc="regular expression of URIs that are followed")

MAX_CONTACTS = 16
"""Contacts of one reply that are looked at, as in OpenSIPS."""
MAX_FILTERS = 6
_DEFAULT_Q = 10
"""``q`` of a contact that has none, in thousandths: it comes first."""
_KINDS = ("accept", "deny")
_RESETS = ("reset_all", "reset_default", "reset_added")

_default_filters: dict[str, Regex] = {}


@module.on_check
@module.on_config
def configure() -> None:
    """Check the parameters, compile the filters."""
    if default_filter.value not in _KINDS:
        raise ConfigError(f'uac_redirect: default_filter is "{default_filter.value}"; it must be "accept" or "deny"')
    _default_filters.clear()
    for kind, parameter in (("accept", accept_filter), ("deny", deny_filter)):
        if parameter.value:
            try:
                _default_filters[kind] = compile_regex(parameter.value, False)
            except RegexError as error:
                raise ConfigError(f"uac_redirect: {parameter.name}: {error.message}") from None


# --- filters --------------------------------------------------------------------------------------------------------


def _slot(kind: str) -> str:
    """Slot of a Context: whether the default filter of that kind holds, then the filters that the script has added."""
    return f"uac_redirect.{kind}"


def _filters(ctx: Context, kind: str) -> list[Regex]:
    added = ctx.slots.get(_slot(kind), [True])
    found = [compile_dynamic(text) for text in added[1:]]
    default = _default_filters.get(kind)
    return [default, *found] if default is not None and added[0] else found


def _set_filter(ctx: Context, kind: str, expression: str, flag: str | None) -> int:
    function = f"set_{kind}_filter"
    if flag and flag not in _RESETS:
        log(ERROR, "uac_redirect", function, f"{flag!r} is not one of {', '.join(_RESETS)}")
        return -1
    try:
        compile_dynamic(expression)
    except RegexError as error:
        log(ERROR, "uac_redirect", function, f"bad regular expression {expression!r}: {error.message}")
        return -1
    added = list(ctx.slots.get(_slot(kind), [True]))
    if flag in ("reset_all", "reset_default"):
        added[0] = False
    if flag in ("reset_all", "reset_added"):
        del added[1:]
    if len(added) > MAX_FILTERS:
        log(ERROR, "uac_redirect", function, f"no more than {MAX_FILTERS} filters can be added")
        return -1
    added.append(expression)
    ctx.slots[_slot(kind)] = added
    return 1


@module.function(routes=F)
def set_deny_filter(ctx: Context, expression: str, flag: str | None = None) -> int:
    """Do not follow URIs that match, for this request. ``flag``: reset_all, reset_default or reset_added filters first."""
    return _set_filter(ctx, "deny", expression, flag)


@module.function(routes=F)
def set_accept_filter(ctx: Context, expression: str, flag: str | None = None) -> int:
    """Follow URIs that match, for this request. ``flag`` as in set_deny_filter()."""
    return _set_filter(ctx, "accept", expression, flag)


def _followed(ctx: Context, uri: str) -> bool:
    """With ``default_filter`` accept, a deny filter may refuse a URI, and accept filters refuse what none of them matches; with
    deny, an accept filter may let it pass."""
    accepting = _filters(ctx, "accept")
    if default_filter.value == "deny":
        return not _matches(_filters(ctx, "deny"), uri) and _matches(accepting, uri)
    if accepting:
        return _matches(accepting, uri)
    return not _matches(_filters(ctx, "deny"), uri)


def _matches(filters: list[Regex], uri: str) -> bool:
    return any(pattern.test(uri) for pattern in filters)


# --- redirections ---------------------------------------------------------------------------------------------------


def _contacts(ctx: Context, reply: bytes) -> list[tuple[int, str]]:
    """(q, URI) of the Contacts of a reply that may be followed, the lowest q first, as OpenSIPS orders them."""
    found = []
    try:
        msg = reread(reply)
        addresses = [address for value in msg.values("contact") for address in parse_nameaddrs(value)]
    except ParseError as error:
        log(ERROR, "uac_redirect", "get_redirects", f"Contact of a reply cannot be read: {error.reason}")
        return []
    for address in addresses:
        if uri_or_none(address.uri) is None or not _followed(ctx, address.uri):
            continue
        text = address.params.get("q")
        q = _DEFAULT_Q if not text else q_value(text)
        if q is not None:
            found.append((q, address.uri))
    return sorted(found[:MAX_CONTACTS], key=lambda contact: contact[0])


@module.function(routes=F)
def get_redirects(ctx: Context, max_total: int | None = None, max_branch: int | None = None) -> int:
    """Make destinations of the Contacts of all 3xx replies: the first becomes the R-URI, the others branches.

    At most ``max_total`` in all and ``max_branch`` of each reply; 0 or nothing: any number. Returns 1 when there is one,
    else -1.
    """
    rec = None if ctx.tx is None else look(ctx.tx)
    if rec is None:
        log(ERROR, "uac_redirect", "get_redirects", "there is no transaction")
        return -1
    if min(max_total or 0, max_branch or 0) < 0:
        log(ERROR, "uac_redirect", "get_redirects", f"bad limits {max_total}, {max_branch}")
        return -1
    chosen: list[tuple[int, str]] = []
    for branch in rec.branches[rec.first :]:
        if branch.code // 100 != 3 or not branch.reply:
            continue
        contacts = _contacts(ctx, branch.reply)
        chosen += contacts[: max_branch or None]
    chosen = chosen[: max_total or None]
    if not chosen:
        return -1
    (q, ctx.new_uri), *others = chosen
    ctx.q, ctx.dst_uri = q, None
    for q, uri in others:
        if add_branch(ctx, Branch(uri, q=q)) < 0:
            break
    return 1
