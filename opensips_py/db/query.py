"""What scripts wait for when a module asks a database: one statement, or several in turn, and what their answers mean.

A module derives a class from :class:`Query` for each of its functions. It serves the plain call, ``async()``, ``launch()`` and
``await()`` with any kind of database, and another process can go on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from opensips_py.db import database as databases
from opensips_py.db.database import ANOTHER, Answered, Call, Database, How, Result
from opensips_py.db.statement import Statement, StatementError
from opensips_py.engine.background import Background
from opensips_py.engine.lost_operation import LostOperation, close_all
from opensips_py.engine.operation import Done, Operation
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this


class _Frozen(msgspec.Struct, array_like=True):
    url: str
    statement: Statement
    kept: msgspec.Raw
    once: str


_TYPED, _UNTYPED = How(), How(typed=False)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class Query(Operation):
    """A question to a database. Subclasses have ``name``, the script function, and :meth:`answer`."""

    keeps: ClassVar[Any] = Any
    """Type of ``kept``, one that MessagePack has."""
    typed: ClassVar[bool] = True
    """See ``How``."""

    def __init__(self, database: Database, statement: Statement, kept: Any = None, *, once: str = "") -> None:
        """``kept``: what :meth:`answer` has to know, in another process too.

        ``once``: a name for the change that ``statement`` makes. However often it is asked for under this name, by whatever
        process and however they end, it is made once; asked for again, it answers as done.
        """
        self.database = database
        self.statement = statement
        self.kept = kept
        self.once = once
        self._call: Call | None = None
        self._thawed = False
        self._asked = 0
        self._question = b""
        self._deadline: float | None = None
        self._mode = "plain"
        self._changed: Callable[[], None] | None = None
        self._journal: Callable[[bytes], None] | None = None

    def answer(self, result: Result) -> Done | Statement:
        """What the answer means; a statement is asked next, of the same database, and its answer comes here as well."""
        raise NotImplementedError  # abstract

    def failed(self, done: Done) -> Done | Statement:
        """What it means that there is no answer, or none in time; ``done`` has -1, or another return code of the engine.

        It is logged already.
        """
        return done

    # --- asking -----------------------------------------------------------------------------------------------------

    def start(self) -> Done | None:
        if self._thawed and self._call is not None:
            return self._after(self._call.start())
        return self._ask()

    def _ask(self) -> Done | None:
        try:
            call = self._call = self.database.call(self.statement, self._how())
            self._asked += ANOTHER
        except StatementError as error:
            log(ERROR, "db", self.name, str(error))
            return self._go_on(self.failed(Done(-1)))
        self._hand_down(call)
        return self._after(call.start())

    def _how(self) -> How:
        return How(self.typed, False, self.once) if self.once else _TYPED if self.typed else _UNTYPED

    def _hand_down(self, call: Call) -> None:
        """What the engine has said holds for every call."""
        call.mode, call.changed, call.journal = self._mode, self._changed, self._journal
        call.deadline = self._deadline

    def _after(self, done: Done | None) -> Done | None:
        if done is None:
            return None
        return self._go_on(self.answer(done.result) if isinstance(done, Answered) else self.failed(done))

    def _go_on(self, outcome: Done | Statement) -> Done | None:
        if isinstance(outcome, Done):
            return outcome
        if self._call is not None:
            self._call.close()
        self.statement, self.once, self._question = outcome, "", b""
        done = self._ask()
        self.refreeze = True
        return done

    def advance(self) -> Done | None:
        return self._after(self._call.advance()) if self._call is not None else None

    def expire(self) -> Done:
        late = self._call.expire() if self._call is not None else Done(-1)
        outcome = self.failed(late)
        return outcome if isinstance(outcome, Done) else late

    def close(self) -> None:
        if self._call is not None:
            self._call.close()

    def forget(self) -> None:
        if self._call is not None:
            self._call.forget()

    # --- what the engine looks at, and sets ------------------------------------------------------------------------

    def fileno(self) -> int:
        return -1 if self._call is None else self._call.fileno()

    @property
    def serial(self) -> int:
        return self._asked if self._call is None else self._asked + self._call.serial

    @property
    def wants(self) -> int:
        assert self._call is not None
        return self._call.wants

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._mode = mode
        if self._call is not None:
            self._call.mode = mode

    @property
    def deadline(self) -> float | None:
        return self._deadline if self._call is None else self._call.deadline

    @deadline.setter
    def deadline(self, deadline: float | None) -> None:
        self._deadline = deadline
        if self._call is not None:
            self._call.deadline = deadline

    @property
    def refreeze(self) -> bool:
        return self._call is not None and self._call.refreeze

    @refreeze.setter
    def refreeze(self, refreeze: bool) -> None:
        if self._call is not None:
            self._call.refreeze = refreeze

    @property
    def fd_key(self) -> str | None:  # type: ignore[override]
        return None if self._call is None else self._call.fd_key

    @property
    def changed(self) -> Callable[[], None] | None:
        return self._changed

    @changed.setter
    def changed(self, changed: Callable[[], None] | None) -> None:
        self._changed = changed
        if self._call is not None:
            self._call.changed = changed

    @property
    def journal(self) -> Callable[[bytes], None] | None:
        return self._journal

    @journal.setter
    def journal(self, journal: Callable[[bytes], None] | None) -> None:
        self._journal = journal
        if self._call is not None:
            self._call.journal = journal

    # --- handing over -----------------------------------------------------------------------------------------------

    repeatable = True
    """A change that may not be made again says so itself: its call is LOST when it is thawed without a connection."""

    def fds(self) -> list[int]:
        return [] if self._call is None else self._call.fds()

    def freeze(self) -> bytes:
        question = self._question
        if not question:  # as long as it stays the same it is encoded once
            kept = msgspec.Raw(_encode(self.kept))
            question = self._question = _encode(_Frozen(self.database.url, self.statement, kept, self.once))
        call = b"" if self._call is None else self._call.freeze()
        return len(question).to_bytes(4, "big") + question + call

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        end = 4 + int.from_bytes(state[:4], "big")
        frozen, frozen_call = _decode(state[4:end]), state[end:]
        try:
            database = databases.open(frozen.url)
        except ValueError:
            close_all(fds)
            return LostOperation()
        query = cls.__new__(cls)
        kept = msgspec.msgpack.decode(frozen.kept, type=cls.keeps)
        Query.__init__(query, database, frozen.statement, kept, once=frozen.once)
        if frozen_call:
            query._call = database.thaw(frozen.statement, query._how(), frozen_call, fds, journal)
            query._thawed = True
        else:  # it had not been started
            close_all(fds)
        return query


class _Background(Query):
    """A question that no script waits for."""

    name = "db_ask"
    then: Callable[[Result | None], None]
    result: Result | None = None

    def _how(self) -> How:
        return How(True, True, self.once)

    def answer(self, result: Result) -> Done:
        self.result = result
        return Done(1)


LONGEST = 60.0
"""Seconds that a question may take for which no script waits."""


def ask(
    database: Database,
    statement: Statement,
    then: Callable[[Result | None], None],
    *,
    once: str = "",
    seconds: float = LONGEST,
) -> None:
    """Ask beside the process' other work, for management commands and timers.

    ``then`` gets the answer, or None after an error, which is logged, or ``seconds``. It is not handed over: who asked is gone
    with the process. ``once``: as for :class:`Query`.
    """
    query = _Background(database, statement, once=once)
    query.deadline = this.clock.now() + seconds
    Background(query, lambda done: then(query.result))
