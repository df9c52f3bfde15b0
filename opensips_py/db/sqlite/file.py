"""Connections to the file of a SQLite database.

Whoever opens it makes it keep a write-ahead log: then reading never waits for writing, nor writing for reading, and what has been
committed is there after a kill. (After a power failure the last transactions may be missing, none is half done.)
"""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime
from urllib.parse import quote

from opensips_py.db.database import Cell, Result, Row
from opensips_py.engine.holding import VALUE
from opensips_py.server.process import this

PAUSES = (0.001, 0.05)
"""First and longest pause, in seconds, before a file that is locked is tried again."""
_ROWS = 256
"""Rows read in one go."""
_UNUSABLE = frozenset(
    (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
)
_BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))


class Settings:
    """What the db_sqlite module's parameters say (process-wide)."""

    patience: float = 6.0
    """Seconds that a locked file is waited for, and that a plain query may take."""
    answer: int = 4096 * 1024
    """Bytes that an answer may have; 0: any."""
    waiting: int = 65536
    """Queries of one process that may wait."""
    extensions: list[tuple[str, str]] = []
    """Libraries that are loaded into each connection, with their entry points."""


settings = Settings()


class AnswerTooLarge(sqlite3.Error):
    """The answer to a query is larger than allowed."""


def parse(url: str) -> str:
    """The path in ``sqlite:///path/to/file``. ValueError says what is wrong with it."""
    path = url.removeprefix("sqlite:")
    if path.startswith("//"):
        path = path[2:]
    if not path.startswith("/"):
        raise ValueError(f"[{url}] names no file: the path must be absolute, as in sqlite:///var/lib/opensips/opensips.db")
    if path.endswith("/") or "\0" in path:
        raise ValueError(f"[{url}] names no file")
    return "/" + path.lstrip("/")


def connect(path: str, *, reading: bool = False) -> sqlite3.Connection:
    """Open the file. Raises sqlite3.Error. The connection never waits for a lock by itself."""
    raw = path.encode("latin-1")
    mode = "rw" if os.access(raw, os.W_OK) else "ro"
    connection = sqlite3.connect(
        f"file:{quote(raw)}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        detect_types=sqlite3.PARSE_DECLTYPES,
    )
    connection.text_factory = _text
    try:
        for library, entry in settings.extensions:
            connection.enable_load_extension(True)
            connection.execute(
                "SELECT load_extension(?, ?)" if entry else "SELECT load_extension(?)", [library, *filter(None, [entry])]
            )
        connection.enable_load_extension(False)
        connection.execute("PRAGMA synchronous=NORMAL")
        if mode != "ro":
            _keep_log(connection)
        if reading:
            connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _keep_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. A file that another process holds stays as it is, until it is opened the next time."""
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock that is needed."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY


def cannot_be_used(error: sqlite3.Error) -> bool:
    """Whether something is wrong with the file, and not with the statement."""
    return is_busy(error) or (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _UNUSABLE


def pauses(until: float) -> float:
    """A pause that fits before ``until`` (this.clock.now()); negative: there is no time left."""
    return min(PAUSES[1], until - this.clock.now())


def rows_of(cursor: sqlite3.Cursor, typed: bool, most: int) -> Result:
    """What a statement has given, at most ``most`` bytes of it (0: any). ``typed`` as for ``Database.call``."""
    rows: list[Row] = []
    held = 0
    try:
        while portion := cursor.fetchmany(_ROWS):
            for found in portion:
                row = [_cell(value, typed) for value in found]
                held += VALUE * (len(row) + 1) + sum(len(cell) for cell in row if isinstance(cell, str))
                rows.append(row)
            if 0 < most < held:
                raise AnswerTooLarge(f"the answer is larger than {most} bytes (max_result_size of db_sqlite)")
        return Result(rows, len(cursor.description or ()))
    finally:
        cursor.close()


def _cell(value: object, typed: bool) -> Cell:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if typed or -0x80000000 <= value <= 0x7FFFFFFF else str(value)
    if isinstance(value, float):
        return value if typed else repr(value)
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _time(data: bytes) -> int | str:
    """A point in time as seconds since 1970; text that is not a date stays text."""
    text = data.decode("latin-1")
    if text.isdecimal():
        return int(text)
    try:
        return int(datetime.fromisoformat(text[:19]).timestamp())
    except (ValueError, OverflowError):
        return text


sqlite3.register_converter("DATETIME", _time)
sqlite3.register_converter("TIMESTAMP", _time)
sqlite3.register_converter("DATE", _text)
