"""A TCP relay in front of a real server, which can refuse, cut and count connections."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

from opensips_py.server.process import this


class TcpRelay:
    """Passes bytes on between clients and ``target``, on a thread. Change the attributes at any time."""

    def __init__(self, target: tuple[str, int], port: int = 0) -> None:
        self.target = target
        self.refusing = False
        """New connections are reset, after ``patience`` seconds."""
        self.patience = 0.0
        self.cut = 0
        """How many times what a client sends next is thrown away, and its connection closed."""
        self.accepted = 0
        """Connections so far."""
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._doomed: list[tuple[float, socket.socket]] = []
        self._ending = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending:
            ready, _, _ = select.select([self._listener, *self._pairs], [], [], 0.01)
            for sock in ready:
                if sock is self._listener:
                    self._accept()
                elif sock in self._pairs:
                    self._pass_on(sock)
            while self._doomed and self._doomed[0][0] <= this.clock.now():
                sock = self._doomed.pop(0)[1]
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        if self.refusing:
            self._doomed.append((this.clock.now() + self.patience, client))
            return
        server = socket.create_connection(self.target)
        self._pairs[client], self._pairs[server] = server, client
        self._clients.add(client)

    def _pass_on(self, sock: socket.socket) -> None:
        other = self._pairs[sock]
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(65536)
        cut = bool(data) and self.cut > 0 and sock in self._clients
        if not data or cut:
            self.cut -= cut
            for one in (sock, other):
                self._pairs.pop(one, None)
                self._clients.discard(one)
                one.close()
            return
        with contextlib.suppress(OSError):
            other.sendall(data)

    def close(self) -> None:
        """End it, with all its connections."""
        self._ending = True
        self._thread.join(5)
        for sock in (self._listener, *self._pairs, *(sock for _, sock in self._doomed)):
            sock.close()
