"""Databases behind one interface; docs/databases.md shows how a module uses them."""

from opensips_py.db.database import Cell, Database, DatabaseError, Result, Row, check, open, register
from opensips_py.db.parameter import DatabaseParameter
from opensips_py.db.query import Query, ask
from opensips_py.db.statement import (
    Condition,
    SqlValue,
    Statement,
    StatementError,
    Time,
    delete,
    insert,
    insert_new,
    insert_update,
    replace,
    select,
    update,
)

__all__ = [
    "Cell",
    "Condition",
    "Database",
    "DatabaseError",
    "DatabaseParameter",
    "Query",
    "Result",
    "Row",
    "SqlValue",
    "Statement",
    "StatementError",
    "Time",
    "ask",
    "check",
    "delete",
    "insert",
    "insert_new",
    "insert_update",
    "open",
    "register",
    "replace",
    "select",
    "update",
]
