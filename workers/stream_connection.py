"""One connection: reading messages from it, writing messages to it, its end.

Whatever its peer does, nobody waits for it: what the kernel does not take at once waits in a bounded queue; what is half a
message has a limit in bytes, in pieces and in time. A failure is never reported from within a send: the sender may hold the very
transaction that the failure is about.

The process may die at any time. Its connections then go on in another one, because the attendant holds duplicates of
their descriptors, and what has been read and not been processed yet lies in the shared store. Only a message that is half
written cannot be gone on with: while there is one, the attendant has no duplicate, and the peer sees the connection end.

Framing is the framer's, bytes come and go through :meth:`Connection.read` and :meth:`Connection.write`: what TLS and
WebSocket have to replace.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from enum import IntEnum
from typing import Any, Protocol

from ipc.store import StoreError
from opensips_py.engine.operation import READ, WRITE
from opensips_py.net.tcp import FD_KEY, Row, forget_rest, processed_key, rest_key, tuning
from opensips_py.script.context import ListenSocket
from opensips_py.server.log import NOTICE, WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.framing import PING, PONG, Framer, FramingError
from opensips_py.tm.receive import receive_message, refuse

CHUNK = 65536
"""Bytes read at a time."""
MAX_WAITING_BYTES = 1 << 20
"""Bytes that may wait for one peer, in the kernel's buffer not counted."""
FORMER = -1
"""A former owner of the connection has stored what it had not processed."""
TURN_SECONDS = 0.005
"""For how long messages of one connection are processed while others wait for their turn."""
BACKGROUND_CONNECT = 10.0
"""Seconds for opening a connection when the script does not say (with tcp_async OpenSIPS has no limit of its own)."""


class State(IntEnum):
    """Numbers are those of OpenSIPS (``list_tcp_conns``)."""

    CLOSED = -1
    OPEN = 0
    CONNECTING = 1


class Owner(Protocol):
    """What has all connections of this process."""

    def closed(self, connection: Connection, unsent: list[bytes], retry: bool) -> None:
        """A connection has ended with these messages not sent; ``retry``: another one to the same peer may do."""

    def failed(self, data: bytes) -> None:
        """A message could not be delivered. Acts later, not from within."""


class _Waiting:
    """A message that the kernel has not taken completely."""

    __slots__ = ("data", "since", "written")

    def __init__(self, data: bytes, written: int) -> None:
        self.data, self.written = data, written
        self.since = this.clock.now()


class _All:
    """All connections of this process."""

    waiting_bytes = 0


class Connection:
    """A connection that this process owns (implements ``net.tcp.LocalConnection``)."""

    __slots__ = (
        "_begun",
        "_busy",
        "_framer",
        "_kept",
        "_owner",
        "_saved",
        "_saved_at",
        "_spare",
        "_timer",
        "_waiting",
        "_waiting_bytes",
        "accepted",
        "active",
        "address",
        "fd",
        "keep_until",
        "keys",
        "last_try",
        "listen",
        "number",
        "sock",
        "state",
    )

    def __init__(
        self, owner: Owner, number: int, sock: socket.socket, listen: ListenSocket, address: tuple[str, int], *, accepted: bool
    ) -> None:
        self._owner = owner
        self.number = number
        self.sock = sock
        self.fd = sock.fileno()
        self.listen = listen
        self.address = address
        self.accepted = accepted
        self.state = State.CONNECTING
        self.keys: list[bytes] = []
        """Addresses that it is known by in the store."""
        self.last_try = False
        """It carries messages for which another connection has broken already."""
        self.active = this.clock.now()
        """When something was read or written last."""
        self.keep_until = 0.0
        """It is not closed before that time for being idle."""
        self._framer = Framer()
        self._begun = 0.0
        """When the unfinished message at the front began to arrive; 0: there is none."""
        self._busy = False
        """Messages that have been read wait for the next turn."""
        self._saved = 0
        """Bytes received when what was left of them was stored last; 0: nothing is stored."""
        self._saved_at = 0
        """Bytes that had been processed then."""
        self._kept = False
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._spare = 0
        """Messages that may wait beyond the limit: those that came while it was being opened, until they are written."""
        self._timer: Any = None

    # --- its beginning ------------------------------------------------------------------------------------------

    def open(self, rest: bytes = b"") -> None:
        """It is established. ``rest``: what a former owner has read and not processed."""
        self.state = State.OPEN
        set_options(self.sock)
        this.reactor.add(self.fd, READ, self._event)
        self._keep()
        if rest:
            self._framer = Framer(rest)
            self._framer.chunks = 1
            self._saved = FORMER
            self._busy = True
            this.reactor.call_soon(self._go_on)

    def connect(self, seconds: float) -> None:
        """Wait until the connection is established, at most so long."""
        this.reactor.add(self.fd, WRITE, self._event)
        self._timer = this.reactor.call_at(this.clock.now() + seconds, lambda: self.end("no connection in time", retry=False))

    def _connected(self) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.end(os.strerror(code), retry=False)
            return
        try:
            self.sock.getpeername()
        except OSError:
            return  # an event of another connection that had this descriptor
        self._stop_timer()
        this.reactor.remove(self.fd)
        self.active = this.clock.now()
        self.open()
        self._spare = len(self._waiting)
        self._flush()

    # --- the attendant's duplicate ------------------------------------------------------------------------------

    @property
    def fd_key(self) -> str:
        """Its name in the attendant's fd store."""
        return f"{FD_KEY}:{this.slot}:{this.incarnation}:{self.number}"

    def _keep(self) -> None:
        if not self._kept:
            self._kept = True
            this.fd_keeper.keep(self.fd_key, [self.fd])

    def _let_go(self) -> None:
        if self._kept:
            self._kept = False
            this.fd_keeper.drop(self.fd_key)

    def adopted(self) -> None:
        """The attendant has given it to this process, and holds the duplicate already."""
        self._kept = True

    # --- reading ------------------------------------------------------------------------------------------------

    def _event(self, events: int) -> None:
        if self.state is State.CONNECTING:
            self._connected()
            return
        if events & WRITE and self._waiting:
            self._flush()
        if events & READ and self.state is State.OPEN and not self._busy:
            self._readable()

    def _readable(self) -> None:
        try:
            data = self.read()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.end(error.strerror or "cannot be read", retry=True)
            return
        if not data:
            self.end("closed by the peer", retry=True)
            return
        self.active = this.clock.now()
        self._framer.receive(data)
        self._process()

    def read(self) -> bytes:
        """Bytes that have come; empty at the end."""
        return self.sock.recv(CHUNK)

    def _process(self) -> None:
        """Process the messages that are complete, and let others have their turn between them."""
        framer, address, listen = self._framer, self.address, self.listen
        end = 0.0
        while self.state is State.OPEN:
            try:
                message = framer.next()
            except FramingError as error:
                self._malformed(error)
                return
            if message is None:
                break
            if message is PING:
                if tuning.answer_pings:
                    self.send(PONG)
            else:
                self._begun = 0.0
                if framer.left:
                    self._save()
                this.reactor.beside = self._process  # the messages after it do not wait for its script
                receive_message(message, address, listen)
                this.reactor.beside = None
            if framer.left:
                now = this.clock.now()
                if not end:
                    end = now + TURN_SECONDS
                elif now >= end:
                    if not self._busy:
                        self._busy = True
                        this.reactor.call_soon(self._go_on)
                    return
        if self.state is not State.OPEN:
            return
        if framer.unfinished:
            self._half_message()
        elif self._saved:
            self._begun = 0.0
            self._forget_rest()

    def _go_on(self) -> None:
        self._busy = False
        if self.state is State.OPEN:
            self._process()

    def _half_message(self) -> None:
        framer = self._framer
        if framer.chunks > tuning.max_chunks:
            self.end(f"a message in more than {tuning.max_chunks} pieces (tcp_max_msg_chunks)", retry=True)
            return
        self._begun = self._begun or self.active
        self._save()

    def _malformed(self, error: FramingError) -> None:
        """Messages cannot be told apart any more: answer this one if it can be, and hang up (RFC 3261 18.3)."""
        refuse(error.head, error.code, error.reason, self.address, self.listen)
        self.end(error.reason, retry=True)

    def _save(self) -> None:
        """Store what has not been processed: whole when something has been read since, else how much of it has been processed."""
        framer = self._framer
        processed = framer.received - framer.left
        if this.store.is_filling:
            return  # it will be lost if this process dies
        try:
            if self._saved == framer.received:
                this.store.put(processed_key(self.number), (processed - self._saved_at).to_bytes(4, "big"))
                return
            with this.store.batch() as batch:
                batch.put(rest_key(self.number), framer.rest)
                batch.delete(processed_key(self.number))
        except StoreError:
            return  # it will be lost if this process dies
        self._saved, self._saved_at = framer.received, processed

    def _forget_rest(self) -> None:
        self._saved = 0
        with this.store.batch() as batch:
            forget_rest(batch, self.number)

    # --- writing ------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send now, or when the peer takes it."""
        written = 0
        if self.state is State.OPEN and not self._waiting:
            try:
                written = self.write(data)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError as error:
                self._waiting.append(_Waiting(data, 0))
                self._end_later(error.strerror or "cannot be written")
                return
            if written == len(data):
                self.active = this.clock.now()
                return
            this.reactor.modify(self.fd, READ | WRITE)
            self._let_go()
            self._begin_wait()
        elif self.state is State.CLOSED:
            self._owner.failed(data)
            return
        elif self._is_full(len(data)):
            if self.state is State.CONNECTING:
                self._owner.failed(data)
            else:
                self._waiting.append(_Waiting(data, 0))
                self._end_later(f"{len(self._waiting) - 1} messages wait for the peer already", retry=False)
            return
        self._waiting.append(_Waiting(data, written))
        self._count(len(data))

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait for the connection to be established, or for the peer to read."""
        return bool(self._waiting)

    def write(self, data: bytes | memoryview[int]) -> int:
        """Give bytes to the kernel; how many it has taken."""
        return self.sock.send(data)

    def _is_full(self, more: int) -> bool:
        if tuning.asynchronous and self.state is State.OPEN and len(self._waiting) - self._spare >= tuning.max_waiting:
            return True
        return self._waiting_bytes + more > MAX_WAITING_BYTES or _All.waiting_bytes + more > tuning.max_waiting_memory

    def _count(self, more: int) -> None:
        """So many bytes more wait for the peer, or less."""
        self._waiting_bytes += more
        _All.waiting_bytes += more

    def _begin_wait(self) -> None:
        if not tuning.asynchronous and self._timer is None:
            self._timer = this.reactor.call_at(this.clock.now() + tuning.send_timeout, self._too_slow)

    def _too_slow(self) -> None:
        self.end(f"the peer has read nothing for {tuning.send_timeout * 1000:.0f} ms (tcp_send_timeout)", retry=False)

    def _flush(self) -> None:
        """Write what waits, as far as the kernel takes it."""
        waiting = self._waiting
        while waiting:
            first = waiting[0]
            try:
                first.written += self.write(memoryview(first.data)[first.written :])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.end(error.strerror or "cannot be written", retry=True)
                return
            self.active = this.clock.now()
            self._stop_timer()
            if first.written < len(first.data):
                break
            self._report_slow(first)
            self._count(-len(first.data))
            waiting.popleft()
            self._spare = max(0, self._spare - 1)
        if waiting:
            self._let_go()
            self._begin_wait()
            this.reactor.modify(self.fd, READ | WRITE)
        else:
            this.reactor.modify(self.fd, READ)
            self._keep()

    def _report_slow(self, message: _Waiting) -> None:
        threshold = this.program.settings.tcp_threshold
        took = (this.clock.now() - message.since) * 1e6
        if threshold and took > threshold:
            to = f"{self.address[0]}:{self.address[1]}"
            log(WARNING, "core", "log_expiry", f"threshold exceeded : tcp took too long - {took:.0f} us. Destination : {to}")

    # --- its end ------------------------------------------------------------------------------------------------

    def look_after(self, now: float, lifetime: float, message_time: float) -> None:
        """End it when it is idle, or a message takes too long."""
        if self.state is not State.OPEN:
            return
        if self._begun and now - self._begun > message_time:
            self.end(f"a message that is not whole after {message_time:.0f} s (tcp_max_msg_time)", retry=True)
        elif now - self.active > lifetime and now > self.keep_until:
            self.end("idle", retry=False, quiet=True)

    def ends_at(self, lifetime: float) -> float:
        """When it is closed if nothing moves until then."""
        return max(self.active + lifetime, self.keep_until)

    def prolong(self, seconds: float) -> None:
        """Keep it open for so long."""
        self.keep_until = max(self.keep_until, this.clock.now() + seconds)
        row = self.row()
        try:
            with this.store.batch() as batch:
                for key in self.keys:
                    batch.put(key, row)
        except StoreError:
            return  # another process would not know it, should this one die

    def add_key(self, key: bytes) -> None:
        """It is known by one more address."""
        if key not in self.keys:
            self.keys.append(key)

    def row(self) -> bytes:
        """What stands under its addresses in the store."""
        return Row(this.slot, this.incarnation, self.number, self.accepted, self.keep_until).pack()

    def _end_later(self, reason: str, retry: bool = True) -> None:
        """End it, but not from within a send: nobody is told before the sender has finished."""
        this.reactor.call_soon(lambda: self.end(reason, retry))

    def end(self, reason: str, retry: bool, quiet: bool = False) -> None:
        """Close it. ``retry``: what could not be sent may be tried over another connection."""
        if self.state is State.CLOSED:
            return
        was_open = self.state is State.OPEN
        self.state = State.CLOSED
        self._stop_timer()
        this.reactor.remove(self.fd)
        self._let_go()
        if self._saved:
            self._forget_rest()
        if self._waiting or not (quiet or reason == "closed by the peer"):
            level = NOTICE if was_open and not self._waiting else WARNING
            log(level, "proto_tcp", "tcp_conn", f"{self.address[0]}:{self.address[1]}: {reason}")
        try:
            self.sock.shutdown(socket.SHUT_RDWR)  # the attendant's duplicate may live a little longer
        except OSError:
            pass  # the peer was faster
        self.sock.close()
        unsent = [message.data for message in self._waiting]
        self._waiting.clear()
        self._count(-self._waiting_bytes)
        self._owner.closed(self, unsent, retry and was_open)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            this.reactor.cancel(self._timer)
            self._timer = None


def set_options(sock: socket.socket) -> None:
    """Socket options of every connection: no delay, and the keep-alive that the script asks for."""
    settings = this.program.settings
    level = socket.IPPROTO_TCP
    sock.setsockopt(level, socket.TCP_NODELAY, 1)
    if not settings.tcp_keepalive:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, settings.tcp_keepidle),
        (socket.TCP_KEEPINTVL, settings.tcp_keepinterval),
        (socket.TCP_KEEPCNT, settings.tcp_keepcount),
    ):
        if value:
            sock.setsockopt(level, option, value)
