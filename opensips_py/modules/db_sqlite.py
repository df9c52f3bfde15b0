"""Databases that are files (OpenSIPS module db_sqlite): ``sqlite:///var/lib/opensips/opensips.db``.

No server is needed: accounts, contacts and call records fit into one file, which all processes share, other programs too.
It is asked on threads, one for reading and one for writing in each process, so that nothing waits for the file but what has
asked. The file must be there (``opensips-py-db create URL`` makes it) and its directory be writable. It is kept in WAL mode:
reading and writing never wait for each other, and what has been written is there after a crash of the server.
"""

from __future__ import annotations

from typing import Any

from opensips_py.clients import pools
from opensips_py.db import database as databases
from opensips_py.db.sqlite.database import SqliteDatabase
from opensips_py.db.sqlite.file import settings
from opensips_py.script.declarations import ConfigError, Module

module = Module("db_sqlite", doc="Databases that are files (OpenSIPS module db_sqlite)")

module.param("alloc_limit", int, 10, doc="rows allocated at once", no_effect="rows are kept one by one")
load_extension = module.param(
    "load_extension", str, list[str](), multiple=True, doc='library of SQLite functions, as "path" or "path;entry point"'
)
busy_timeout = module.param(
    "busy_timeout", int, 6, doc="seconds for which a locked file is waited for, and for a query without async() (ours)"
)
max_waiting_queries = module.param(
    "max_waiting_queries", int, 65536, doc="queries of one process that may wait; more are refused, $rc -4 (ours)"
)
max_result_size = module.param(
    "max_result_size",
    int,
    4096,
    doc="KB that the answer to a query may have, each value counting as its length and 128 bytes; more: $rc -1; 0: any (ours)",
)

databases.register("sqlite", SqliteDatabase)


@module.on_check
@module.on_config
def configure() -> None:
    """Read the parameters once."""
    if busy_timeout.value < 1:
        raise ConfigError(f"db_sqlite: busy_timeout is {busy_timeout.value}; it must be at least 1 second")
    for parameter in (max_waiting_queries, max_result_size):
        if parameter.value < 0:
            raise ConfigError(f"db_sqlite: {parameter.name} is {parameter.value}; it cannot be negative")
    pools.describers["sqlite"] = _describe
    settings.patience = float(busy_timeout.value)
    settings.waiting = max_waiting_queries.value
    settings.answer = max_result_size.value * 1024
    settings.extensions = []
    for text in load_extension.value:
        library, _, entry = (part.strip() for part in text.partition(";"))
        settings.extensions.append((library, entry))


def _describe() -> list[dict[str, Any]]:
    found = [one.describe() for one in databases.opened() if isinstance(one, SqliteDatabase)]
    return [row for row in found if row]


@module.on_exit
def leave() -> None:
    """Close the files, so that their logs are written back."""
    databases.close_all()
