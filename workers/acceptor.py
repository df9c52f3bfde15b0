"""Accepting connections: all receivers watch the listening sockets, and share out what comes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import partial

from ipc.mailbox import Mailboxes
from opensips_py.net.tcp import ACCEPTED, connections_of, receivers, takes_work
from opensips_py.script.context import ListenSocket
from opensips_py.server.log import ERROR, log
from opensips_py.server.process import this
from opensips_py.server.traffic import refused_connections
from workers.reactor import EpollReactor

BURST = 16
"""Connections accepted per wake-up."""
PAUSE_SECONDS = 0.5
"""For how long nothing is accepted when there are no descriptors left."""
COMPLAINT_SECONDS = 1.0
"""Between two log lines that say that there are too many connections."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

OnAccept = Callable[[socket.socket, tuple[str, int], ListenSocket], None]


class Acceptor:
    """The listening sockets, as one receiver sees them."""

    def __init__(
        self, listeners: list[tuple[socket.socket, ListenSocket]], reactor: EpollReactor, boxes: Mailboxes, accepted: OnAccept
    ) -> None:
        """``accepted`` is called with what stays in this process."""
        self._listeners, self._reactor, self._boxes, self._accepted = listeners, reactor, boxes, accepted
        self._receivers = receivers()
        self._watching = False
        self._complained = 0.0

    def start(self) -> None:
        """Begin to accept, or begin again."""
        if self._watching or this.draining:
            return
        self._watching = True
        for sock, listen in self._listeners:
            self._reactor.add_shared(sock.fileno(), partial(self._accept, sock, listen))

    def stop(self) -> None:
        """Leave new connections to others, or to nobody."""
        if self._watching:
            self._watching = False
            for sock, _ in self._listeners:
                self._reactor.remove(sock.fileno())

    def is_full(self) -> bool:
        """Whether the server has all the connections that it may have, which is then logged."""
        limit = this.program.settings.tcp_max_connections
        if sum(max(this.counters.status(slot).connections, 0) for slot in self._receivers) < limit:
            return False
        now = this.clock.now()
        if now - self._complained >= COMPLAINT_SECONDS:
            self._complained = now
            log(ERROR, "core", "tcp", f"maximum number of connections exceeded: {limit} (tcp_max_connections)")
        return True

    def _has_too_many(self, host: str) -> bool:
        """Whether one address has all the connections that it may have, which is then logged."""
        settings = this.program.settings
        limit = settings.tcp_max_connections_per_source
        if limit is None:
            limit = max(1, settings.tcp_max_connections // 2)
        if not limit or connections_of(host) < limit:
            return False
        log(ERROR, "core", "tcp", f"{host} has {limit} connections already (tcp_max_connections_per_source)")
        return True

    def _accept(self, listener: socket.socket, listen: ListenSocket, events: int) -> None:
        for _ in range(BURST):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    continue  # that peer has gone already
                log(ERROR, "core", "handle_new_connect", f"cannot accept connections: {error.strerror}")
                self.stop()
                self._reactor.call_at(this.clock.now() + PAUSE_SECONDS, self.start)
                return
            if self.is_full() or self._has_too_many(address[0]):
                refused_connections.add()
                sock.close()
            else:
                sock.setblocking(False)
                self._place(sock, address[:2], listen)

    def _place(self, sock: socket.socket, address: tuple[str, int], listen: ListenSocket) -> None:
        """Give a new connection to the receiver that has the fewest, if it is not stuck."""

        def rank(slot: int) -> tuple[bool, int, bool]:
            return not takes_work(slot), this.counters.status(slot).connections, slot != this.slot

        slot = min(self._receivers, key=rank)
        if slot != this.slot and takes_work(slot):
            packet = ACCEPTED + listen.name.encode("latin-1")
            if self._boxes.post(slot, packet, [sock.fileno()]):
                sock.close()
                return
        self._accepted(sock, address, listen)
