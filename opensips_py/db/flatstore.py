"""Rows appended to text files: ``flatstore:/var/log/opensips``, a file for each table.

A row is one line, written in one go at the end of the file, so that processes that share a file do not mix their lines. The
file is opened for each row: one that has been moved away gets no further line.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Callable

from opensips_py.db.database import PATIENCE, Call, Database, DatabaseError, How, Result
from opensips_py.db.dialect import check_name
from opensips_py.db.immediate import ImmediateCall
from opensips_py.db.statement import Insert, SqlValue, Statement, StatementError, Time
from opensips_py.engine.dummy_request import report_context
from opensips_py.engine.lost_operation import close_all
from opensips_py.script.context import Context
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this

LATELY = 1 << 20
"""Bytes at the end of each file in which a row is looked for that may have been written."""


class Settings:
    """What the db_flatstore module's parameters say (process-wide)."""

    delimiter: str = "|"
    prefix: str | Callable[[Context], str] = ""
    suffix: str | Callable[[Context], str] = ".log"
    single_file: bool = False


settings = Settings()


def append(path: str, lines: bytes) -> None:
    """Write lines at the end of a file: all of them, or OSError and (unless another process writes too) none."""
    if not lines:
        return
    fd = os.open(path.encode("latin-1"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        before = os.fstat(fd).st_size
        written = os.write(fd, lines)
        if written < len(lines):
            if os.fstat(fd).st_size == before + written:
                os.ftruncate(fd, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)


class FlatDatabase(Database):
    """``flatstore:``. Rows can be added, and nothing else."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.directory = "/" + url.removeprefix("flatstore:").strip("/")
        if not url.removeprefix("flatstore:").startswith("/"):
            raise ValueError(f"[{url}] names no directory: flatstore:/var/log/opensips")

    @property
    def name(self) -> str:
        return f"flatstore:{self.directory}"

    def path(self, table: str) -> str:
        """The file of a table: ``acc_3.log`` of process 3, or ``acc.log`` of all."""
        check_name(table)
        process = "" if settings.single_file else f"_{this.slot}"
        return f"{self.directory}/{_affix(settings.prefix)}{table}{process}{_affix(settings.suffix)}"

    def call(self, statement: Statement, how: How) -> Call:
        return ImmediateCall("db_flatstore", self._append(statement))

    def _append(self, statement: Statement) -> Callable[[], Result]:
        if not isinstance(statement, Insert) or statement.existing not in ("error", "keep"):
            raise StatementError(f"{self.name}: rows can be added to a file, and nothing else")
        path, table, look = self.path(statement.table), statement.table, statement.existing == "keep"
        lines = [f"{settings.delimiter.join(map(_field, row))}\n".encode("latin-1") for row in statement.rows]

        def run() -> Result:
            try:
                written = self._lately_written(table) if look else ()
                append(path, b"".join(line for line in lines if line not in written))
            except OSError as error:
                raise DatabaseError(f"{path}: {error.strerror}") from None
            return Result([])

        return run

    def _lately_written(self, table: str) -> set[bytes]:
        """The last lines of a table, whichever process has written them. Raises OSError."""
        files = f"{glob.escape(self.directory)}/{glob.escape(_affix(settings.prefix) + table)}*"
        found: set[bytes] = set()
        for path in glob.glob(files.encode("latin-1")):
            with open(path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LATELY))
                found.update(file)
        return found

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        close_all(fds)
        return self.call(statement, how)

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        return self._append(statement)()

    def check_version(self, table: str, expected: int) -> None:
        """Files have no version, but there must be a place for them."""
        directory = self.directory.encode("latin-1")
        if not (os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)):
            raise ConfigError(f"{self.directory} is not a directory, or cannot be written to")


def _affix(text: str | Callable[[Context], str]) -> str:
    """What precedes or follows the name of a table, which may have variables in it: of the time, of the process."""
    return text if isinstance(text, str) else text(report_context()).replace("/", "_").replace("\0", "")


def _field(value: SqlValue) -> str:
    """A value; what would end the field or the line is written as an escape sequence."""
    if value is None:
        return ""
    if isinstance(value, Time):
        return str(value.seconds)
    if not isinstance(value, str):
        return str(value)
    for sign, escaped in (
        ("\\", "\\\\"),
        (settings.delimiter, f"\\{settings.delimiter}"),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\0", "\\0"),
    ):
        if sign in value:
            value = value.replace(sign, escaped)
    return value
