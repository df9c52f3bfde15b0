"""SQL from the script (OpenSIPS module sqlops; since OpenSIPS 3.5, where it takes the place of the database functions of avpops).

``sql_query`` takes the text of a query: put ``?`` where a value from outside belongs, and give the values after it.
``sql_select`` and others take names and values, as JSON, and quote them. Functions that end in ``_one`` give the first row to
any variables, one for each column; the others give all rows to AVPs, as stacks with the first row on top.

Return codes: 1 done, or rows; -2 a query without rows; -1 error. All of them may be used in ``async()`` and ``launch()`` (in
OpenSIPS ``sql_query`` and ``sql_query_one`` alone).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from opensips_py.db.databases import Databases
from opensips_py.db.places import database_and_values, fault
from opensips_py.db.preferences import Preferences, name_fault, source_fault
from opensips_py.db.query import Query
from opensips_py.db.script_queries import (
    SqlAvpDelete,
    SqlAvpLoad,
    SqlAvpStore,
    SqlDelete,
    SqlInsert,
    SqlQuery,
    SqlQueryOne,
    SqlReplace,
    SqlSelect,
    SqlSelectOne,
    SqlUpdate,
)
from opensips_py.db.statement import Raw, Select, Statement, StatementError, delete, insert, replace, select, update
from opensips_py.modules.sqlops.json_arguments import columns_of, conditions_of, values_of
from opensips_py.script.context import Context, Value
from opensips_py.script.declarations import ALL, Given, Module, VarList
from opensips_py.server.log import ERROR, log

module = Module("sqlops", doc="SQL from the script (OpenSIPS module sqlops, since OpenSIPS 3.5)")

db_url = module.param(
    "db_url",
    str,
    list[str](),
    multiple=True,
    doc='database, as "URL" or, to have several, "NUMBER URL"; default: core parameter db_default_url',
)
databases = Databases("sqlops")
preferences = Preferences.declared(module, "usr_table")
module.param("ps_id_max_buf_len", int, 1024, doc="prepared statements", no_effect="statements are not prepared")
module.param(
    "bigint_to_str", int, 0, doc="large numbers as text", no_effect="a number that 32 bits cannot hold is always given as text"
)

SourceText = Annotated[str, "static", source_fault]
NameText = Annotated[str, "static", name_fault]


@module.on_check
def configure() -> None:
    """Check databases, tables and schemes."""
    databases.configure(db_url.value)
    preferences.configure()


def _run(
    kind: type[Query], db_id: int | None, build: Callable[[], Statement | None], targets: list[str] | None = None
) -> Query | int:
    """The operation for the statement that ``build`` makes, with its targets."""
    database = databases.get(db_id, kind.name)
    if database is None:
        return -1
    try:
        statement = build()
    except StatementError as error:
        log(ERROR, "sqlops", kind.name, str(error))
        return -1
    return -1 if statement is None else kind(database, statement, targets)


def _texts(variables: VarList | None) -> list[str] | None:
    return [variable.text for variable in variables] if variables else None


# --- queries as texts ---------------------------------------------------------------------------------------------------


@module.operation(routes=ALL)
def sql_query(ctx: Context, query: str, res_col_avps: VarList | None = None, *values: Given) -> Query | int:
    """Run a query; its columns go to AVPs, ``$avp(1)``, ``$avp(2)`` … when none are named. NULL becomes the text ``<null>``.

    ``values`` are ``[db_id,] value for each ?``, as in ``sql_query("SELECT a FROM t WHERE uid=?", "$avp(a)", $fU)``.
    A value is data whatever it contains; NULL is NULL. (OpenSIPS has no ``?``: there the third parameter is ``db_id``.)
    """
    return _run_with(SqlQuery, query, res_col_avps, values)


@module.operation(routes=ALL)
def sql_query_one(ctx: Context, query: str, res_col_vars: VarList | None = None, *values: Given) -> Query | int:
    """Run a query; the first row goes to as many variables as it has columns. NULL is NULL. For ``values`` see sql_query()."""
    return _run_with(SqlQueryOne, query, res_col_vars, values)


for _name in ("sql_query", "sql_query_one"):
    module.functions[_name].given_fault = fault


def _run_with(kind: type[Query], query: str, output: VarList | None, values: Sequence[Value]) -> Query | int:
    """The operation for a query with its values."""
    try:
        db_id, given = database_and_values(query, values)
    except StatementError as error:
        log(ERROR, "sqlops", kind.name, str(error))
        return -1
    return _run(kind, db_id, lambda: Raw(query, tuple(given)), _texts(output))


# --- queries by names and values ----------------------------------------------------------------------------------------


def _selection(columns: str | None, table: str, filter: str | None, order: str | None, limit: int | None = None) -> Select:
    wanted = columns_of(columns) if columns else []
    return select(wanted, table, conditions_of(filter) if filter else [], order=order, limit=limit)


@module.operation(routes=ALL)
def sql_select(
    ctx: Context,
    columns: str | None,
    table: str,
    filter: str | None = None,
    order: str | None = None,
    res_col_avps: VarList | None = None,
    db_id: int | None = None,
) -> Query | int:
    """SELECT into AVPs, as sql_query().

    ``columns`` is ``["a","b"]`` (default: all), ``filter`` ``[{"a":"text"},{"b":{">":1}},{"c":{"!=":null}}]``, ``order`` the
    column to sort by.
    """
    return _run(SqlSelect, db_id, lambda: _selection(columns, table, filter, order), _texts(res_col_avps))


@module.operation(routes=ALL)
def sql_select_one(
    ctx: Context,
    columns: str | None,
    table: str,
    filter: str | None = None,
    order: str | None = None,
    res_col_vars: VarList | None = None,
    db_id: int | None = None,
) -> Query | int:
    """SELECT of one row into any variables, as sql_query_one(); for the parameters see sql_select()."""
    return _run(SqlSelectOne, db_id, lambda: _selection(columns, table, filter, order, 1), _texts(res_col_vars))


@module.operation(routes=ALL)
def sql_update(ctx: Context, columns: str, table: str, filter: str | None = None, db_id: int | None = None) -> Query | int:
    """UPDATE: ``columns`` is ``[{"a":"text"},{"b":1},{"c":null}]``; for ``filter`` see sql_select()."""

    return _run(SqlUpdate, db_id, lambda: update(table, values_of(columns), conditions_of(filter) if filter else []))


@module.operation(routes=ALL)
def sql_insert(ctx: Context, table: str, columns: str, db_id: int | None = None) -> Query | int:
    """INSERT of a row: ``columns`` is ``[{"a":"text"},{"b":1},{"c":null}]``."""
    return _run(SqlInsert, db_id, lambda: insert(table, values_of(columns)))


@module.operation(routes=ALL)
def sql_replace(ctx: Context, table: str, columns: str, db_id: int | None = None) -> Query | int:
    """REPLACE of a row, as sql_insert()."""
    return _run(SqlReplace, db_id, lambda: replace(table, values_of(columns)))


@module.operation(routes=ALL)
def sql_delete(ctx: Context, table: str, filter: str | None = None, db_id: int | None = None) -> Query | int:
    """DELETE; without ``filter`` (see sql_select()) of all rows."""
    return _run(SqlDelete, db_id, lambda: delete(table, conditions_of(filter) if filter else []))


# --- AVPs of users ------------------------------------------------------------------------------------------------------


@module.operation(routes=ALL)
def sql_avp_load(
    ctx: Context, source: SourceText, name: NameText, db_id: int | None = None, prefix: str | None = None
) -> Query | int:
    """Load AVPs of a user. 1 when some were found, else -1.

    ``source`` is whose: a variable or a text, with ``/username``, ``/domain``, ``/uri`` or ``/uuid`` for what it is. ``name`` is
    which: an AVP or ``*``, with ``/table`` or ``/$scheme``. ``prefix`` goes before the names of the AVPs.
    """
    targets: list[str] = []

    def build() -> Select:
        statement, where = preferences.load(ctx, source, name, prefix or "")
        targets.extend(where)
        return statement

    return _run(SqlAvpLoad, db_id, build, targets)


@module.operation(routes=ALL)
def sql_avp_store(ctx: Context, source: SourceText, name: NameText, db_id: int | None = None) -> Query | int:
    """Store AVPs of a user. Those that the table has already are left out. 1, or -1 for an error or when there is no AVP."""
    return _run(SqlAvpStore, db_id, lambda: preferences.store(ctx, source, name))


@module.operation(routes=ALL)
def sql_avp_delete(ctx: Context, source: SourceText, name: NameText, db_id: int | None = None) -> Query | int:
    """Delete AVPs of a user from the table. 1, also when there were none; -1 for an error."""
    return _run(SqlAvpDelete, db_id, lambda: preferences.delete(ctx, source, name))
