"""A SIP user agent over TCP that a test drives by hand: as :class:`SipClient`, over a connection."""

from __future__ import annotations

import socket
from collections import deque

from opensips_py.server.process import this
from opensips_py.sip.framing import PING, PONG, Framer
from tests.support.sip_client import Message, SipClient


class Closed(AssertionError):
    """The server has closed the connection."""


class SipStream(SipClient):
    """One connection. Texts that name UDP in Via are sent with TCP."""

    def __init__(
        self,
        server: tuple[str, int] | None = None,
        *,
        ip: str = "127.0.0.1",
        port: int = 0,
        accepted: socket.socket | None = None,
    ) -> None:
        if accepted is None:
            self.socket = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((ip, port))
            assert server is not None
            self.socket.settimeout(10)
            self.socket.connect(server)
        else:
            self.socket = accepted
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ip, self.port = self.socket.getsockname()[:2]
        self.server = server
        self.sent = {}
        self._framer = Framer()
        self._messages: deque[bytes] = deque()
        self.pongs = 0
        """Single line ends that have come between messages."""

    def render(self, text: str, **given: str) -> bytes:
        """A text with its place holders filled in, as bytes."""
        return super().render(text.replace("SIP/2.0/UDP", "SIP/2.0/TCP"), **given)

    def send_raw(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        self.socket.sendall(data)

    def receive(self, seconds: float = 10) -> Message:
        """The next message; AssertionError when none comes, :class:`Closed` at the end of the connection."""
        end = this.clock.now() + seconds
        while not self._messages:
            self._read(end, seconds)
        return Message(self._messages.popleft().decode("latin-1"), self.socket.getpeername()[:2], this.clock.now())

    def _read(self, end: float, seconds: float) -> None:
        self.socket.settimeout(max(0.001, end - this.clock.now()))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError(f"no message within {seconds} s") from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed("the connection has ended")
        self._framer.receive(data)
        while (message := self._framer.next()) is not None:
            if message is PING:
                self.pongs += 2
            else:
                self._messages.append(message)
        if self._framer.rest == PONG:
            self.pongs += 1
            self._framer = Framer()

    def pong(self, seconds: float = 10) -> None:
        """Wait for the answer to a keep-alive."""
        before, end = self.pongs, this.clock.now() + seconds
        while self.pongs == before:
            self._read(end, seconds)

    def closed(self, seconds: float = 10) -> None:
        """Assert that the server closes the connection; what comes before is passed over."""
        end = this.clock.now() + seconds
        while True:
            self.socket.settimeout(max(0.001, end - this.clock.now()))
            try:
                if not self.socket.recv(65536):
                    return
            except TimeoutError:
                raise AssertionError(f"the connection is still open after {seconds} s") from None
            except ConnectionResetError:
                return

    def nothing(self, seconds: float = 0.3) -> None:
        """Assert that no message comes, and that the connection stays open."""
        try:
            message = self.receive(seconds)
        except Closed:
            raise
        except AssertionError:
            return
        raise AssertionError(f"unexpected message:\n{message.raw}")


class StreamListener:
    """A port that takes connections: a callee over TCP."""

    def __init__(self, ip: str = "127.0.0.1", port: int = 0, backlog: int = 16) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((ip, port))
        self.socket.listen(backlog)
        self.ip, self.port = self.socket.getsockname()[:2]
        self.connections: list[SipStream] = []

    def accept(self, seconds: float = 10) -> SipStream:
        """The next connection; AssertionError when none comes."""
        self.socket.settimeout(seconds)
        try:
            accepted, _ = self.socket.accept()
        except TimeoutError:
            raise AssertionError(f"no connection within {seconds} s") from None
        self.connections.append(SipStream(accepted=accepted))
        return self.connections[-1]

    def close(self) -> None:
        self.socket.close()
        for connection in self.connections:
            connection.close()
