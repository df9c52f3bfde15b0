"""Searches in LDAP directories (OpenSIPS module ldap).

``config_file`` is an INI file with a section for each *session*, a service on one or more servers::

    [accounts]
    ldap_server_url = "ldap://ldap1.example.com, ldap://ldap2.example.com:7777"
    ldap_bind_dn = "cn=sip,dc=example,dc=com"
    ldap_bind_password = "secret"
    ldap_network_timeout = 500          ; milliseconds, default 1000
    ldap_client_bind_timeout = 500      ; milliseconds, default 1000
    ldap_client_search_timeout = 2000   ; milliseconds, default 5000 (not in the manual of 3.1)

``ldap_search("ldap://accounts/ou=sip,dc=example,dc=com?telephoneNumber?one?(cn=$avp(name))")`` searches; what comes from the
message is escaped before, with ``ldap_filter_url_encode("$rU", $avp(name))``. ``ldap_result()`` and others look at what has been
found. In OpenSIPS that is the last search of the process; here it is that of the message, kept with it over
``async()`` and whatever else the script waits for, in whichever process it goes on.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from opensips_py.clients.pools import PoolStatistics
from opensips_py.clients.service import pool as services
from opensips_py.clients.service.description import Login, Service
from opensips_py.clients.service.operation import Answer, ServiceOperation
from opensips_py.engine.operation import Done, DoneKeeping
from opensips_py.modules.ldap.protocol import UNBIND, Entry, LdapLogin, SearchAnswer, search
from opensips_py.modules.ldap.sessions import Session, SessionError, read_sessions
from opensips_py.modules.ldap.url import UrlError, escaped, parse_ldap_url
from opensips_py.script import variables
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, ConfigError, Module, Var
from opensips_py.script.posix_regex import RegexError
from opensips_py.script.substitution import Substitution, SubstitutionError, SubstitutionText, parse_substitution
from opensips_py.server.log import ERROR, log
from opensips_py.sip.remembered import remembered

module = Module("ldap", doc="Searches in LDAP directories (OpenSIPS module ldap)")

config_file = module.param("config_file", str, "/usr/local/etc/opensips/ldap.cfg", doc="the INI file with the sessions, as above")
max_async_connections = module.param(
    "max_async_connections", int, 20, doc="connections of one process to the servers of a session; more searches wait"
)
max_answer_size = module.param(
    "max_answer_size",
    int,
    4096,
    doc="KB that the answer to a search may have, each value counting as its length and 128 bytes; more: $rc -2; 0: any",
)
statistics = PoolStatistics("ldap")
statistics.declare(module)

FOUND = "ldap"
"""Where the entries of the last search are in the context, and which of them is looked at."""
NOTHING, INTERNAL = -1, -2
LDAP_READ_SIZE = 8192
"""Bytes worked on in one turn: the library's decoder takes 20 us for each small message."""


@module.on_check
def configure() -> None:
    """Read the sessions."""
    if max_async_connections.value < 1:
        text = f"ldap: max_async_connections is {max_async_connections.value}; it must be at least 1"
        raise ConfigError(text, "max_async_connections")
    if max_answer_size.value < 0:
        raise ConfigError(f"ldap: max_answer_size is {max_answer_size.value}; it cannot be negative", "max_answer_size")
    try:
        for session in read_sessions(config_file.value):
            services.offer(_service(session), statistics)
    except SessionError as error:
        raise ConfigError(f"ldap: config_file: {error}", "config_file") from None


def _service(session: Session) -> Service:
    def login() -> Login:
        return LdapLogin(session.version, session.bind_dn, session.bind_password)

    return Service(
        key=f"ldap:{session.name}",
        title=f"LDAP session {session.name}",
        module="ldap",
        servers=session.servers,
        login=login,
        farewell=UNBIND,
        connect_seconds=session.connect_seconds,
        answer_seconds=session.search_seconds,
        connections=max_async_connections.value,
        answer_bytes=max_answer_size.value * 1024,
        read_size=LDAP_READ_SIZE,
    )


@module.on_exit
def leave() -> None:
    """Close idle connections."""
    services.close_all("ldap")


# --- searching ----------------------------------------------------------------------------------------------------------


class LdapSearch(ServiceOperation):
    """One search: the number of entries, -1 none, -2 error."""

    name = "ldap_search"
    failure = INTERNAL
    repeatable = True

    def new_answer(self) -> Answer:
        return SearchAnswer(self.holding)

    def result(self, answer: Answer) -> Done:
        found = cast(SearchAnswer, answer)
        found.check()
        return DoneKeeping.of(len(found.entries) or NOTHING, {FOUND: {"entries": found.entries, "at": 0}})


@module.operation(routes=ALL)
def ldap_search(ctx: Context, ldap_url: str) -> LdapSearch | int:
    """Search a directory: ``ldap://session/dn?attributes?scope?filter``. The number of entries, -1 none, -2 error.

    What comes from outside must be escaped, with ldap_filter_url_encode().
    """
    ctx.slots.pop(FOUND, None)
    try:
        url = parse_ldap_url(ldap_url)
        request = search(url)
    except UrlError as error:
        log(ERROR, "ldap", "ldap_search", f"{ldap_url[:200]}: {error}")
        return INTERNAL
    try:
        service = services.pool(f"ldap:{url.session}")
    except KeyError:
        log(ERROR, "ldap", "ldap_search", f"{ldap_url[:200]}: {config_file.value} has no session [{url.session}]")
        return INTERNAL
    return LdapSearch(service, request, [])


# --- looking at what was found ------------------------------------------------------------------------------------------

_RESULT = re.compile(r"(?P<attribute>[^/]+)/(?P<avp>\$avp\([^()]+\))(?:/(?P<kind>str|int))?")


def _result_fault(text: str, registry: Any) -> str | None:
    return None if _RESULT.fullmatch(text.strip()) else f'[{text}] is not of the form "attribute/$avp(name)[/str|int]"'


@module.function(routes=ALL)
def ldap_result(
    ctx: Context, attribute: Annotated[str, "static", _result_fault], regex_subst: SubstitutionText | None = None
) -> int:
    """Put the values of an attribute of the entry into an AVP: ``attribute/$avp(name)[/int]``, the last one on top.

    ``regex_subst`` (``/expression/replacement/flags``) changes them; those that it does not match are left out, as are with
    ``int`` those that are not numbers. How many there are; -1: none, -2: error, or no search has found anything.
    """
    parts = _RESULT.fullmatch(attribute.strip())
    entry = _entry(ctx)
    if parts is None or entry is None:
        return INTERNAL
    try:
        values = _values(ctx, entry, parts["attribute"], regex_subst)
    except (SubstitutionError, RegexError) as error:
        return _refuse("ldap_result", error)
    target = variables.by_text(parts["avp"])
    stored = 0
    for value in values:
        if parts["kind"] == "int":
            if re.fullmatch(r"[+-]?[0-9]+", value) is None:
                continue
            target.set(ctx, int(value))
        else:
            target.set(ctx, value)
        stored += 1
    return stored or NOTHING


@module.function(routes=ALL)
def ldap_result_check(ctx: Context, attribute: str, regex_subst: SubstitutionText | None = None) -> int:
    """Whether one value of an attribute of the entry is the text after the slash, ``attribute/text``. 1, -1, -2: error.

    With ``regex_subst`` the changed values are compared.
    """
    name, slash, wanted = attribute.partition("/")
    entry = _entry(ctx)
    if not slash or entry is None:
        if not slash:
            log(ERROR, "ldap", "ldap_result_check", f'[{attribute}] is not of the form "attribute/text"')
        return INTERNAL
    try:
        return 1 if wanted in _values(ctx, entry, name, regex_subst) else NOTHING
    except (SubstitutionError, RegexError) as error:
        return _refuse("ldap_result_check", error)


@module.function(routes=ALL)
def ldap_result_next(ctx: Context) -> int:
    """Go to the next entry. 1: there is one, -1: there is none, -2: no search has found anything."""
    found = ctx.slots.get(FOUND)
    if found is None:
        return INTERNAL
    if found["at"] + 1 >= len(found["entries"]):
        return NOTHING
    # a new value, not a change of the old one: copies of the context may share it
    ctx.slots[FOUND] = {"entries": found["entries"], "at": found["at"] + 1}
    return 1


@module.function(routes=ALL)
def ldap_filter_url_encode(ctx: Context, string: str, result: Var) -> int:
    """Escape a text for the filter of an LDAP URL (RFC 4515, RFC 4516). 1."""
    result.set(ctx, escaped(string))
    return 1


def _entry(ctx: Context) -> Entry | None:
    found = ctx.slots.get(FOUND)
    if found is None or not found["entries"]:
        return None
    dn, attributes = found["entries"][found["at"]]
    return dn, attributes


def _values(ctx: Context, entry: Entry, attribute: str, subst: str | None) -> list[str]:
    values = entry[1].get(attribute.strip().lower(), [])
    if subst is None:
        return values
    expression = _substitution(subst)
    changed = (expression.apply(ctx, value) for value in values if expression.pattern.test(value))
    return [value for value in changed if value is not None]


@remembered
def _substitution(text: str) -> Substitution:
    return parse_substitution(text, variables.current())


def _refuse(function: str, error: Exception) -> int:
    log(ERROR, "ldap", function, str(error))
    return INTERNAL
