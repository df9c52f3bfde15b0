"""One statement on its way to a SQLite file.

It ends with its result, or with -1 for an error, for a file that stays locked and for an answer larger than ``max_result_size``,
-4 when too many statements wait. Another process asks again what reads, and makes a change if it has not been made
(:mod:`~opensips_py.db.sqlite.ledger`).
"""

from __future__ import annotations

import os
import sqlite3

import msgspec

from opensips_py.db.database import Answered, Call, How, Rejected, Result
from opensips_py.db.sqlite.file import cannot_be_used, settings
from opensips_py.db.sqlite.ledger import drawn, named
from opensips_py.db.sqlite.thread import Abandonable, FileThread, Task, is_change, only_reads
from opensips_py.engine.operation import BUSY, LOST, Done
from opensips_py.engine.thread_job import QueueFull, ThreadJob
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this, unwatch


class _Frozen(msgspec.Struct, array_like=True):
    token: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class SqliteCall(Call):
    """One statement."""

    def __init__(self, name: str, reader: FileThread, writer: FileThread, text: str, how: How) -> None:
        self._name = name
        self._thread = reader if only_reads(text) else writer
        self._text = text
        self._how = how
        self._most = 0 if how.whole else settings.answer
        self._token = named(how.once)
        self._again, self._lost = bool(how.once), False
        self._job: ThreadJob[Result] | None = None
        self._state = Abandonable(0)
        self._parked = -1
        """Readable at once: the first advance() comes when the operation is parked."""

    def start(self) -> Done | None:
        if self._lost:
            return Done(LOST)
        patience = this.clock.now() + settings.patience
        self._state.until = patience
        if self.mode == "plain" and self.deadline is None:
            self.deadline = patience
        if self.mode != "plain" and is_change(self._text):
            # begun when the operation is parked: a change is never made of which the store does not know
            self._token = self._token or drawn()
            self._parked = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return None
        return self._begin()

    def _begin(self) -> Done | None:
        state, thread, task = self._state, self._thread, Task(self._text, self._how.typed, self._most, self._token, self._again)
        thread.threads.queue = settings.waiting
        try:
            self._job = ThreadJob(lambda: thread.run(state, task), threads=thread.threads)
        except QueueFull as full:
            thread.refused += 1
            log(ERROR, "db_sqlite", "query", f"{self._name}: {full}, refusing more ($rc -4)")
            return Done(BUSY)
        return None

    def fileno(self) -> int:
        return self._parked if self._job is None else self._job.fd

    @property
    def serial(self) -> int:
        return 0 if self._parked >= 0 else 1

    def advance(self) -> Done | None:
        if self._parked >= 0:
            self._forget_parking()
            return self._begin()
        job = self._job
        if job is None or not job.done:
            return None
        self._job = None
        try:
            return Answered.of(job.result())
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
            self._failed(str(error))
            return Done(-1) if isinstance(error, sqlite3.Error) and cannot_be_used(error) else Rejected(-1)
        finally:
            job.close()

    def expire(self) -> Done:
        self.close()
        return self._failed("no answer in time")

    def _failed(self, why: str) -> Done:
        log(ERROR, "db_sqlite", "query", f"{self._name}: {why} in [{self._text[:200]}]")
        return Done(-1)

    def _forget_parking(self) -> None:
        fd, self._parked = self._parked, -1
        if fd >= 0:
            unwatch(fd)
            os.close(fd)

    def close(self) -> None:
        self._forget_parking()
        job, self._job = self._job, None
        if job is not None:
            self._thread.stop(self._state)
            job.close()

    # --- handing over -----------------------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        return _encode(_Frozen(self._token))

    def go_on(self, state: bytes) -> SqliteCall:
        """It is the call of another process, which may have been made or not."""
        self._token = _decode(state).token
        self._again = True
        self._lost = not self._token and not only_reads(self._text)
        return self
