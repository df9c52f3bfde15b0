"""A real server over TCP that answers without end, as fast as the client reads or slower."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

ASKED = b""
"""In the opening: wait until the client has sent something."""


class GreedyServer:
    """Each connection: the opening, then ``stream`` for ever. ``pause`` seconds lie between two pieces."""

    def __init__(
        self, stream: bytes | Callable[[], Iterator[bytes]], opening: Sequence[bytes] = (ASKED,), pause: float = 0
    ) -> None:
        self._stream = (lambda: itertools.repeat(stream)) if isinstance(stream, bytes) else stream
        self._opening = opening
        self._pause = pause
        self.sent = 0
        """Bytes that clients have taken."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for step in self._opening:
                if step:
                    connection.sendall(step)
                elif not connection.recv(65536):
                    return
            for piece in self._stream():
                if self._closed:
                    return
                connection.sendall(piece)
                self.sent += len(piece)
                time.sleep(self._pause)

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        for one in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
