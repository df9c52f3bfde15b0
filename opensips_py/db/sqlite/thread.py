"""What runs statements: a thread of each process for reading a file, and one for writing it."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from typing import NamedTuple

from opensips_py.db.database import Result
from opensips_py.db.sqlite.file import PAUSES, connect, is_busy, pauses, rows_of
from opensips_py.db.sqlite.ledger import Ledger
from opensips_py.engine.thread_job import Threads

_LEAD = r"\s*(?:(?:--[^\n]*(?:\n|\Z)|/\*.*?\*/)\s*)*"
"""White space and comments."""
_CHANGE = re.compile(_LEAD + r"(?:insert|replace|update|delete|with|create|drop|alter)\b", re.IGNORECASE | re.DOTALL)
_READ = re.compile(
    _LEAD + r"(?:select|values|explain|with(?!.*\b(?:insert|replace|update|delete)\b))\b", re.IGNORECASE | re.DOTALL
)


class Task(NamedTuple):
    """A statement to be run."""

    text: str
    typed: bool
    most: int
    """Bytes that the answer may have; 0: any."""
    token: bytes
    """Of a change that may be handed over; empty: of another one."""
    again: bool
    """Another process may have made the change already."""


def only_reads(text: str) -> bool:
    """Whether a statement changes nothing."""
    return _READ.match(text) is not None


def is_change(text: str) -> bool:
    """Whether a statement changes rows or tables, in a transaction."""
    return _CHANGE.match(text) is not None


class FileThread:
    """One thread with one connection, for reading or for writing."""

    def __init__(self, path: str, reading: bool) -> None:
        self._path = path
        self._reading = reading
        self.threads = Threads(1, name=f"sqlite {'reader' if reading else 'writer'}")
        self._connection: sqlite3.Connection | None = None
        self._ledger: Ledger | None = None
        self._file: tuple[int, int] = (0, 0)
        self._process = 0
        self._lock = threading.Lock()
        self._running: Abandonable | None = None
        self.opened = self.failed = self.refused = 0
        """Connections, and statements that found the queue full, since the start of this process."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    # --- on the process' own thread ---------------------------------------------------------------------------------

    def stop(self, job: Abandonable) -> None:
        """Nobody waits for ``job`` any more."""
        job.abandoned = True
        with self._lock:
            if self._running is job and self._connection is not None:
                self._connection.interrupt()

    def close(self) -> None:
        """Close the connection, if it is not in use."""
        if self._process == os.getpid() and not self.threads.busy:
            self._disconnect()

    # --- on the thread ----------------------------------------------------------------------------------------------

    def run(self, job: Abandonable, task: Task) -> Result:
        """Run a statement, and wait for locks. Raises sqlite3.Error, or ValueError for what SQLite cannot be asked."""
        pause = PAUSES[0]
        while True:
            try:
                return self._run(job, task)
            except sqlite3.OperationalError as error:
                left = pauses(job.until)
                if not is_busy(error) or left <= 0 or job.abandoned:
                    raise
            time.sleep(min(pause, left))
            pause *= 2

    def _run(self, job: Abandonable, task: Task) -> Result:
        connection = self._connected()
        with self._lock:
            self._running = job
        try:
            if job.abandoned:
                raise sqlite3.OperationalError("interrupted")
            if self._reading or not is_change(task.text):
                return rows_of(connection.execute(task.text), task.typed, task.most)
            return self._change(connection, task)
        finally:
            with self._lock:
                self._running = None
            if connection.in_transaction:
                connection.rollback()

    def _change(self, connection: sqlite3.Connection, task: Task) -> Result:
        if task.token and self._ledger is None:
            self._ledger = Ledger(connection)  # in a transaction of its own
        connection.execute("BEGIN IMMEDIATE")
        ledger = self._ledger
        if not task.token or ledger is None:
            result = rows_of(connection.execute(task.text), task.typed, task.most)
            connection.execute("COMMIT")
            return result
        made = ledger.answer(task.token) if task.again else None
        if made is not None:
            return made
        result = rows_of(connection.execute(task.text), task.typed, task.most)
        if not ledger.note(task.token, result):
            return ledger.answer(task.token) or result
        connection.execute("COMMIT")
        return result

    def _connected(self) -> sqlite3.Connection:
        """The connection; a new one after a fork, and when another file has taken the place of the one that was opened."""
        try:
            found = os.stat(self._path.encode("latin-1"))
            file = (found.st_dev, found.st_ino)
        except OSError:
            file = (0, 0)
        if self._process != os.getpid():
            self._connection = self._ledger = None
            self._process = os.getpid()
        if self._connection is not None and self._file != file:
            self._disconnect()
        if self._connection is None:
            try:
                self._connection = connect(self._path, reading=self._reading)
            except sqlite3.Error:
                self.failed += 1
                raise
            self.opened += 1
            self._file = file
        return self._connection

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection, self._ledger = self._connection, None, None
        if connection is not None:
            connection.close()


class Abandonable:
    """What the two threads know of a job."""

    __slots__ = ("abandoned", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        """``this.clock.now()`` up to which locks are waited for."""
        self.abandoned = False
