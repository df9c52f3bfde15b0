"""One question to the name servers: sockets that never block, and when to lose patience.

The servers are asked in turn, all of them as often as ``attempts`` says. Every try has a socket of its own, so a port of its own
(RFC 5452 9.2), which is connected: the kernel lets nothing in but what the server sent, and says when nobody is there. A
truncated response is asked for again over TCP.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

from opensips_py.dns import wire
from opensips_py.dns.configuration import Configuration
from opensips_py.dns.records import FAILED, Answer, Question, Status
from opensips_py.engine.operation import READ, WRITE
from opensips_py.script.name_servers import Server

BIGGEST = 65_535
LONGEST_ANSWER = 16_384
"""Bytes that a response over TCP may have: reading one takes time in proportion. A longer one is not accepted."""


class Silence:
    """Name servers of which nothing was heard: the others are asked first for a while (RFC 2308 7.2 allows five minutes)."""

    SECONDS = 30.0
    PATIENCE = 1.0
    """Seconds that an answer is waited for when none of them was heard of."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[Server, float] = {}

    def plan(self, configuration: Configuration, now: float) -> tuple[list[Server], float]:
        """The servers in the order to be asked, and how long each is waited for. Without hope each is asked once, briefly."""
        servers = configuration.servers
        if not self._until:
            return servers * configuration.attempts, configuration.timeout
        heard = [server for server in servers if self._until.get(server, 0.0) <= now]
        if not heard:
            return servers, min(configuration.timeout, self.PATIENCE)
        return (heard + [server for server in servers if server not in heard]) * configuration.attempts, configuration.timeout

    def note(self, server: Server, now: float) -> None:
        """It has not answered in time."""
        self._until[server] = now + self.SECONDS

    def heard(self, server: Server) -> None:
        """It has said something."""
        self._until.pop(server, None)


class Exchange:
    """A question under way. When ``fd`` is ready for ``wants`` call :meth:`step`, at ``deadline`` :meth:`expire`.

    Both give the answer, or None while there is none. ``fd`` may have changed after each call.
    """

    __slots__ = (
        *(
            "_closing",
            "_configuration",
            "_edns",
            "_in",
            "_out",
            "_patience",
            "_query",
            "_server",
            "_silence",
            "_socket",
            "_tries",
        ),
        *("deadline", "question", "wants"),
    )

    def __init__(
        self,
        question: Question,
        configuration: Configuration,
        silence: Silence,
        closing: Callable[[int], None] = lambda fd: None,
    ) -> None:
        """``closing`` is called with each descriptor before it is closed."""
        self.question = question
        self.wants = READ
        self.deadline = 0.0
        self._configuration = configuration
        self._silence = silence
        self._closing = closing
        self._tries: Iterator[Server] = iter(())
        self._patience = configuration.timeout
        self._server: Server = ("", 0)
        """Who is being asked."""
        self._edns = True
        self._socket: socket.socket | None = None
        self._query: wire.Query | None = None
        self._out = b""
        """What is still to be written over TCP."""
        self._in: bytearray | None = None
        """What was read over TCP; None over UDP."""

    @property
    def fd(self) -> int:
        """Descriptor to watch; -1 when it has ended."""
        return -1 if self._socket is None else self._socket.fileno()

    def start(self, now: float) -> Answer | None:
        """Ask the first server. An answer at once: the name is invalid, or no server can be reached."""
        servers, self._patience = self._silence.plan(self._configuration, now)
        self._tries = iter(servers)
        return self._next(now)

    def step(self, now: float) -> Answer | None:
        """The descriptor is ready."""
        try:
            data = self._receive() if self._in is None else self._converse()
        except BlockingIOError:
            return None
        except OSError:  # nobody is there, or has hung up
            return self._next(now)
        if data is None or self._query is None:
            return None
        outcome = wire.read(self._query, data)
        if outcome is None:
            # over UDP somebody else's, perhaps a forgery: the true one may still come
            return None if self._in is None else self._next(now)
        self._silence.heard(self._server)
        if outcome.answer is not None:
            self.close()
            return outcome.answer
        if outcome.truncated and self._in is None:
            return self._over_tcp(now)
        if outcome.without_edns and self._edns:
            self._edns = False
            return self._again(now)
        return self._next(now)

    def expire(self, now: float) -> Answer | None:
        """The server has not answered in time."""
        self._silence.note(self._server, now)
        return self._next(now)

    def close(self) -> None:
        """Give up. Idempotent."""
        if self._socket is not None:
            self._closing(self._socket.fileno())
            self._socket.close()
            self._socket = None

    # --- which server -----------------------------------------------------------------------------------------------

    def _next(self, now: float) -> Answer | None:
        """Ask the next server that can be reached."""
        self.close()
        for server in self._tries:
            try:
                if self._ask(server, now):
                    return None
            except wire.Unusable:
                return Answer(Status.NO_NAME, (), wire.LONGEST_NEGATIVE)
        return FAILED

    def _ask(self, server: Server, now: float) -> bool:
        self._query = wire.query(self.question, self._edns)
        self._server = server
        self._in = None
        self.wants = READ
        self.deadline = now + self._patience
        try:
            self._socket = _connected(server, socket.SOCK_DGRAM)
            self._socket.send(self._query.data)
        except OSError:
            self.close()
            return False
        return True

    def _again(self, now: float) -> Answer | None:
        """Ask the same server once more, in the form that it understands."""
        self.close()
        return None if self._ask(self._server, now) else self._next(now)

    # --- UDP --------------------------------------------------------------------------------------------------------

    def _receive(self) -> bytes:
        assert self._socket is not None
        return self._socket.recv(BIGGEST)

    # --- TCP (RFC 1035 4.2.2: two bytes of length before each message) ----------------------------------------------

    def _over_tcp(self, now: float) -> Answer | None:
        assert self._query is not None
        self.close()
        self.deadline = now + self._patience
        self._in = bytearray()
        self._out = len(self._query.data).to_bytes(2, "big") + self._query.data
        self.wants = WRITE
        try:
            self._socket = _connected(self._server, socket.SOCK_STREAM)
        except OSError:
            return self._next(now)
        return None

    def _converse(self) -> bytes | None:
        """Write what is left to write, read what is there: the response once it is complete."""
        assert self._socket is not None and self._in is not None
        if self._out:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "connect")
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except OSError as fault:
                if fault.errno == errno.ENOTCONN:  # called without need: still connecting
                    return None
                raise
            if not self._out:
                self.wants = READ
            return None
        data = self._socket.recv(LONGEST_ANSWER)
        if not data:
            raise OSError(errno.ECONNRESET, "closed")
        self._in += data
        if len(self._in) < 2:
            return None
        length = int.from_bytes(self._in[:2], "big")
        if length > LONGEST_ANSWER:
            raise OSError(errno.EMSGSIZE, "a response too long")
        if len(self._in) < 2 + length:
            return None
        return bytes(self._in[2 : 2 + length])


def _connected(server: Server, kind: int) -> socket.socket:
    """A socket that only ``server`` can be reached over, and that only it can reach; a stream may be connecting still."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    code = sock.connect_ex(server)
    if code not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(code, "connect")
    return sock
