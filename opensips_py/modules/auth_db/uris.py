"""Whose a URI is: db_does_uri_exist(), db_is_to_authorized(), db_is_from_authorized(), db_get_auth_id().

A table of URIs (``uri``) says which users of URIs belong to an account: ``username``, ``domain`` (its realm), ``uri_user``.
"""

from __future__ import annotations

from opensips_py import db
from opensips_py.engine.operation import Done
from opensips_py.modules.auth import credentials
from opensips_py.modules.auth_db import declared
from opensips_py.modules.auth_db.declared import TableName, module
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import F, L, R, Var
from opensips_py.sip.nameaddr import NameAddr
from opensips_py.sip.uri import loose_uri

# return codes, as recorded
_BAD_URI = -1
_NO_CREDENTIALS = -2
_NO_ACCOUNT = -4
_NO_USER = -5
_DATABASE = -8
_NOT_HIS = -9


class _UriQuery(db.Query):
    """A question about a URI: 1 when there is a row."""

    nothing: int
    """Return code without a row."""

    def answer(self, result: db.Result) -> Done:
        return Done(1) if result.rows else Done(self.nothing)

    def failed(self, done: Done) -> Done:
        return Done(_DATABASE)  # also when too many wait for a connection: -4 would say that there is no account

    def expire(self) -> Done:
        super().expire()
        return Done(_DATABASE)


class DoesUriExist(_UriQuery):
    """``db_does_uri_exist()``."""

    name = "db_does_uri_exist"
    nothing = _NO_USER


class IsToAuthorized(_UriQuery):
    """``db_is_to_authorized()``."""

    name = "db_is_to_authorized"
    nothing = _NOT_HIS


class IsFromAuthorized(_UriQuery):
    """``db_is_from_authorized()``."""

    name = "db_is_from_authorized"
    nothing = _NOT_HIS


class GetAuthId(_UriQuery):
    """``db_get_auth_id()``. ``kept`` are the texts of the two variables."""

    name = "db_get_auth_id"
    nothing = _NO_ACCOUNT
    keeps = tuple[str, str]
    kept: tuple[str, str]

    def answer(self, result: db.Result) -> Done:
        if not result.rows:
            return Done(self.nothing)
        outputs: list[tuple[str, Value]] = []
        for target, cell in zip(self.kept, result.rows[0], strict=True):
            outputs.append((target, None if cell is None else str(cell)))
        return Done(1, outputs)


@module.operation(routes=R | F | L)
def db_does_uri_exist(ctx: Context, uri: str, table: TableName) -> DoesUriExist | int:
    """Whether ``table`` has the user of a URI, with ``use_domain`` in its domain.

    1 yes, -5 no, -1 it is not a URI, -8 the database does not answer.
    """
    asked = loose_uri(uri)
    if asked is None:
        return _BAD_URI
    where = {declared.user_column.value: asked.user or ""}
    if declared.use_domain.value:
        where[declared.domain_column.value] = asked.host or ""
    return DoesUriExist(declared.database.open(), db.select([declared.user_column.value], table, where, limit=1))


@module.operation(routes=R | F | L)
def db_get_auth_id(ctx: Context, table: TableName, uri: str, auth: Var, realm: Var) -> GetAuthId | int:
    """The account, user name and realm, that the user of a URI belongs to by a table of URIs.

    1 found, -4 not found, -1 it is not a URI, -8 the database does not answer.
    """
    asked = loose_uri(uri)
    if asked is None:
        return _BAD_URI
    where = {declared.uri_uriuser_column.value: asked.user or ""}
    if declared.use_domain.value:
        where[declared.uri_domain_column.value] = asked.host or ""
    columns = [declared.uri_user_column.value, declared.uri_domain_column.value]
    return GetAuthId(declared.database.open(), db.select(columns, table, where, limit=1), (auth.text, realm.text))


@module.operation(routes=R)
def db_is_to_authorized(ctx: Context, table: TableName) -> _UriQuery | int:
    """Whether the user of To belongs, by a table of URIs, to the account whose credentials were found right.

    1 yes, -9 no, -2 nobody was authorized, -1 To is not a URI, -8 the database does not answer.
    """
    return _owned(ctx, IsToAuthorized, ctx.msg.to, table)


@module.operation(routes=R)
def db_is_from_authorized(ctx: Context, table: TableName) -> _UriQuery | int:
    """The same for the user of From."""
    return _owned(ctx, IsFromAuthorized, ctx.msg.from_, table)


def _owned(ctx: Context, query: type[_UriQuery], address: NameAddr | None, table: str) -> _UriQuery | int:
    header = credentials.authorized(ctx)
    given = None if header is None else credentials.credentials_of(ctx, header.kind)
    if given is None:
        return _NO_CREDENTIALS
    uri = None if address is None else loose_uri(address.uri)
    if uri is None:
        return _BAD_URI
    where = {
        declared.uri_user_column.value: given.user or "",
        declared.uri_domain_column.value: given.domain or given.realm or "",
        declared.uri_uriuser_column.value: uri.user or "",
    }
    return query(declared.database.open(), db.select([declared.uri_user_column.value], table, where, limit=1))
