"""A TCP receiver: accepts and opens connections, and runs the script over what comes on them.

What other processes want sent comes by the mailbox (:mod:`opensips_py.net.tcp`), and so do connections that another
receiver has accepted for this one, and those of a receiver that has died.
"""

from __future__ import annotations

import errno
import itertools
import socket
import time
from functools import partial
from typing import Any

from ipc.mailbox import Mailboxes
from ipc.store import StoreError
from opensips_py.net import tcp as names
from opensips_py.net.tcp import (
    ACCEPTED,
    ADOPT,
    ALIAS,
    PROLONG,
    SEND,
    Adopt,
    Outgoing,
    find,
    is_reply,
    key_of,
    opener,
    post,
    streams,
    tuning,
)
from opensips_py.script.context import ListenSocket
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.errors import ParseError
from opensips_py.sip.message import parse
from opensips_py.tm.transport_errors import not_sent
from workers.acceptor import Acceptor
from workers.child import Child
from workers.sip_receiver import drain, handed_over
from workers.sockets import set_type_of_service
from workers.stream_connection import BACKGROUND_CONNECT, Connection

PACKET_BURST = 64
"""Packets taken from the mailbox per wake-up."""
LOOK_SECONDS = 0.5
"""How often connections are looked at that may have become idle, or have half a message."""
MAX_HOPS = 3
"""Owners that one message is handed to: connections may move while it is under way."""

_IP_BIND_ADDRESS_NO_PORT = 24


def main(child: Child) -> None:
    """Body of a TCP receiver."""
    boxes = child.shared.mailboxes
    assert boxes is not None
    receiver = TcpReceiver(child, boxes)
    child.fd_line.on_hand_over = handed_over
    receiver.start()

    def stop() -> None:
        receiver.acceptor.stop()
        drain(child, receiver.has_work)

    child.watch_termination(stop)
    child.ready()
    try:
        child.reactor.run()
    finally:
        receiver.close()


class TcpReceiver:
    """All connections of this process (implements ``net.tcp.LocalConnections``)."""

    def __init__(self, child: Child, boxes: Mailboxes) -> None:
        self._reactor = child.reactor
        self._status = child.status
        self._boxes = boxes
        listeners = [(child.shared.handles[listen.index], listen) for listen in child.shared.sockets if listen.proto == "tcp"]
        self.acceptor = Acceptor(listeners, child.reactor, boxes, self._accepted)
        self._numbers = itertools.count((this.incarnation << 40) + (this.slot << 24) + 1)
        self.here: dict[bytes, Connection] = {}
        self.by_number: dict[int, Connection] = {}
        self._looking = False

    def start(self) -> None:
        """Begin to serve."""
        self._status.connections = 0
        streams.local = self
        self._reactor.add(self._boxes.fileno(this.slot), 1, self._packets)
        self.acceptor.start()

    def close(self) -> None:
        """The process ends: hang up."""
        for connection in list(self.by_number.values()):
            connection.end("the server stops", retry=False, quiet=True)

    def has_work(self) -> bool:
        """Whether there is something to send, or has just come from another process."""
        return self._boxes.has_mail(this.slot) or any(connection.has_unsent for connection in self.by_number.values())

    # --- new connections ----------------------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket, address: tuple[str, int], listen: ListenSocket) -> None:
        connection = Connection(self, next(self._numbers), sock, listen, address, accepted=True)
        if self._register(connection, key_of(listen.name, *address)):
            connection.open()

    def _register(self, connection: Connection, key: bytes) -> bool:
        """Make a connection known. False: there is no room for it, and it is closed."""
        try:
            this.store.put(key, connection.row())
        except StoreError as error:
            log(ERROR, "core", "tcp", f"{_printed(*connection.address)}: {error}")
            connection.sock.close()
            return False
        connection.keys.append(key)
        self.here[key] = connection
        self.by_number[connection.number] = connection
        self._status.connections += 1
        self._watch()
        return True

    # --- the mailbox --------------------------------------------------------------------------------------------

    def _packets(self, events: int) -> None:
        for _ in range(PACKET_BURST):
            packet = self._boxes.receive(this.slot)
            if packet is None:
                return
            self._packet(*packet)

    def _packet(self, data: bytes, fds: list[int]) -> None:
        kind, rest = data[:1], data[1:]
        if kind == SEND:
            self.deliver(names.decode_outgoing(rest))
        elif kind == ACCEPTED and fds:
            sock = socket.socket(fileno=fds[0])
            try:
                address = sock.getpeername()[:2]
            except OSError:  # gone again
                sock.close()
                return
            self._accepted(sock, address, this.sockets_by_name[rest.decode("latin-1")])
        elif kind == ADOPT:
            self._adopt(names.decode_adopt(rest), fds)
        elif kind == ALIAS:
            alias = names.decode_alias(rest)
            if (connection := self.by_number.get(alias.number)) is not None:
                self._add_key(connection, alias.key)
            else:
                this.store.delete(alias.key)
        elif kind == PROLONG:
            wish = names.decode_prolong(rest)
            if (connection := self.here.get(key_of(wish.socket, wish.host, wish.port))) is not None:
                connection.prolong(wish.seconds)

    def _add_key(self, connection: Connection, key: bytes) -> None:
        connection.add_key(key)
        self.here.setdefault(key, connection)

    # --- sending ------------------------------------------------------------------------------------------------

    def deliver(self, message: Outgoing) -> None:
        """Send a message: here, or through the owner of its connection, or over a new connection."""
        key = key_of(message.socket, message.host, message.port)
        connection = self.here.get(key)
        if connection is not None:
            self._send(connection, message)
            return
        found = find(key)
        if found is not None:
            key, row = found
            message.socket = names.address_of(key)[0]
            if row.number in self.by_number:  # known by an alias
                self._add_key(self.by_number[row.number], key)
                self._send(self.by_number[row.number], message)
                return
            if row.slot != this.slot and self._pass_on(row.slot, message):
                return
            if row.slot == this.slot:
                this.store.delete(key)  # a connection that has ended
        if is_reply(message.data) and (other := _other_way(message)) is not None:
            self.deliver(other)
            return
        if message.only_open:
            self.failed(message.data)
            return
        slot = opener(key)
        if slot == this.slot or not self._pass_on(slot, message):
            self._open(key, message)

    def _pass_on(self, slot: int, message: Outgoing) -> bool:
        if message.hops >= MAX_HOPS:
            return False
        message.hops += 1
        return post(slot, SEND, message)

    def _open(self, key: bytes, message: Outgoing) -> None:
        """Open the connection for a message."""
        if self.acceptor.is_full():
            self.failed(message.data)
            return
        listen = this.sockets_by_name[message.socket]
        try:
            sock = _connect(listen, message.host, message.port)
        except OSError as error:
            log(WARNING, "proto_tcp", "tcp_connect", f"{message.host}:{message.port}: {error.strerror}")
            self.failed(message.data)
            return
        connection = Connection(self, next(self._numbers), sock, listen, (message.host, message.port), accepted=False)
        if not self._register(connection, key):
            self.failed(message.data)
            return
        connection.connect(_connect_seconds())
        self._send(connection, message)

    @staticmethod
    def _send(connection: Connection, message: Outgoing) -> None:
        connection.last_try |= message.again
        connection.send(message.data)

    def failed(self, data: bytes) -> None:
        """A message could not be delivered."""
        self._reactor.call_soon(lambda: not_sent(data))

    # --- the end of connections ---------------------------------------------------------------------------------

    def closed(self, connection: Connection, unsent: list[bytes], retry: bool) -> None:
        """A connection has ended."""
        del self.by_number[connection.number]
        self._status.connections -= 1
        with this.store.batch() as batch:
            for key in connection.keys:
                if self.here.get(key) is connection:
                    del self.here[key]
                value = batch.get(key)
                if value is not None and names.read_row(value).number == connection.number:
                    batch.delete(key)
        host, port = connection.address
        for data in unsent:
            if retry and not connection.last_try and not this.draining and (not connection.accepted or is_reply(data)):
                message = Outgoing(connection.listen.name, host, port, data, again=True)
                self._reactor.call_soon(partial(self.deliver, message))
            else:
                self.failed(data)

    def _watch(self) -> None:
        if not self._looking:
            self._looking = True
            self._reactor.call_at(this.clock.now() + LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = False
        settings = this.program.settings
        now = this.clock.now()
        for connection in list(self.by_number.values()):
            connection.look_after(now, settings.tcp_connection_lifetime, settings.tcp_max_msg_time)
        if self.by_number:
            self._watch()

    # --- connections of the dead --------------------------------------------------------------------------------

    def _adopt(self, given: Adopt, fds: list[int]) -> None:
        """Go on with a connection whose owner has died."""
        if not fds:
            return
        sock = socket.socket(fileno=fds[0])
        if given.incarnation != this.incarnation:  # it was given to this one's predecessor, and is given again
            sock.close()
            return
        sock.setblocking(False)
        listen = this.sockets_by_name[names.address_of(given.keys[0])[0]]
        try:
            address = sock.getpeername()[:2]
        except OSError:  # the peer has hung up meanwhile: the connection ends as soon as it is read
            address = names.address_of(given.keys[0])[1:]
        own = key_of(listen.name, *address)
        connection = Connection(self, given.number, sock, listen, address, accepted=given.accepted)
        connection.adopted()
        connection.keep_until = given.keep_until
        if not self._register(connection, own):
            this.fd_keeper.drop(connection.fd_key)
            return
        for key in given.keys:
            if key != own:
                self._add_key(connection, key)
                this.store.put(key, connection.row())
        connection.open(names.stored_rest(given.number))

    # --- management ---------------------------------------------------------------------------------------------

    def describe(self) -> list[dict[str, Any]]:
        """What ``list_tcp_conns`` shows of this process."""
        return [self._description(connection) for connection in self.by_number.values()]

    @staticmethod
    def _description(connection: Connection) -> dict[str, Any]:
        ends = connection.ends_at(this.program.settings.tcp_connection_lifetime) - this.clock.now() + this.clock.wall()
        told: dict[str, Any] = {
            "ID": connection.number,
            "Type": connection.listen.proto,
            "State": int(connection.state),
            "Remote": _printed(*connection.address),
            "Local": _printed(*connection.sock.getsockname()[:2]),
            "Lifetime": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ends)),
            "Process": this.slot,
        }
        ports = [names.address_of(key)[2] for key in connection.keys[1:]]
        if ports:  # OpenSIPS repeats the name, which few readers of JSON can tell apart
            told["Alias port"] = ports[0] if len(ports) == 1 else ports
        return told


def _printed(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _connect_seconds() -> float:
    settings = this.program.settings
    if tuning.asynchronous and "tcp_connect_timeout" not in settings.given:
        return BACKGROUND_CONNECT
    return float(settings.tcp_connect_timeout) / 1000


def _connect(listen: ListenSocket, host: str, port: int) -> socket.socket:
    """Begin to open a connection from the address of a listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # many connections to different peers may share one local port
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        set_type_of_service(sock, this.program.settings.tos)
        sock.bind((listen.host, 0))
        code = sock.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, f"connection failed: {errno.errorcode.get(code, code)}")
    except OSError:
        sock.close()
        raise
    return sock


def _other_way(message: Outgoing) -> Outgoing | None:
    """The connection of a request has gone: its replies go to the address in the Via (RFC 3261 18.2.2)."""
    try:
        via = parse(message.data).via
    except ParseError:
        return None
    host = via.received or via.address
    try:
        key_of(message.socket, host, via.effective_port)
    except OSError:  # a name: then the address that the request came from
        host = message.host
    if (host, via.effective_port) == (message.host, message.port):
        return None
    return Outgoing(message.socket, host, via.effective_port, message.data, message.only_open, message.hops, message.again)
