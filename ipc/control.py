"""The control channel: commands between the attendant and the other processes, and answers to them.

The attendant has a ROUTER (:class:`ControlHub`), every other process a DEALER (:class:`ControlLine`) whose identity is
its slot, on a Unix socket in the run directory. Messages are MessagePack. Both ends are created after the fork, live in
their process' reactor and never block. It is for control only: a round trip costs 15 µs, so nothing per SIP message
goes this way.

A process may send a command to the attendant, or, through it, to another process, or to all at once (the attendant gathers
the answers). ZeroMQ's descriptor tells only that something has changed (it is edge-triggered), so both after an event and
after a send everything that is there is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import zmq

from ipc.clock import clock

READ = 1
REPLY_SECONDS = 2.0
"""How long an answer is waited for, unless told otherwise."""
ALL = -1
"""Address of everybody, the attendant and the sender included."""
_ATTENDANT = 0

Handler = Callable[[str, dict[str, Any]], Any]
"""``handler(command, arguments)`` gives the answer (MessagePack types); an exception becomes its error."""
OnReply = Callable[[Any, str | None], None]
"""``on_reply(result, error)``: ``error`` is None, or says why there is no result."""


class Reactor(Protocol):
    """What is needed of the process' event loop."""

    def add(self, fd: int, wants: int, callback: Callable[[int], None]) -> None: ...

    def remove(self, fd: int) -> None: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Any: ...

    def cancel(self, handle: Any) -> None: ...

    def call_soon(self, callback: Callable[[], None]) -> None: ...


class ControlError(Exception):
    """The control channel cannot be opened."""


class Message(msgspec.Struct, array_like=True):
    """A command, or the answer to one."""

    number: int
    """Chosen by who sends the command, repeated in the answer; 0: no answer is wanted."""
    command: str | None = None
    """None: this is an answer."""
    arguments: dict[str, Any] = {}
    to: int = _ATTENDANT
    """In commands that a process sends: 0 (the attendant), ALL, or the slot of another process."""
    result: Any = None
    error: str | None = None
    seconds: float = REPLY_SECONDS


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def _address(directory: str) -> str:
    path = f"{directory}/control"
    if len(path.encode()) > 100:  # sockaddr_un holds 107 bytes, ZeroMQ uses some
        raise ControlError(f"{directory}: the path is too long for a Unix socket")
    return f"ipc://{path}"


class _Asked:
    """Commands whose answer is awaited."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[OnReply, Any]] = {}

    def add(self, on_reply: OnReply, seconds: float) -> int:
        number = next(self._numbers)
        timer = self._reactor.call_at(clock.now() + seconds, lambda: self.answer(number, None, "no answer in time"))
        self._waiting[number] = (on_reply, timer)
        return number

    def answer(self, number: int, result: Any, error: str | None) -> None:
        entry = self._waiting.pop(number, None)
        if entry is not None:
            self._reactor.cancel(entry[1])
            entry[0](result, error)


class _Endpoint:
    """A ZeroMQ socket in the reactor."""

    def __init__(self, kind: int, reactor: Reactor) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._reactor = reactor
        self._asked = _Asked(reactor)
        self._looking = False
        self._closed = False

    def _watch(self) -> None:
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._reactor.add(self._fd, READ, lambda events: self._look())
        self._look()

    def _look(self) -> None:
        self._looking = False
        while not self._closed and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = _decode(frames[-1])
            except msgspec.DecodeError:
                continue  # not one of ours: only processes of this user reach the socket
            self._received(frames, message)

    def _transmit(self, frames: list[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except (zmq.Again, zmq.ZMQError):
            sent = False
        else:
            sent = True
        if not self._looking and not self._closed:
            self._looking = True
            self._reactor.call_soon(self._look)
        return sent

    def _received(self, frames: list[bytes], message: Message) -> None:
        raise NotImplementedError  # abstract

    def close(self) -> None:
        """End the channel; commands that still wait for an answer get none."""
        if not self._closed:
            self._closed = True
            self._reactor.remove(self._fd)
            self._context.destroy(linger=0)


def _run(handler: Handler, message: Message) -> Message:
    try:
        return Message(message.number, result=handler(message.command or "", message.arguments))
    except Exception as error:
        return Message(message.number, error=f"{type(error).__name__}: {error}")


class ControlHub(_Endpoint):
    """The attendant's end."""

    def __init__(self, directory: str, reactor: Reactor, on_command: Handler) -> None:
        super().__init__(zmq.ROUTER, reactor)
        self._on_command = on_command
        self._slots: set[int] = set()
        # a replacement takes over its predecessor's identity; sending to nobody is an error, not silence
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(_address(directory))
        self._watch()

    @property
    def slots(self) -> list[int]:
        """Processes that have been heard of."""
        return sorted(self._slots)

    def send(
        self,
        slot: int,
        command: str,
        arguments: dict[str, Any] | None = None,
        on_reply: OnReply | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> bool:
        """Send a command to one process; False when it cannot be reached (``on_reply`` is then not called)."""
        number = self._asked.add(on_reply, seconds) if on_reply is not None else 0
        if self._transmit([b"%d" % slot, _encode(Message(number, command, arguments or {}))]):
            return True
        self._slots.discard(slot)
        if number:
            self._asked._waiting.pop(number, None)
        return False

    def send_all(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        on_done: Callable[[dict[int, Any]], None] | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> None:
        """Send a command to all processes; ``on_done`` gets the answers by slot, of those that gave one in time."""
        answers: dict[int, Any] = {}
        open_ = set(self._slots)
        if not open_ and on_done is not None:
            on_done(answers)

        def answered(slot: int, result: Any, error: str | None) -> None:
            open_.discard(slot)
            if error is None:
                answers[slot] = result
            if not open_ and on_done is not None:
                on_done(answers)

        for slot in self.slots:
            reply = None if on_done is None else (lambda result, error, slot=slot: answered(slot, result, error))
            if not self.send(slot, command, arguments, reply, seconds) and on_done is not None:
                answered(slot, None, "not reachable")

    def _received(self, frames: list[bytes], message: Message) -> None:
        sender = frames[0]
        self._slots.add(int(sender))
        if message.command is None:
            self._asked.answer(message.number, message.result, message.error)
        elif message.command:  # the empty command only says that its sender is there
            if message.to == ALL:
                self._for_all(sender, message)
            elif message.to:
                self.send(message.to, message.command, message.arguments)
            else:
                self._reply(sender, _run(self._on_command, message))

    def _for_all(self, sender: bytes, message: Message) -> None:
        own = _run(self._on_command, message)

        def done(answers: dict[int, Any]) -> None:
            if own.error is None:
                answers[_ATTENDANT] = own.result
            self._reply(sender, Message(message.number, result={str(slot): answers[slot] for slot in sorted(answers)}))

        self.send_all(message.command or "", message.arguments, done if message.number else None, message.seconds)

    def _reply(self, sender: bytes, reply: Message) -> None:
        if reply.number:
            self._transmit([sender, _encode(reply)])


class ControlLine(_Endpoint):
    """The end of any other process."""

    def __init__(self, directory: str, slot: int, reactor: Reactor, on_command: Handler) -> None:
        super().__init__(zmq.DEALER, reactor)
        self._on_command = on_command
        self._socket.setsockopt(zmq.IDENTITY, b"%d" % slot)
        # the first processes are there before the attendant listens: they are not to be missed when it sends to all
        self._socket.setsockopt(zmq.RECONNECT_IVL, 5)
        self._socket.connect(_address(directory))
        self._watch()
        self._transmit([_encode(Message(0, ""))])

    def send(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        on_reply: OnReply | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> None:
        """Send a command to the attendant."""
        number = self._asked.add(on_reply, seconds) if on_reply is not None else 0
        self._transmit([_encode(Message(number, command, arguments or {}))])

    def send_to(self, slot: int, command: str, arguments: dict[str, Any]) -> None:
        """Send a command to another process. No answer comes back; it is lost when nobody is there."""
        self._transmit([_encode(Message(0, command, arguments, to=slot))])

    def send_all(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        on_reply: OnReply | None = None,
        seconds: float = REPLY_SECONDS,
    ) -> None:
        """Send a command to all processes, attendant and sender included; the result is a dict of answers by slot (as text)."""
        number = self._asked.add(on_reply, seconds + 0.5) if on_reply is not None else 0
        self._transmit([_encode(Message(number, command, arguments or {}, to=ALL, seconds=seconds))])

    def _received(self, frames: list[bytes], message: Message) -> None:
        if message.command is None:
            self._asked.answer(message.number, message.result, message.error)
        elif message.command:
            reply = _run(self._on_command, message)
            if reply.number:
                self._transmit([_encode(reply)])
