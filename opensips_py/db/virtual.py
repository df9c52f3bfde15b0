"""Several databases behind one URL: ``virtual://NAME`` stands for the set of that name.

- ``FAILOVER``: the first one that can be used.
- ``ROUND``: the next one each time; if it cannot be used, the one after it.
- ``PARALLEL``: changes are made in all of them, and it is enough that one has accepted; questions go to the first one.

A database that did not answer comes last for a while. One that has refused a statement has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from ipc.prefixes import prefix
from opensips_py.db import database as databases
from opensips_py.db.database import ANOTHER, PATIENCE, Answered, Call, Database, DatabaseError, How, Rejected, Result
from opensips_py.db.dialect import Dialect
from opensips_py.db.statement import Raw, Select, Statement, StatementError
from opensips_py.engine.lost_operation import close_all
from opensips_py.engine.operation import Done
from opensips_py.server.log import NOTICE, WARNING, log
from opensips_py.server.process import this

PREFIX = prefix(b"mdb_virtual:", "database of a virtual set that an administrator has switched off", __name__)
SEVERAL = ANOTHER << 16
"""Beside what a :class:`Query` adds for each of its calls."""
MODES = ("FAILOVER", "PARALLEL", "ROUND")


class Settings:
    """What the db_virtual module's parameters say (process-wide)."""

    probe_time: float = 10.0
    """Seconds for which a database that did not answer comes last."""
    sets: Callable[[], dict[str, DatabaseSet]] = dict
    """The sets by name; module db_virtual has them."""


settings = Settings()


@dataclass
class Member:
    """One database of a set."""

    url: str
    key: bytes
    """In the store, while it is switched off."""
    down_until: float = 0.0
    """``this.clock.now()`` up to which it comes last in this process; 0: it works."""

    @property
    def database(self) -> Database:
        """It."""
        return databases.open(self.url)

    @property
    def switched_on(self) -> bool:
        """Whether it may be used (management command ``db_set``)."""
        store = getattr(this, "store", None)  # there is none before the fork
        return store is None or store.get(self.key) is None

    def failed(self) -> None:
        """It did not answer."""
        if not self.down_until:
            log(WARNING, "db_virtual", "query", f"{self.database.name} cannot be used; it comes last for a while")
        self.down_until = this.clock.now() + settings.probe_time

    def worked(self) -> None:
        """It did."""
        if self.down_until:
            log(NOTICE, "db_virtual", "query", f"{self.database.name} can be used again")
            self.down_until = 0.0


@dataclass
class DatabaseSet:
    """A set, as ``db_urls`` defines it."""

    name: str
    mode: str
    members: list[Member] = field(default_factory=list)
    turn: int = 0

    def add(self, url: str) -> None:
        """One more database. Raises ValueError."""
        if databases.module_of(url) == "db_virtual":
            raise ValueError(f"[{url}]: a set cannot have a set in it")
        databases.check(url)
        self.members.append(Member(url, PREFIX + f"{self.name}\0{len(self.members)}".encode("latin-1")))

    def order(self) -> list[int]:
        """Numbers of the databases, as they are to be tried."""
        order = list(range(len(self.members)))
        if self.mode == "ROUND":
            first = self.turn % len(order)
            self.turn += 1
            order = order[first:] + order[:first]
        now = this.clock.now()
        usable = [number for number in order if self.members[number].switched_on]
        return sorted(usable, key=lambda number: self.members[number].down_until > now)


class _Frozen(msgspec.Struct, array_like=True):
    current: int
    rest: list[int]
    accepted: bool
    call: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class VirtualDatabase(Database):
    """``virtual://``."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        name = url.removeprefix("virtual:").strip("/")
        found = settings.sets().get(name)
        if found is None:
            raise ValueError(
                f'there is no set {name or "?"} of databases: modparam("db_virtual", "db_urls", "define {name} FAILOVER")'
            )
        if not found.members:
            raise ValueError(f"the set {name} has no databases: further db_urls name them")
        self.set = found

    @property
    def name(self) -> str:
        return f"virtual://{self.set.name}"

    @property
    def dialect(self) -> Dialect:  # type: ignore[override]
        """That of the first one."""
        return self.set.members[0].database.dialect

    def call(self, statement: Statement, how: How) -> Call:
        return VirtualCall(self, statement, how, self.set.order())

    def thaw(self, statement: Statement, how: How, state: bytes, fds: list[int], journal: bytes) -> Call:
        frozen = _decode(state)
        if frozen.current >= len(self.set.members):
            close_all(fds)
            return self.call(statement, how)
        call = VirtualCall(self, statement, how, frozen.rest)
        call.go_on(frozen.current, frozen.accepted, frozen.call, fds, journal)
        return call

    def read(self, statement: Statement, seconds: float = PATIENCE) -> Result:
        everywhere = self.everywhere(statement)
        result, refusal = None, DatabaseError(f"{self.name}: no database may be used")
        for number in self.set.order():
            member = self.set.members[number]
            try:
                found = member.database.read(statement, seconds)
            except DatabaseError as error:
                refusal = DatabaseError(f"{member.database.name}: {error}")
                continue
            if not everywhere:
                return found
            result = result or found
        if result is None:
            raise refusal
        return result

    def everywhere(self, statement: Statement) -> bool:
        """Whether all databases are to get a statement."""
        reads = isinstance(statement, Select) or (isinstance(statement, Raw) and statement.text.lstrip()[:6].lower() == "select")
        return self.set.mode == "PARALLEL" and not reads

    def create(self) -> None:
        for member in self.set.members:
            member.database.create()

    def check_version(self, table: str, expected: int) -> None:
        for number in self.set.order():
            self.set.members[number].database.check_version(table, expected)
            if self.set.mode != "PARALLEL":
                return


class VirtualCall(Call):
    """A statement for one database after the other, until one has answered, or until all have."""

    def __init__(self, database: VirtualDatabase, statement: Statement, how: How, order: list[int]) -> None:
        self._database, self._statement, self._how = database, statement, how
        self._everywhere = database.everywhere(statement)
        self._order = list(order)
        self._current = -1
        self._call: Call | None = None
        self._thawed = False
        self._asked = 0
        self._answer: Done | None = None
        self._accepted = False
        self._ends: float | None = None

    # --- one after the other ----------------------------------------------------------------------------------------

    def start(self) -> Done | None:
        self._ends = self.deadline
        if self._thawed and self._call is not None:
            self._hand_down(self._call)
            return self._after(self._call.start())
        done = self._next(Done(-1))
        return self._after(None) if done is None else done

    def _next(self, failure: Done) -> Done | None:
        """Ask the next database; ``failure`` is the end when there is none."""
        for number in self._numbers():
            self._current = number
            try:
                call = self._call = self._member.database.call(self._statement, self._how)
                self._asked += SEVERAL
            except StatementError as error:
                log(WARNING, "db_virtual", "query", str(error))
                failure = Rejected(-1)
                continue
            self._hand_down(call)
            done = call.start()
            if done is None:
                self.refreeze = True
                return None
            ended = self._ended(done)
            if ended is not None:
                return ended
            failure = done
        return self._answer or failure

    def _numbers(self) -> Iterator[int]:
        while self._order:
            yield self._order.pop(0)

    @property
    def _member(self) -> Member:
        return self._database.set.members[self._current]

    def _hand_down(self, call: Call) -> None:
        call.mode, call.deadline = self.mode, self._ends
        call.changed = self._woken
        call.journal = self._journaled

    def _woken(self) -> None:
        if self.changed is not None:
            self.changed()

    def _journaled(self, data: bytes) -> None:
        if self.journal is not None:
            self.journal(data)

    def _after(self, done: Done | None) -> Done | None:
        call = self._call
        if done is None:
            if call is not None:
                self.deadline, self.fd_key = call.deadline, call.fd_key
                self.refreeze, call.refreeze = self.refreeze or call.refreeze, False
            return None
        ended = self._ended(done)
        if ended is not None:
            return ended
        following = self._next(done)
        return self._after(None) if following is None else following

    def _ended(self, done: Done) -> Done | None:
        """What one database has said; None: another one is to be asked."""
        if self._call is not None:
            self._call.close()
        self._call = None
        answered = isinstance(done, Answered | Rejected)
        (self._member.worked if answered else self._member.failed)()
        if isinstance(done, Answered) and (self._answer is None or not isinstance(self._answer, Answered)):
            self._answer = done
        if self._everywhere or not answered:
            return None
        return done

    # --- what the engine sees ---------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return -1 if self._call is None else self._call.fileno()

    @property
    def serial(self) -> int:
        return self._asked if self._call is None else self._asked + self._call.serial

    @property
    def wants(self) -> int:
        assert self._call is not None
        return self._call.wants

    def advance(self) -> Done | None:
        return self._after(self._call.advance()) if self._call is not None else None

    def expire(self) -> Done:
        """The time of one database is up, or that of all."""
        if self._call is None:
            return Done(-1)
        done = self._call.expire()
        self._member.failed()
        self.close()
        return done

    def close(self) -> None:
        if self._call is not None:
            self._call.close()

    def forget(self) -> None:
        if self._call is not None:
            self._call.forget()

    # --- handing over -----------------------------------------------------------------------------------------------

    def fds(self) -> list[int]:
        return [] if self._call is None else self._call.fds()

    def freeze(self) -> bytes:
        call = b"" if self._call is None else self._call.freeze()
        return _encode(_Frozen(max(0, self._current), self._order, self._answer is not None, call))

    def go_on(self, current: int, accepted: bool, state: bytes, fds: list[int], journal: bytes) -> None:
        """It is the call of another process."""
        self._current = current
        if accepted:
            self._answer = Answered.of(Result([]))
        if state:
            self._call = self._member.database.thaw(self._statement, self._how, state, fds, journal)
            self._thawed = True
        else:
            close_all(fds)
