"""Contacts in a database: read at the start, written as they change (working_mode_preset)."""

from __future__ import annotations

from ipc.prefixes import prefix
from ipc.store import Batch
from opensips_py import db
from opensips_py.modules.usrloc import declared, location, rows, tables, unwritten
from opensips_py.modules.usrloc.contact import Contact
from opensips_py.modules.usrloc.ordering import Contacts
from opensips_py.script.declarations import ConfigError
from opensips_py.server.guard import report_error
from opensips_py.server.log import ERROR, INFO, WARNING, log
from opensips_py.server.process import this

_LOADED = prefix(b"musrloc_loaded", "that contacts have been read from the database", __name__)
_PATIENCE = 60.0
"""Seconds that reading a table may take at the start."""
_AT_ONCE = 2000
"""Addresses that are put into the store in one batch."""
_SWEEP_SECONDS = 1.0
"""How often the timer process looks for what others have left."""


class _Writer:
    """Writes what changes."""

    def mark(self, batch: Batch, name: bytes, aor: str, before: list[Contact], after: list[Contact]) -> bool:
        return unwritten.mark(batch, name, aor, before, after)

    def write(self, name: bytes) -> None:
        unwritten.write(name)


_read: dict[str, list[db.Row]] = {}
"""Rows by table, from the start until they are in the store."""


@declared.module.on_config
def begin() -> None:
    """Check the tables and read them; the store does not exist yet."""
    _read.clear()
    mode = declared.mode()
    location.Kept.by = None
    if not mode:
        return
    unwritten.Writing.database = declared.database.open
    unwritten.Writing.with_domain = bool(declared.use_domain.value)
    unwritten.Writing.at_once = mode == 1
    for table in tables.names():
        declared.database.check_version(table, rows.VERSION)
        if declared.restart_persistency.value == "none":
            continue
        try:
            _read[table] = declared.database.open().read(db.select(rows.columns(), table), _PATIENCE).rows
        except (db.DatabaseError, db.StatementError) as error:
            raise ConfigError(f"usrloc: cannot read table {table}: {error}") from None
    location.Kept.by = _Writer()


def fill_store() -> None:
    """Put the rows into the store; the first process does it, and the others wait for it."""
    if _read:
        with this.store.lock(_LOADED):
            if this.store.get(_LOADED) is None:
                for table, found in _read.items():
                    _fill(table, found)
                this.store.put(_LOADED, b"1")
        _read.clear()


def _fill(table: str, found: list[db.Row]) -> None:
    users: dict[tuple[str, str], list[Contact]] = {}
    passed_over = 0
    for row in found:
        made = rows.contact_of(row, unwritten.Writing.with_domain)
        if made is None or made[1].contact_id(made[0]) != row[0] or not location.fits(table, made[0]):
            passed_over += 1
            continue
        users.setdefault((table, made[0]), []).append(made[1])
    all_users = list(users.items())
    for start in range(0, len(all_users), _AT_ONCE):
        location.fill({key: Contacts(contacts).in_order() for key, contacts in all_users[start : start + _AT_ONCE]})
    log(INFO, "usrloc", "preload_udomain", f"{len(found) - passed_over} contacts of table {table} have been read")
    if passed_over:
        log(
            WARNING,
            "usrloc",
            "preload_udomain",
            f"{passed_over} rows of table {table} are no contacts of this server: passed over",
        )


def sweep_now_and_then() -> None:
    """In the timer process: write what others have left, or, with write-back, what has changed."""
    if location.Kept.by is None:
        return
    seconds = _SWEEP_SECONDS if unwritten.Writing.at_once else float(declared.timer_interval.value)

    def tick() -> None:
        try:
            unwritten.Sweep(again_later)
        except Exception as error:  # the next turn may succeed
            report_error(error, "usrloc")
            again_later()

    def again_later() -> None:
        this.reactor.call_at(this.clock.now() + seconds, tick)

    again_later()


@declared.module.on_exit
def write_the_rest() -> None:
    """The timer process is the last one."""
    if this.kind == "timer" and location.Kept.by is not None:
        try:
            unwritten.write_all_now()
        except (db.DatabaseError, db.StatementError) as error:
            log(ERROR, "usrloc", "destroy", f"contacts are not written: {error}")
    location.Kept.by = None
