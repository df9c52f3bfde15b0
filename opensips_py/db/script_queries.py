"""The questions of modules avpops and sqlops, whose answers go to variables of the script.

``kept`` is a list of texts that says where the answer goes; each class tells what it holds. Return codes: 1 rows, or done, -2 no
rows (also for INSERT and the like, where the script has written the statement), -1 error.
"""

from __future__ import annotations

from opensips_py.db.database import Cell, Result, Row
from opensips_py.db.query import Query
from opensips_py.db.statement import Raw, Statement
from opensips_py.engine.operation import Done
from opensips_py.script.context import Value
from opensips_py.server.log import ERROR, log

NULL = "<null>"
"""What a variable gets for NULL of the database: it occupies its place in every row."""
_UNUSABLE = frozenset("()$\0")

# what the column "type" of a table of AVPs says (OpenSIPS)
VALUE_IS_NUMBER = 1
NAME_IS_NUMBER = 2


class _ScriptQuery(Query):
    """A question of a script, which has texts and numbers of 32 bits."""

    keeps = list[str] | None
    typed = False
    kept: list[str] | None


class AvpDbQuery(_ScriptQuery):
    """Rows as stacks of AVPs, the first row on top. ``kept`` are the source texts of the variables for the columns."""

    name = "avp_db_query"

    def answer(self, result: Result) -> Done | Statement:
        if not result.rows:
            return Done(-2)
        targets = self.kept or [f"$avp({n + 1})" for n in range(result.columns)]
        outputs: list[tuple[str, Value]] = []
        for row in reversed(result.rows):  # the first row ends on top
            for target, cell in zip(targets, row, strict=False):
                outputs.append((target, NULL if cell is None else value(cell)))
        return Done(1, outputs)


def value(cell: Cell) -> Value:
    """As scripts have it."""
    return repr(cell) if isinstance(cell, float) else cell


class SqlQuery(AvpDbQuery):
    """Rows as stacks of AVPs, the first row on top. 1 rows, -2 none."""

    name = "sql_query"


class SqlQueryOne(AvpDbQuery):
    """The first row into any variables, as many as columns; NULL stays NULL. 1 a row, -2 none."""

    name = "sql_query_one"

    def answer(self, result: Result) -> Done | Statement:
        if not result.rows:
            return Done(-2)
        row = result.rows[0]
        targets = self.kept or [f"$avp({n + 1})" for n in range(len(row))]
        if len(targets) != len(row):
            shown = self.statement.text if isinstance(self.statement, Raw) else str(self.statement)
            log(ERROR, "sqlops", self.name, f"{len(row)} columns for {len(targets)} variables in [{shown[:200]}]")
            return Done(-1)
        return Done(1, [(target, value(cell)) for target, cell in zip(targets, row, strict=True)])


class SqlSelect(SqlQuery):
    """``sql_select()``."""

    name = "sql_select"


class SqlSelectOne(SqlQueryOne):
    """``sql_select_one()``."""

    name = "sql_select_one"


class _Change(_ScriptQuery):
    """A statement that changes rows: 1 when the database has accepted it."""

    def answer(self, result: Result) -> Done | Statement:
        return Done(1)


class SqlInsert(_Change):
    """``sql_insert()``."""

    name = "sql_insert"


class SqlReplace(_Change):
    """``sql_replace()``."""

    name = "sql_replace"


class SqlUpdate(_Change):
    """``sql_update()``."""

    name = "sql_update"


class SqlDelete(_Change):
    """``sql_delete()``."""

    name = "sql_delete"


class SqlAvpStore(_Change):
    """``sql_avp_store()``."""

    name = "sql_avp_store"


class SqlAvpDelete(_Change):
    """``sql_avp_delete()``."""

    name = "sql_avp_delete"


class SqlAvpLoad(_ScriptQuery):
    """Rows of a table of AVPs. 1 when AVPs were loaded, else -1.

    ``kept`` are the prefix of the names, the name (empty: the second column has it) and, of a scheme, the type of values,
    ``string`` or ``integer`` (empty: the third column tells).
    """

    name = "sql_avp_load"

    def answer(self, result: Result) -> Done | Statement:
        outputs: list[tuple[str, Value]] = []
        for row in result.rows:
            found = self._loaded(row)
            if found is not None:
                outputs.append(found)
        return Done(1 if outputs else -1, outputs)

    def _loaded(self, row: Row) -> tuple[str, Value] | None:
        prefix, name, kind = self.kept or ("", "", "")
        if None in row:
            log(ERROR, "avpops", self.name, "a row with NULL is left out")
            return None
        if not name:
            # a prefix is for the names that come from the table, as in OpenSIPS
            name = f"{prefix}{row[1]}"
            if not name or not _UNUSABLE.isdisjoint(name):
                log(ERROR, "avpops", self.name, f"[{name}] is not a name of an AVP")
                return None
        number = kind == "integer" if kind else isinstance(row[2], int) and bool(row[2] & VALUE_IS_NUMBER)
        text = str(value(row[0]))
        if not number:
            return f"$avp({name})", text
        try:
            return f"$avp({name})", int(text)
        except ValueError:
            log(ERROR, "avpops", self.name, f"the value of {name} is not a number: [{text}]")
            return None


class AvpDbLoad(SqlAvpLoad):
    """``avp_db_load()``."""

    name = "avp_db_load"


class AvpDbStore(_Change):
    """``avp_db_store()``."""

    name = "avp_db_store"


class AvpDbDelete(_Change):
    """``avp_db_delete()``."""

    name = "avp_db_delete"
