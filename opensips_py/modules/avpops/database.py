"""Queries into AVPs, and AVPs of users in a table."""

from __future__ import annotations

from typing import Annotated

from opensips_py.db.places import database_and_values, fault
from opensips_py.db.preferences import name_fault, source_fault
from opensips_py.db.script_queries import AvpDbDelete, AvpDbLoad, AvpDbQuery, AvpDbStore
from opensips_py.db.statement import Raw, StatementError
from opensips_py.modules.avpops.declared import databases, module, preferences
from opensips_py.script.context import Context
from opensips_py.script.declarations import ALL, Given, VarList
from opensips_py.server.log import ERROR, log

SourceText = Annotated[str, "static", source_fault]
NameText = Annotated[str, "static", name_fault]


@module.operation(routes=ALL)
def avp_db_query(ctx: Context, query: str, output: VarList | None = None, *values: Given) -> AvpDbQuery | int:
    """Run an SQL query and put the columns of its rows into variables.

    ``values`` are ``[database,] value for each ?``, as in ``avp_db_query("SELECT a FROM t WHERE uid=?", "$avp(a)", $fU)``.
    A value is data whatever it contains; NULL is NULL. (OpenSIPS has no ``?``: its third parameter is the database's number.)
    """
    try:
        number, given = database_and_values(query, values)
        database = databases.get(number, "avp_db_query")
    except StatementError as error:
        return _refuse("avp_db_query", error)
    if database is None:
        return -1
    return AvpDbQuery(database, Raw(query, tuple(given)), [variable.text for variable in output] if output else None)


module.functions["avp_db_query"].given_fault = fault


@module.operation(routes=ALL)
def avp_db_load(
    ctx: Context, source: SourceText, name: NameText, db_id: int | None = None, prefix: str | None = None
) -> AvpDbLoad | int:
    """Load AVPs of a user. 1 when some were found, else -1.

    ``source`` is whose: a variable or a text, with ``/username``, ``/domain``, ``/uri`` or ``/uuid`` for what it is. ``name`` is
    which: an AVP or ``*``, with ``/table`` or ``/$scheme``. ``prefix`` goes before the names of the AVPs.
    """
    database = databases.get(db_id, "avp_db_load")
    if database is None:
        return -1
    try:
        query, targets = preferences.load(ctx, source, name, prefix or "")
    except StatementError as error:
        return _refuse("avp_db_load", error)
    return AvpDbLoad(database, query, targets)


@module.operation(routes=ALL)
def avp_db_store(ctx: Context, source: SourceText, name: NameText, db_id: int | None = None) -> AvpDbStore | int:
    """Store AVPs of a user. Those that the table has already are left out. 1, or -1 for an error or when there is no AVP."""
    database = databases.get(db_id, "avp_db_store")
    if database is None:
        return -1
    try:
        query = preferences.store(ctx, source, name)
    except StatementError as error:
        return _refuse("avp_db_store", error)
    return -1 if query is None else AvpDbStore(database, query)


@module.operation(routes=ALL)
def avp_db_delete(ctx: Context, source: SourceText, name: NameText, db_id: int | None = None) -> AvpDbDelete | int:
    """Delete AVPs of a user from the table. 1, also when there were none; -1 for an error."""
    database = databases.get(db_id, "avp_db_delete")
    if database is None:
        return -1
    try:
        query = preferences.delete(ctx, source, name)
    except StatementError as error:
        return _refuse("avp_db_delete", error)
    return AvpDbDelete(database, query)


def _refuse(function: str, error: StatementError) -> int:
    log(ERROR, "avpops", function, str(error))
    return -1
