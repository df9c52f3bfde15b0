"""What follows a suspended route: for each kind of route, what becomes of its message once the resume route has ended.

The code that runs a route puts a :class:`Continuation` into ``Context.continuation``. When the route suspends itself,
the engine parks the operation together with the continuation, which any process can thaw: the one that gets the result
runs the resume route between :meth:`Continuation.resume` and :meth:`Continuation.end`. Those of a transaction's routes
stand in :mod:`opensips_py.tm.request_script`.

Two ways to suspend. ``async()`` ends the run of a route, so usually nothing of it is left to keep but the context.
Where a function must still return to its script (``t_relay()`` that asks the DNS or whose branch route suspends,
``await()``), the continuation is ``in_line``: the frames stay, on a paused greenlet, and go on by themselves; only
when their process has died or is stuck the continuation is thawed elsewhere, and does what is left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from opensips_py.script.context import Context
from opensips_py.server.process import this


class Continuation:
    """What follows a suspended route. Subclasses set ``kind`` and are found by it when another process thaws them.

    The engine knows nothing of what a route is about. Whatever must be stored, released or marked around a wait is done by
    these methods: :meth:`prepare` before anything waits, :meth:`park` or :meth:`pause` when it does, :meth:`resume` and
    :meth:`end` afterwards.
    """

    kind: ClassVar[str]
    registry: ClassVar[dict[str, type[Continuation]]] = {}
    in_line: ClassVar[bool] = False
    """The frames of the suspended route are kept and go on by themselves."""
    holds_up: ClassVar[bool] = False
    """A wait in line holds up the process."""
    packed: ClassVar[bytes] = b""
    """What :func:`pack` gives, for a class without state; empty for others."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "kind" in cls.__dict__:
            Continuation.registry[cls.kind] = cls
            cls.packed = cls.kind.encode() + b"\0" if cls.freeze is Continuation.freeze else b""

    def freeze(self) -> bytes:
        """State for :meth:`thaw`."""
        return b""

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        """The continuation in another process."""
        return cls()

    def prepare(self, ctx: Context) -> int:
        """The script is about to wait. 1: it may; 0: it ends here, the request is a retransmission; negative: it cannot."""
        return 1

    def flush(self, ctx: Context) -> None:
        """A wait is about to hold up the process: write what is pending."""

    def park(self, ctx: Context, entry: Callable[[], tuple[bytes, bytes]]) -> bool:
        """The route is being suspended: store it. False: the request has turned out to be a retransmission, the script ends here.

        ``entry`` gives key and value of the parked operation, to be stored in the same batch as whatever else is stored.
        """
        this.store.put(*entry())
        return True

    def pause(self, ctx: Context) -> Paused:
        """The script is about to wait in line: store and release what it holds."""
        return NOTHING_HELD

    def resume(self, ctx: Context) -> bool:
        """Before the resume route; False: it is not to run."""
        return True

    def leave(self, ctx: Context) -> None:
        """After a resume route that has suspended itself again."""

    def end(self, ctx: Context) -> None:
        """After the resume route: what the route was about goes its way."""

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        """Instead of the resume route, after :meth:`resume`: the script cannot go on."""
        self.end(ctx)

    def route_is_gone(self, ctx: Context) -> None:
        """Instead of the resume route, before :meth:`end`: the script has been reloaded without it."""


class Paused:
    """What a script that waits in line has let go of."""

    __slots__ = ()
    stored = True
    """False: the request was a retransmission after all."""

    def end(self) -> None:
        """The script goes on: hold what was held, as it is now."""


NOTHING_HELD = Paused()


class Detached(Continuation):
    """Report, timer, event and startup routes: nothing follows, and there is no transaction."""

    kind = "detached"


class Nested(Detached):
    """``event_route[NAME, sync]``: it runs inside whatever has raised the event, which cannot be left half-way."""

    kind = "nested"
    holds_up = True


class Interrupted(Continuation):
    """``await()``, and functions that wait without a continuation of their own: the rest of the script dies with its process."""

    kind = "interrupted"
    in_line = True

    def __init__(self, outer: Continuation) -> None:
        self.outer = outer

    def freeze(self) -> bytes:
        return pack(self.outer)

    @classmethod
    def thaw(cls, state: bytes) -> Continuation:
        return cls(unpack(state))

    def flush(self, ctx: Context) -> None:
        self.outer.flush(ctx)

    def park(self, ctx: Context, entry: Callable[[], tuple[bytes, bytes]]) -> bool:
        return self.outer.park(ctx, entry)

    def pause(self, ctx: Context) -> Paused:
        return self.outer.pause(ctx)

    def resume(self, ctx: Context) -> bool:
        return self.outer.resume(ctx)

    def end(self, ctx: Context) -> None:
        self.outer.give_up(ctx, 500, "Server Internal Error")

    def give_up(self, ctx: Context, code: int, reason: str) -> None:
        self.outer.give_up(ctx, code, reason)


_NOTHING_FOLLOWS = Detached()


def of(ctx: Context) -> Continuation:
    """What follows the route that runs over ``ctx``."""
    found: Continuation | None = ctx.continuation
    return _NOTHING_FOLLOWS if found is None else found


def pack(continuation: Continuation) -> bytes:
    """A continuation as bytes, with its kind."""
    return continuation.packed or continuation.kind.encode() + b"\0" + continuation.freeze()


def unpack(data: bytes) -> Continuation:
    """What :func:`pack` has written."""
    kind, _, state = data.partition(b"\0")
    return Continuation.registry[kind.decode()].thaw(state)


class Pause:
    """A script that waits in line, and those that it is a part of: stored and not held."""

    __slots__ = ("_paused", "_scripts")

    def __init__(self, ctx: Context, continuation: Continuation) -> None:
        self._scripts = [(ctx, continuation)]
        outer: Context | None = ctx.outer
        while outer is not None:
            self._scripts.append((outer, of(outer)))
            outer = outer.outer
        self._paused: list[Paused] = []

    def begin(self) -> bool:
        """Store and release. False: a request was a retransmission after all."""
        self._paused = [continuation.pause(ctx) for ctx, continuation in reversed(self._scripts)]
        return all(paused.stored for paused in self._paused)

    def freeze_outers(self) -> list[tuple[bytes, bytes]]:
        """The other scripts, for :attr:`opensips_py.engine.parked.Parked.outers`."""
        return [(ctx.freeze(), pack(continuation)) for ctx, continuation in self._scripts[1:]]

    def end(self) -> None:
        """The script goes on."""
        for paused in self._paused:
            paused.end()


def thaw(data: bytes, continuation: Continuation) -> Context:
    """The context of a suspended route, in another process."""
    ctx = Context.thaw(data, this.sockets_by_name)
    ctx.continuation = continuation
    return ctx
