"""What one process of the server has: its place, its store, its reactor, its sockets.

``this`` is the process that the code runs in. It is filled by ``workers`` after the fork; modules read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ipc.clock import Clock, clock
from opensips_py.script import ast
from opensips_py.script.context import Context, ListenSocket
from opensips_py.script.environment import Environment
from opensips_py.script.parameters import Settings
from opensips_py.script.program import Program
from opensips_py.script.variables import Registry
from opensips_py.server.socket_names import SocketNames

if TYPE_CHECKING:
    from ipc.control import ControlLine
    from ipc.counters import Counters
    from ipc.store import Store


class Reactor(Protocol):
    """Readiness of descriptors, and time, for one process."""

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready.

        ``wants`` and ``events`` are READ/WRITE bits; HUP and ERR count as both.
        """

    def modify(self, fd: int, wants: int) -> None: ...

    def remove(self, fd: int, callback: Callable[[int], None] | None = None) -> None:
        """Stop watching, before the descriptor is closed. Nothing happens when it is not watched, or not with ``callback``."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        """Call ``callback`` at ``this.clock.now()`` ``when``; returns a handle for :meth:`cancel`."""

    def cancel(self, handle: Any) -> None: ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end of this turn of the loop."""

    beside: Callable[[], None] | None
    """What the running callback would do next, to be called soon if it pauses."""

    @property
    def running(self) -> bool:
        """Callbacks run, and may pause."""

    @property
    def paused(self) -> int:
        """How many callbacks stand still in :meth:`pause`."""

    def here(self) -> Any:
        """The place for :meth:`resume` of a callback that is about to :meth:`pause`."""

    def pause(self) -> None:
        """Let the loop go on while this callback stands still here, until :meth:`resume`. Raises Unwound."""

    def resume(self, place: Any) -> None:
        """Go on where ``place`` paused. The last thing that a callback does."""

    def unwind(self, place: Any) -> None:
        """Have the callback that paused at ``place`` end there, silently. The last thing that a callback does."""


class NoReactor:
    """Of a process without an event loop: one that only checks a script, the attendant before it starts. It calls nothing."""

    beside: Callable[[], None] | None = None
    running = False
    paused = 0

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None:
        pass

    def modify(self, fd: int, wants: int) -> None:
        pass

    def remove(self, fd: int, callback: Callable[[int], None] | None = None) -> None:
        pass

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        return None

    def cancel(self, handle: Any) -> None:
        pass

    def call_soon(self, callback: Callable[[], None]) -> None:
        pass

    def here(self) -> Any:
        raise RuntimeError("nothing can pause without an event loop")

    def pause(self) -> None:
        raise RuntimeError("nothing can pause without an event loop")

    def resume(self, place: Any) -> None:
        pass

    def unwind(self, place: Any) -> None:
        pass


NO_REACTOR: Reactor = NoReactor()


class AsyncEngine(Protocol):
    """What other layers ask of :class:`opensips_py.engine.engine.Engine`, with operations as it knows them."""

    def __len__(self) -> int:
        """How many operations this process drives."""

    def wait_cooperatively(self, ctx: Context, op: Any) -> Any: ...

    def cancel_waiting(self, transaction: bytes) -> None: ...

    def cancel_waiting_here(self, transaction: bytes) -> None: ...

    def drives(self, token: bytes) -> bool: ...

    def cancel(self, token: bytes) -> None: ...

    def take_over(self, token: bytes, owner: bytes, fds: list[int]) -> None: ...

    def answer_parked(self, code: int, reason: str) -> None: ...


class NoEngine:
    """Of a process that drives no operations: the attendant."""

    def __len__(self) -> int:
        return 0

    def wait_cooperatively(self, ctx: Context, op: Any) -> Any:
        raise RuntimeError("this process cannot wait for operations")

    def cancel_waiting(self, transaction: bytes) -> None:
        pass

    def cancel_waiting_here(self, transaction: bytes) -> None:
        pass

    def drives(self, token: bytes) -> bool:
        return False

    def cancel(self, token: bytes) -> None:
        pass

    def take_over(self, token: bytes, owner: bytes, fds: list[int]) -> None:
        raise RuntimeError("this process cannot go on with operations")

    def answer_parked(self, code: int, reason: str) -> None:
        pass


class Unwound(BaseException):
    """Ends a paused callback whose work is no longer this process': only the reactor catches it, silently."""


class Handle(Protocol):
    """What messages are sent with: the OS socket of a UDP socket, or what finds the connections of a TCP one."""

    def sendto(self, data: bytes, address: tuple[str, int]) -> object:
        """Send. Raises OSError when it is known at once that this fails."""

    def getsockname(self) -> Any: ...


class FdKeeper(Protocol):
    """This process' line to the attendant's fd store."""

    def keep(self, key: str, fds: list[int]) -> None:
        """Have the attendant hold duplicates of ``fds`` under ``key`` (replacing what is there)."""

    def drop(self, key: str) -> None: ...


class NoFdKeeper:
    """Of a process without an attendant: nobody keeps its descriptors."""

    def keep(self, key: str, fds: list[int]) -> None:
        pass

    def drop(self, key: str) -> None:
        pass


NO_PROGRAM = Program("", ast.Script(), Environment(Settings(), Registry()))
"""What runs before a script has been loaded: the defaults."""


class Process:
    """The running process. Attributes are set once, at its start; until then they have these values."""

    clock: Clock = clock
    """What time it is: whatever asks for time asks it."""
    node: int = 0
    """Core parameter node_id: which server, among those that share what they do."""
    slot: int = 0
    """Number of the process, its ID in MI ``ps``; a replacement of a dead worker gets the same slot."""
    incarnation: int = 0
    """Differs between two holders of one slot."""
    kind: str = "attendant"
    """Description as in ``ps``: ``attendant``, ``SIP receiver udp:127.0.0.1:5060``, ``timer``, ``MI FIFO``."""
    kinds: Sequence[str] = ()
    """``kind`` of every process, by slot; set before the fork."""
    counters: Counters
    """Statistics and status of all processes."""
    started_at: float
    """``this.clock.now()`` of the server's start."""
    argv: list[str]
    """Command line of the server."""
    control: ControlLine
    """Channel to the attendant; not in the attendant itself."""
    program: Program = NO_PROGRAM
    """The compiled script with its settings and modules."""
    store: Store
    reactor: Reactor = NO_REACTOR
    engine: AsyncEngine = NoEngine()
    fd_keeper: FdKeeper = NoFdKeeper()
    sockets_by_name: SocketNames = SocketNames(())
    """How stored records name them."""
    handles: list[Handle]
    """In the order of ``sockets``."""
    draining: bool = False
    """The server is stopping: new requests are refused, what is under way goes on."""

    _sockets: list[ListenSocket] = []

    @property
    def sockets(self) -> list[ListenSocket]:
        """What the server listens on."""
        return self._sockets

    @sockets.setter
    def sockets(self, sockets: list[ListenSocket]) -> None:
        self._sockets = sockets
        self.sockets_by_name = SocketNames(sockets)

    def send(self, via: ListenSocket, data: bytes, host: str, port: int) -> bool:
        """Send one message from socket ``via``; False when that fails at once (unreachable, no buffer).

        Over a connection it may fail later, which then ends the branch that it belongs to.
        """
        try:
            self.handles[via.index].sendto(data, (host, port))
        except (OSError, IndexError):  # IndexError: a socket that this server does not have (socket_names)
            return False
        return True

    def send_open(self, via: ListenSocket, data: bytes, host: str, port: int) -> bool:
        """As :meth:`send`, but not over a new connection: False when a request has none that is open."""
        try:
            handle = self.handles[via.index]
            getattr(handle, "send_open", handle.sendto)(data, (host, port))
        except (OSError, IndexError):
            return False
        return True


this = Process()


def unwatch(fd: int) -> None:
    """To be called before a descriptor is closed that the event loop may watch.

    The attendant may hold a duplicate, so that closing alone would not take it out of epoll.
    """
    this.reactor.remove(fd)
