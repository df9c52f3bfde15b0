"""What every forked process does first and last, whatever its work is."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from setproctitle import setproctitle

from ipc.control import ControlLine
from ipc.counters import Counters
from ipc.descriptors import FdLine
from ipc.lmdb_store import LmdbStore
from ipc.mailbox import Mailboxes
from ipc.rundir import RunDir
from opensips_py.core import mi_commands, reload
from opensips_py.engine import outbox
from opensips_py.engine.engine import Engine
from opensips_py.engine.runtime import ScriptRuntime
from opensips_py.engine.take_over import stuck_key
from opensips_py.engine.unsettled import unsettled
from opensips_py.net.tcp import StreamHandle, streams
from opensips_py.script import variables
from opensips_py.script.context import ListenSocket
from opensips_py.script.program import Program
from opensips_py.server import log as logging
from opensips_py.server.guard import report_error
from opensips_py.server.process import this
from opensips_py.server.statistics import registry
from workers import garbage
from workers.linux import die_with_parent
from workers.observation import observe
from workers.reactor import EpollReactor


def drain_seconds() -> float:
    """How long parked operations may go on after SIGTERM: the core parameter async_drain_timeout."""
    return float(this.program.settings.async_drain_timeout)


@dataclass(slots=True)
class Shared:
    """What the attendant prepares before the first fork; every process inherits it."""

    program: Program
    rundir: RunDir
    counters: Counters
    sockets: list[ListenSocket]
    handles: list[socket.socket]
    started: float
    argv: list[str] = field(default_factory=list)
    mailboxes: Mailboxes | None = None
    """Of the TCP receivers; None when there are none."""


@dataclass(slots=True)
class Place:
    """One entry of the process table."""

    slot: int
    kind: str
    """Description as in MI ``ps``."""
    main: Callable[[Child], None]
    socket_index: int = -1
    receives: bool = False
    """A SIP or TCP receiver: may take over operations of others."""


class Child:
    """The running process: its reactor, engine, store and lines to the attendant."""

    def __init__(self, shared: Shared, place: Place, incarnation: int, fd_line: socket.socket, ready: Callable[[], None]) -> None:
        self.shared = shared
        self.place = place
        self.status = shared.counters.status(place.slot)
        self._ready = ready
        self._fd_socket = fd_line
        self._terminating = False
        reload.changed.clear()  # the attendant's
        this.slot = place.slot
        this.incarnation = incarnation
        this.kind = place.kind
        this.sockets = shared.sockets
        this.handles = [
            handle if listen.proto == "udp" else StreamHandle(listen)
            for listen, handle in zip(shared.sockets, shared.handles, strict=True)
        ]
        this.program = shared.program
        this.counters = shared.counters
        this.started_at = shared.started
        this.argv = shared.argv

    def run(self) -> int:
        """The whole life of the process; returns its exit status."""
        die_with_parent(signal.SIGKILL)
        setproctitle(f"opensips-py: {self.place.kind}")
        self._signals()
        random.seed()
        status = self.status
        status.pid = os.getpid()
        status.incarnation = this.incarnation
        status.busy_since_ns = 0
        self.reactor = EpollReactor(status, lambda error: report_error(error, ""))
        this.reactor = self.reactor
        logging.state.later = self.reactor.in_a_second
        this.store = LmdbStore.open(self.shared.rundir.path)
        self.fd_line = FdLine(self._fd_socket, self.reactor)
        this.fd_keeper = self.fd_line
        if self.shared.mailboxes is not None:
            streams.mailboxes = self.shared.mailboxes
            streams.mailboxes.attach(self.reactor)
        registry.attach(self.shared.counters, place_row=this.slot)
        this.engine = engine = Engine(status)
        unsettled.row = outbox.Noted.row = status
        engine.tenure.lock = lambda: this.store.lock(stuck_key(this.slot))
        this.program.runtime = ScriptRuntime(engine)
        variables.use(this.program.registry)
        this.control = self.control = ControlLine(self.shared.rundir.path, this.slot, self.reactor, self._command)
        reload.catch_up()
        for module in this.program.modules.values():
            for hook in module.process_hooks:
                hook()
        garbage.prepare()
        garbage.collect_now_and_then(self.reactor, lambda: len(this.engine))
        end_observation = observe(this.program, self.place.kind)
        try:
            self.place.main(self)
        except Exception as error:
            report_error(error, self.place.kind)
            return 1
        finally:
            for module in this.program.modules.values():
                for hook in module.exit_hooks:
                    try:
                        hook()
                    except Exception as error:
                        report_error(error, module.name)
            this.store.close()
            end_observation()
        return 0

    def ready(self) -> None:
        """Tell the attendant that this process does its work from now on."""
        self._ready()

    # --- orderly end --------------------------------------------------------------------------------------------

    def _signals(self) -> None:
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        self._wake = (wake_read, wake_write)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())

    def _terminate(self) -> None:
        self._terminating = True

    def watch_termination(self, on_terminate: Callable[[], None]) -> None:
        """Have the reactor call ``on_terminate`` once when SIGTERM has come."""
        wake = self._wake[0]

        def woken(events: int) -> None:
            try:
                wake.recv(64)
            except BlockingIOError:
                return
            if self._terminating:
                self._terminating = False
                on_terminate()

        self.reactor.add(wake.fileno(), 1, woken)

    @staticmethod
    def _command(command: str, arguments: dict[str, Any]) -> Any:
        """A command over the control channel."""
        if command == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
            return "OK"
        return mi_commands.CONTROL[command](**arguments)
