"""Tables in text files (OpenSIPS module db_text): ``text:///etc/opensips/dbtext``, a file for each table.

The first line names the columns, ``id(int,auto) grp(int) ip(string) note(string,null)``, each further line is a row with colons
between its fields. The files are only read here: what writes needs another kind of database. A file is read again when it has
changed; one that cannot be read then is reported, and the table stays as it was.
"""

from __future__ import annotations

from opensips_py.db import database as databases
from opensips_py.db.database import DatabaseError
from opensips_py.db.text.database import TextDatabase
from opensips_py.script.declarations import MIError, Module

module = Module("db_text", doc="Tables in text files, which are read (OpenSIPS module db_text)")

module.param("db_mode", int, 0, doc="0: tables are kept in memory", no_effect="a file is read again when it has changed")

databases.register("text", TextDatabase)


def _opened() -> list[TextDatabase]:
    return [one for one in databases.opened() if isinstance(one, TextDatabase)]


@module.mi("dbt_reload", (), ("db_name",), ("db_name", "table_name"))
def dbt_reload(db_name: str | None = None, table_name: str | None = None) -> str:
    """Whether the files (of a directory, of a table) can be read. Each process reads one that has changed by itself."""
    chosen = [one for one in _opened() if db_name is None or one.directory == "/" + db_name.strip("/")]
    if db_name is not None and not chosen:
        raise MIError(404, "Database not found")
    try:
        for one in chosen:
            if table_name is None:
                one.reload()
            else:
                one.table(table_name)
    except DatabaseError as error:
        raise MIError(500, "Failed to reload", str(error)) from None
    return "OK"


@module.mi("dbt_dump")
def dbt_dump() -> str:
    """Write changed tables to their files: there are none, for tables are only read here."""
    return "OK"
