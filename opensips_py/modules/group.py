"""Groups of users (OpenSIPS module group).

``db_is_user_in("From", "long-distance")`` asks table ``grp``, in one operation: plain, in ``async()``, ``launch()`` and
``await()``. ``db_get_user_group("From", $avp(group))`` compares a user's URI with regular expressions of table ``re_grp``, which
are read at the start. The forms for AAA servers are not there.
"""

from __future__ import annotations

from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.engine.operation import BUSY, Done
from opensips_py.modules.auth import credentials
from opensips_py.script.context import Context
from opensips_py.script.declarations import B, ConfigError, F, L, Module, R, Var
from opensips_py.script.posix_regex import Regex, RegexError, compile_regex
from opensips_py.server.log import ERROR, log
from opensips_py.sip.uri import loose_uri

module = Module("group", doc="Groups of users (OpenSIPS module group)")

database = db.DatabaseParameter.declared(module)
table = module.param("table", str, "grp", doc="table of users and their groups")
user_column = module.param("user_column", str, "username", doc="column of the user")
domain_column = module.param("domain_column", str, "domain", doc="column of its domain")
group_column = module.param("group_column", str, "grp", doc="column of the group")
use_domain = module.param("use_domain", int, 0, doc="1: the domain is part of who a user is")
re_table = module.param("re_table", str, "", doc="table of regular expressions and group numbers; empty: none")
re_exp_column = module.param("re_exp_column", str, "reg_exp", doc="column of the expression")
re_gid_column = module.param("re_gid_column", str, "group_id", doc="column of the number")
multiple_gid = module.param("multiple_gid", int, 1, doc="1: all groups whose expression matches; 0: the first one")
module.param("aaa_url", str, "", doc="AAA server", not_yet="an AAA module")

_TABLE_VERSION = 3
_RE_TABLE_VERSION = 2

# return codes
_NOBODY = -1
_DATABASE = -5
_NOT_IN = -6


class _Expressions:
    """``re_table``, the last row first, as OpenSIPS tries them."""

    found: list[tuple[Regex, int]] = []


@module.on_check
def configure() -> None:
    """Check the parameters."""
    if not database.url:
        raise ConfigError("group: there is no database: set db_url, or core parameter db_default_url")
    columns = (user_column, domain_column, group_column, re_exp_column, re_gid_column)
    for parameter in (table, *columns, *((re_table,) if re_table.value else ())):
        try:
            check_name(parameter.value)
        except db.StatementError as error:
            raise ConfigError(f"group: {parameter.name}: {error}", parameter.name) from None


@module.on_config
def load() -> None:
    """Check the tables, read the expressions."""
    configure()
    database.check_version(table.value, _TABLE_VERSION)
    _Expressions.found = []
    if not re_table.value:
        return
    database.check_version(re_table.value, _RE_TABLE_VERSION)
    try:
        rows = database.open().read(db.select([re_exp_column.value, re_gid_column.value], re_table.value)).rows
    except (db.DatabaseError, db.StatementError) as error:
        raise ConfigError(f"group: cannot read table {re_table.value}: {error}", "re_table") from None
    for expression, number in reversed(rows):
        try:
            _Expressions.found.append((compile_regex(str(expression)), int(number or 0)))
        except (RegexError, ValueError) as error:
            raise ConfigError(f"group: table {re_table.value}: [{expression}], [{number}]: {error}", "re_table") from None


class IsUserIn(db.Query):
    """``db_is_user_in()``."""

    name = "db_is_user_in"

    def answer(self, result: db.Result) -> Done:
        return Done(1) if result.rows else Done(_NOT_IN)

    def failed(self, done: Done) -> Done:
        return Done(_DATABASE) if done.rc in (-1, BUSY) else done

    def expire(self) -> Done:
        super().expire()
        return Done(_DATABASE)


@module.operation(routes=R | F | B | L)
def db_is_user_in(ctx: Context, user: str, group: str) -> IsUserIn | int:
    """Whether a user is in a group. ``user``: ``Request-URI``, ``To``, ``From``, ``Credentials`` (those that auth or auth_db has
    found right), or a URI.

    1 yes, -6 no, -1 there is no such user in the message, -5 the database does not answer.
    """
    who = _who(ctx, user)
    if who is None:
        return _NOBODY
    where = {user_column.value: who[0], group_column.value: group}
    if use_domain.value:
        where[domain_column.value] = who[1]
    return IsUserIn(database.open(), db.select([group_column.value], table.value, where, limit=1))


@module.function(routes=R | F | B | L)
def db_get_user_group(ctx: Context, user: str, groups: Var) -> int:
    """Put the numbers of the groups whose expression matches ``sip:user@domain`` into an AVP: how many, or -1 for none."""
    if not re_table.value:
        log(ERROR, "group", "db_get_user_group", "there are no expressions: set re_table")
        return -1
    who = _who(ctx, user)
    if who is None:
        return _NOBODY
    uri = f"sip:{who[0]}@{who[1]}"
    found = [number for expression, number in _Expressions.found if expression.test(uri)]
    for number in found if multiple_gid.value else found[:1]:
        groups.set(ctx, number)
    return (len(found) if multiple_gid.value else 1) if found else -1


def _who(ctx: Context, user: str) -> tuple[str, str] | None:
    """User and domain."""
    name = user.lower()
    if name == "credentials":
        header = credentials.authorized(ctx)
        given = None if header is None else credentials.credentials_of(ctx, header.kind)
        return None if given is None or not given.user else (given.user, given.domain or given.realm or "")
    address = {"from": ctx.msg.from_, "to": ctx.msg.to}.get(name) if name in ("from", "to") else None
    text = ctx.ruri if name == "request-uri" else address.uri if address is not None else user
    uri = loose_uri(text)
    return None if uri is None or not uri.user else (uri.user, uri.host or "")
