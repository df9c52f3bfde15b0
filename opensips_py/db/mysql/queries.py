"""Queries whose answers mean something else than those of ``avp_db_query()``: what modules sqlops and avpops do beside it.

``targets`` is, as there, a list of texts that says where the result goes; each class tells what it holds.
"""

from __future__ import annotations

from opensips_py.db.mysql.query import AvpDbQuery
from opensips_py.db.mysql.result import Cell, ResultReader
from opensips_py.engine.operation import Done
from opensips_py.script.context import Value
from opensips_py.server.log import ERROR, log

_UNUSABLE = frozenset("()$\0")

# what the column "type" of a table of AVPs says (OpenSIPS)
VALUE_IS_NUMBER = 1
NAME_IS_NUMBER = 2


class SqlQuery(AvpDbQuery):
    """Rows as stacks of AVPs, the first row on top. 1 rows, -2 none."""

    name = "sql_query"


class SqlQueryOne(AvpDbQuery):
    """The first row into any variables, as many as columns; NULL stays NULL. 1 a row, -2 none."""

    name = "sql_query_one"

    def _done(self, reader: ResultReader) -> Done:
        if not reader.rows:
            return Done(-2)
        row = reader.rows[0]
        targets = self._targets or [f"$avp({n + 1})" for n in range(len(row))]
        if len(targets) != len(row):
            log(ERROR, "sqlops", self.name, f"{len(row)} columns for {len(targets)} variables in [{self._shown}]")
            return Done(-1)
        return Done(1, list(zip(targets, row, strict=True)))

    @property
    def _shown(self) -> str:
        return self._query[:200].decode("latin-1")


class SqlSelect(SqlQuery):
    """``sql_select()``."""

    name = "sql_select"


class SqlSelectOne(SqlQueryOne):
    """``sql_select_one()``."""

    name = "sql_select_one"


class _Change(AvpDbQuery):
    """A statement that changes rows: 1 when the database has accepted it."""

    def _done(self, reader: ResultReader) -> Done:
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


class SqlAvpLoad(AvpDbQuery):
    """Rows of a table of AVPs. 1 when AVPs were loaded, else -1.

    ``targets`` are the prefix of the names, the name (empty: the second column has it) and, of a scheme, the type of values,
    ``string`` or ``integer`` (empty: the third column tells).
    """

    name = "sql_avp_load"

    def _done(self, reader: ResultReader) -> Done:
        outputs: list[tuple[str, Value]] = []
        for row in reader.rows:
            found = self._loaded(row)
            if found is not None:
                outputs.append(found)
        return Done(1 if outputs else -1, outputs)

    def _loaded(self, row: list[Cell]) -> tuple[str, Value] | None:
        prefix, name, kind = self._targets or ("", "", "")
        if None in row:
            log(ERROR, "avpops", self.name, "a row with NULL is left out")
            return None
        if not name:
            # a prefix is for the names that come from the table, as in OpenSIPS
            name = f"{prefix}{row[1]}"
            if not name or not _UNUSABLE.isdisjoint(name):
                log(ERROR, "avpops", self.name, f"[{name}] is no name of an AVP")
                return None
        value: Cell = row[0]
        number = kind == "integer" if kind else isinstance(row[2], int) and bool(row[2] & VALUE_IS_NUMBER)
        if number:
            try:
                value = int(str(value))
            except ValueError:
                log(ERROR, "avpops", self.name, f"the value of {name} is not a number: [{value}]")
                return None
        else:
            value = str(value)
        return f"$avp({name})", value


class AvpDbLoad(SqlAvpLoad):
    """``avp_db_load()``."""

    name = "avp_db_load"


class AvpDbStore(_Change):
    """``avp_db_store()``."""

    name = "avp_db_store"


class AvpDbDelete(_Change):
    """``avp_db_delete()``."""

    name = "avp_db_delete"
