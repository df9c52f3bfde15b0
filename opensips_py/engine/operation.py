"""The one protocol of everything that can wait.

An operation is a state machine over a file descriptor. It never blocks, never touches the reactor and never runs
script code, so the same object serves the plain call (the worker polls it to its end), ``async()`` and ``launch()``.

**Any worker must be able to take it over half-way.** Its state is therefore the bytes of :meth:`Operation.freeze`
(written when it is parked) plus its *journal*: every byte that it has read since from a descriptor which another
process would miss. ``thaw(state, fds, journal)`` in another process gives an operation that goes on.
Descriptors travel by SCM_RIGHTS through the attendant's fd store; a pooled connection is passed there once, when it
is opened, under its own ``fd_key``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from opensips_py.script.context import Context, Value

READ = 1
WRITE = 2

TIMEOUT = -3
"""``$rc`` at the deadline that the statement or ``async_timeout`` sets, whatever the function."""
BUSY = -4
"""``$rc`` when too many operations wait already (for a connection of a pool)."""
CANCELLED = -5
"""``$rc`` of an operation that the management command ``async_cancel`` has ended."""
LOST = -10
"""``$rc`` of an operation whose descriptor cannot be handed to another process and whose worker died."""


class Done(NamedTuple):
    """The end of an operation: the return code, and assignments to output variables, made in this order."""

    rc: int
    outputs: list[tuple[str, Value]] = []
    """(source text of the variable, value) — e.g. ``("$avp(credit)", "100")``."""

    @property
    def refused(self) -> int:
        """The return code when a variable does not take its value."""
        return -1

    @property
    def slots(self) -> dict[str, Any]:
        """What the module keeps with the message from now on, by name (``Context.slots``)."""
        return {}

    @property
    def then(self) -> Callable[[Context], int] | None:
        """What the module does with the message now that it knows; it gives the return code."""
        return None


class DoneUnless(Done):
    """An end with another return code than -1 for when a variable does not take its value."""

    _refused: int

    @classmethod
    def of(cls, rc: int, outputs: list[tuple[str, Value]], refused: int) -> DoneUnless:
        done = cls(rc, outputs)
        done._refused = refused
        return done

    @property
    def refused(self) -> int:
        return self._refused


class DoneKeeping(Done):
    """An end that leaves something with the message, for functions of the module that are called later."""

    _kept: dict[str, Any]

    @classmethod
    def of(cls, rc: int, slots: dict[str, Any]) -> DoneKeeping:
        """``slots`` are of types that MessagePack has."""
        done = cls(rc, [])
        done._kept = slots
        return done

    @property
    def slots(self) -> dict[str, Any]:
        return self._kept


class DoneThen(Done):
    """An end after which there is something left to do with the message."""

    _then: Callable[[Context], int]

    @classmethod
    def of(cls, then: Callable[[Context], int]) -> DoneThen:
        done = cls(1, [])
        done._then = then
        return done

    @property
    def then(self) -> Callable[[Context], int] | None:
        return self._then


class Operation:
    """Something that takes time. Subclasses set ``name`` and are found by it when another process thaws them."""

    name: ClassVar[str]
    """Script function, unique: ``exec``, ``avp_db_query`` …"""
    registry: ClassVar[dict[str, type[Operation]]] = {}

    takes_default_deadline: ClassVar[bool] = True
    """``async_timeout`` without a name holds for it; False where taking its time is what it is for (sleep)."""

    bound: ClassVar[bool] = False
    """It cannot be handed over: while its process lives nobody takes it, however long that is stuck; it is LOST with it."""

    repeatable: bool = False
    """Doing it twice is doing it once (GET, SELECT, a search): when its descriptors are lost with its process it is begun
    again (:meth:`thaw` without them), within its old deadline. Another one is LOST then."""
    mode: str = "plain"
    """How the script called: ``plain``, ``async`` or ``launch``. Set by the engine before start()."""
    refreeze: bool = False
    """The operation sets it in advance() when state and journal no longer rebuild it: the engine writes freeze() again."""
    deadline: float | None = None
    """``this.clock.now()`` (one clock for all processes) after which :meth:`expire` is called; None: no limit."""
    fd_key: str | None = None
    """Name in the fd store of a pooled connection that the operation uses; None: its own descriptors (:meth:`fds`)."""
    changed: Callable[[], None] | None = None
    """Set by the engine. The operation calls it when ``fileno()``, ``wants`` or ``fd_key`` change, or it becomes
    ready to advance, outside advance() (a connection of the pool became free, a thread finished)."""
    journal: Callable[[bytes], None] | None = None
    """Set by the engine while parked. Call it with bytes read that are needed to go on, before returning from advance()."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            Operation.registry[cls.name] = cls

    def fileno(self) -> int:
        """Descriptor to watch, or -1 while the operation waits for something else (it will call ``changed``)."""
        raise NotImplementedError  # abstract

    @property
    def serial(self) -> int:
        """Changes when the descriptor is closed and another opened instead, which may get the same number."""
        return 0

    @property
    def wants(self) -> int:
        """READ, WRITE or both."""
        return READ

    @property
    def counts_as_timeout(self) -> bool:
        """Whether expire() now would be a failure; False where the deadline is the regular end (sleep)."""
        return True

    def start(self) -> Done | None:
        """Begin. Called once, before anything else; Done when there is nothing to wait for."""
        return None

    def advance(self) -> Done | None:
        """Do what can be done without blocking; None means: not finished. May be called without need."""
        raise NotImplementedError  # abstract

    def expire(self) -> Done:
        """The deadline has passed: release everything and give the documented return code.

        The engine calls it at the operation's own ``deadline``, and at the script's, where its own code (TIMEOUT) stands
        for the one returned here.
        """
        raise NotImplementedError  # abstract

    def close(self) -> None:
        """Release everything, without a result (also: kill child processes). Idempotent."""

    def forget(self) -> None:
        """Another process has taken the operation over: close descriptors, disturb nothing that it uses. Idempotent."""
        self.close()

    def fds(self) -> list[int]:
        """Own descriptors that another process needs to go on, in the order that ``thaw`` expects; ``[]`` with ``fd_key``."""
        return []

    def freeze(self) -> bytes:
        """State for :meth:`thaw`, as of now."""
        raise NotImplementedError  # abstract

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        """The operation in another process. An operation that cannot go on returns one that is Done(LOST) at start().

        ``fds`` is empty when the descriptors were never received: what is ``repeatable`` begins again then. ``start()`` is
        called on the result too.
        """
        raise NotImplementedError  # abstract


def earliest(a: float | None, b: float | None) -> float | None:
    """The earlier of two times; None stands for never."""
    if a is None:
        return b
    return a if b is None or a < b else b
