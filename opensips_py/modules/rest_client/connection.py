"""One connection to an HTTP server, plain or TLS, without blocking."""

from __future__ import annotations

import ssl
from functools import lru_cache

from opensips_py.clients.stream import Stream
from opensips_py.engine.holding import READ_SIZE
from opensips_py.engine.operation import READ, WRITE
from opensips_py.modules.rest_client.url import Origin


class TlsSettings:
    """How servers are checked (process-wide, from the module's parameters)."""

    verify_peer: bool = True
    verify_host: bool = True
    ca_path: str = ""
    """Folder or file with trusted certificates; empty: the system's."""


tls_settings = TlsSettings()


@lru_cache(4)
def _context(verify_peer: bool, verify_host: bool, ca_path: str) -> ssl.SSLContext:
    if not ca_path:
        context = ssl.create_default_context()
    elif ca_path.endswith("/") or not ca_path.endswith((".pem", ".crt", ".cert")):
        context = ssl.create_default_context(capath=ca_path)
    else:
        context = ssl.create_default_context(cafile=ca_path)
    context.check_hostname = verify_peer and verify_host
    if not verify_peer:
        context.verify_mode = ssl.CERT_NONE
    return context


class _Tls:
    """A TLS session over memory: bytes in, bytes out."""

    __slots__ = ("done", "ended", "incoming", "outgoing", "session", "unsent")

    def __init__(self, host: str) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _context(tls_settings.verify_peer, tls_settings.verify_host, tls_settings.ca_path)
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.unsent = b""
        self.done = False
        self.ended = False
        """The server has said that it sends no more."""


class HttpConnection:
    """Connecting (with TLS where asked for), then one exchange at a time."""

    __slots__ = ("_tls", "idle_since", "origin", "ready", "stream", "uses")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.stream = Stream(origin.host, origin.port)
        self._tls = _Tls(origin.host) if origin.secure else None
        self.ready = False
        self.uses = 0
        """Exchanges so far: a connection that was kept may have been closed by the server meanwhile."""
        self.idle_since = 0.0

    @classmethod
    def adopt(cls, origin: Origin, fd: int) -> HttpConnection:
        """A plain connection of another process, in the middle of an exchange."""
        connection = cls(origin)
        connection.stream = Stream.adopt(fd)
        connection.ready = True
        connection.uses = 1
        return connection

    def fileno(self) -> int:
        """What to wait for."""
        return self.stream.fileno()

    @property
    def wants(self) -> int:
        """READ or WRITE, while connecting and for what TLS has still to send."""
        tls = self._tls
        if tls is not None and tls.unsent:
            return READ | WRITE
        return self.stream.wants

    def step(self) -> bool:
        """Go on with connecting. True when ready; OSError (also ssl.SSLError) when there will be no connection."""
        if not self.stream.step():
            return False
        tls = self._tls
        if tls is not None and not tls.done and not self._shake_hands(tls):
            return False
        self.ready = True
        if tls is None:  # TLS keys cannot be handed to another process
            self.stream.keep("http")
        return True

    def _shake_hands(self, tls: _Tls) -> bool:
        for _ in range(2):  # before and after what has come: a server that goes on and on gets no more of this turn
            try:
                tls.session.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(tls)
                if not self._fill(tls):
                    return False
            except ssl.SSLError:
                self._flush(tls)  # the alert that says why
                raise
            else:
                self._flush(tls)
                tls.done = True
                return True
        return False

    def _flush(self, tls: _Tls) -> None:
        """Send what TLS wants to send, as far as it goes."""
        if tls.outgoing.pending:
            tls.unsent += tls.outgoing.read()
        sock = self.stream.sock
        assert sock is not None
        while tls.unsent:
            try:
                tls.unsent = tls.unsent[sock.send(tls.unsent) :]
            except BlockingIOError:
                return

    def _fill(self, tls: _Tls) -> bool:
        """Take what has come. False when nothing has."""
        sock = self.stream.sock
        assert sock is not None
        try:
            data = sock.recv(READ_SIZE)
        except BlockingIOError:
            return False
        if data:
            tls.incoming.write(data)
        else:
            tls.incoming.write_eof()
        return True

    def send(self, data: memoryview) -> int:
        """Send; returns how much was taken. Raises BlockingIOError when nothing is, OSError when the connection is broken."""
        tls = self._tls
        if tls is None:
            assert self.stream.sock is not None
            return self.stream.sock.send(data)
        if tls.unsent:
            self._flush(tls)
            if tls.unsent:
                raise BlockingIOError
        count = tls.session.write(data[:READ_SIZE])
        self._flush(tls)
        return count

    def receive(self) -> bytes:
        """A portion of what has come; empty at the end. Raises BlockingIOError when there is nothing, OSError when it is broken.

        Nothing is left behind that the descriptor would not tell of, but the end (:attr:`ended`).
        """
        tls = self._tls
        if tls is None:
            assert self.stream.sock is not None
            return self.stream.sock.recv(READ_SIZE)
        if tls.unsent:
            self._flush(tls)
        if tls.ended:
            return b""
        if not self._fill(tls):
            raise BlockingIOError
        return self._decrypted(tls)

    @staticmethod
    def _decrypted(tls: _Tls) -> bytes:
        """All that the last portion gives."""
        parts: list[bytes] = []
        try:
            while True:
                data = tls.session.read(READ_SIZE)
                if not data:
                    tls.ended = True
                    break
                parts.append(data)
        except ssl.SSLWantReadError:
            if not parts:
                raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            tls.ended = True
        except ssl.SSLError:
            if not parts:
                raise
            tls.ended = True  # cut off: what was there before it counts
        return b"".join(parts)

    @property
    def ended(self) -> bool:
        """The end has come with the last portion: there is nothing more to wait for."""
        return self._tls is not None and self._tls.ended

    @property
    def flushed(self) -> bool:
        """Nothing waits to be sent below :meth:`send`."""
        return self._tls is None or not self._tls.unsent

    @property
    def secure(self) -> bool:
        """It is a TLS connection."""
        return self._tls is not None
