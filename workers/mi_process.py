"""The process "MI FIFO": reads management requests from the FIFO, runs them, writes the answers.

Nothing that a client does holds up another one: requests are read as they come, an answer whose client has not opened
its FIFO yet is tried again by timer, and one that the client reads slowly is written as its pipe takes it. What waits
is bounded in number, in bytes and in time.
"""

from __future__ import annotations

import os
import signal
from collections import deque

from ipc.fifo import FifoError, Framer, NoReader, Request, RequestFifo, open_reply
from opensips_py.core import mi_commands
from opensips_py.engine.operation import READ, WRITE
from opensips_py.mi.dispatcher import Dispatcher, ParseError
from opensips_py.modules import mi_fifo
from opensips_py.server.log import ERROR, NOTICE, WARNING, log
from opensips_py.server.process import Reactor, this
from workers.child import Child

CHECK_SECONDS = 30.0
"""How often the FIFO is looked after (also on SIGHUP)."""
HALF_REQUEST_SECONDS = 5.0
"""How long the rest of a request is waited for."""
OPEN_AFTER = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.08, 0.114)
"""Pauses between attempts to open a reply FIFO that nobody reads yet: as long together as OpenSIPS' 4 times 80 ms, but
soon at first, because most clients open it right after they have written their request."""
WRITE_SECONDS = 10.0
"""How long a client may take to read its answer."""
MAX_ANSWERS = 2000
"""Answers that may wait for their clients."""
MAX_ANSWER_BYTES = 64 << 20
"""Bytes in them."""


def main(child: Child) -> None:
    """Body of the process."""
    dispatcher = Dispatcher(mi_commands.modules(), pretty=bool(mi_fifo.pretty_printing.value))
    mi_commands.describe(dispatcher.commands)
    fifo = RequestFifo(mi_fifo.fifo_name.value, mi_fifo.fifo_mode.value, mi_fifo.owner(), mi_fifo.group())
    server = FifoServer(fifo, mi_fifo.reply_dir.value, dispatcher, child.reactor)
    server.start()
    signal.signal(signal.SIGHUP, lambda *_: child.reactor.call_soon(server.look_after))
    child.watch_termination(child.reactor.stop)
    child.ready()
    try:
        child.reactor.run()
    finally:
        server.close()


class _Answer:
    """An answer on its way."""

    __slots__ = ("attempt", "data", "name")

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data
        self.attempt = 0


class FifoServer:
    """Requests in, answers out."""

    def __init__(self, fifo: RequestFifo, reply_dir: str, dispatcher: Dispatcher, reactor: Reactor) -> None:
        self._fifo, self._reply_dir, self._dispatcher, self._reactor = fifo, reply_dir, dispatcher, reactor
        self._framer = Framer()
        self._half: object = None
        self._requests: deque[Request] = deque()
        self._waiting = 0
        self._waiting_bytes = 0
        self._lost = False

    # --- the FIFO -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the FIFO and serve it. Raises FifoError."""
        self._fifo.open()
        self._reactor.add(self._fifo.fd, READ, self._readable)
        self._again()

    def _again(self) -> None:
        self._reactor.call_at(this.clock.now() + CHECK_SECONDS, self._check)

    def _check(self) -> None:
        self.look_after()
        self._again()

    def look_after(self) -> None:
        """Make the FIFO again if somebody has removed or replaced it."""
        if self._fifo.fd >= 0:
            if self._fifo.is_there():
                return
            log(WARNING, "mi_fifo", "mi_fifo_check", f"{self._fifo.path} was removed or replaced: making it again")
            self._readable(READ)
            self._reactor.remove(self._fifo.fd)
            self._fifo.close()
        try:
            self._fifo.open()
        except FifoError as error:
            if not self._lost:
                log(ERROR, "mi_fifo", "mi_fifo_check", f"{error}; trying again every {CHECK_SECONDS:.0f} s")
            self._lost = True
            return
        self._lost = False
        self._reactor.add(self._fifo.fd, READ, self._readable)

    def close(self) -> None:
        """Remove the FIFO."""
        if self._fifo.fd >= 0:
            self._reactor.remove(self._fifo.fd)
        self._fifo.close()

    # --- requests -----------------------------------------------------------------------------------------------

    def _readable(self, events: int) -> None:
        data = self._fifo.read()
        if not data:
            return
        requests = self._framer.feed(data)
        self._report_dropped()
        self._requests.extend(requests)
        self._run_all()
        if self._half is not None:
            self._reactor.cancel(self._half)
            self._half = None
        if self._framer.unfinished:
            self._half = self._reactor.call_at(this.clock.now() + HALF_REQUEST_SECONDS, self._abandon)

    def _run_all(self) -> None:
        while self._requests:
            request = self._requests.popleft()
            self._reactor.beside = self._run_all  # a command may wait (local_route of t_uac_dlg): those after it do not
            self._run(request)
            self._reactor.beside = None

    def _abandon(self) -> None:
        self._half = None
        self._framer.abandon()
        self._report_dropped()

    def _report_dropped(self) -> None:
        for what in self._framer.dropped:
            log(ERROR, "mi_fifo", "mi_parse_buffer", f"dropped {what}")
        self._framer.dropped.clear()

    def _run(self, request: Request) -> None:
        name = request.reply_name
        if any(c in name for c in "./\\"):
            log(ERROR, "mi_fifo", "get_reply_filename", f"reply FIFO {name!r}: a name may not contain '.', '/' or '\\'; dropped")
            return
        try:
            self._dispatcher.dispatch(request.body, lambda data: self._answer(name, data))
        except ParseError as error:
            log(ERROR, "mi_fifo", "fifo_process", f"cannot parse command: {error}")

    # --- answers ------------------------------------------------------------------------------------------------

    def _answer(self, name: str, data: bytes) -> None:
        if not name:
            return
        if self._waiting >= MAX_ANSWERS or self._waiting_bytes + len(data) > MAX_ANSWER_BYTES:
            log(ERROR, "mi_fifo", "mi_fifo_reply", f"{self._waiting} answers wait for their clients: dropped the one for {name}")
            return
        self._waiting += 1
        self._waiting_bytes += len(data)
        self._open(_Answer(name, data))

    def _open(self, answer: _Answer) -> None:
        try:
            fd = open_reply(self._reply_dir, answer.name)
        except NoReader:
            if answer.attempt >= len(OPEN_AFTER):
                log(NOTICE, "mi_fifo", "mi_open_reply_pipe", f"no client at {self._reply_dir}{answer.name}")
                self._ended(answer)
                return
            pause = OPEN_AFTER[answer.attempt]
            answer.attempt += 1
            self._reactor.call_at(this.clock.now() + pause, lambda: self._open(answer))
        except FifoError as error:
            log(ERROR, "mi_fifo", "mi_open_reply_pipe", str(error))
            self._ended(answer)
        else:
            self._write(answer, memoryview(answer.data), fd)

    def _write(self, answer: _Answer, rest: memoryview[int], fd: int) -> None:
        """Write as much as the pipe takes; the rest when it takes more."""
        rest = _push(fd, rest)
        if not rest:
            os.close(fd)
            self._ended(answer)
            return
        left = rest

        def end() -> None:
            self._reactor.cancel(timer)
            self._reactor.remove(fd)
            os.close(fd)
            self._ended(answer)

        def writable(events: int) -> None:
            nonlocal left
            left = _push(fd, left)
            if not left:
                end()

        def late() -> None:
            log(ERROR, "mi_fifo", "mi_fifo_reply", f"the client at {answer.name} does not read: dropped {len(left)} bytes")
            end()

        timer = self._reactor.call_at(this.clock.now() + WRITE_SECONDS, late)
        self._reactor.add(fd, WRITE, writable)

    def _ended(self, answer: _Answer) -> None:
        self._waiting -= 1
        self._waiting_bytes -= len(answer.data)


def _push(fd: int, data: memoryview[int]) -> memoryview[int]:
    """Write what the pipe takes; what is left. Nothing is left when the client has gone."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            return data
        except OSError:
            return data[len(data) :]
    return data
