"""The attendant: opens everything, forks everybody, replaces the dead, hands their work to the living.

Before it: ``workers/startup.py``. :class:`Attendant` starts the processes in OpenSIPS' order,
reports readiness, then supervises: it reaps children and puts a new one in the slot, gives the parked operations of a
dead or stuck process, with their descriptors, to receivers that are well, and ends everything on SIGTERM.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from ipc.control import ControlHub
from ipc.counters import Counters
from ipc.descriptors import FdStore
from ipc.lmdb_store import MAP_SIZE, MIN_SIZE, LmdbStore
from ipc.mailbox import Mailboxes
from ipc.rundir import RunDir
from opensips_py.core import core_statistics, mi_commands, reload
from opensips_py.core.wiring import wire
from opensips_py.engine import outbox
from opensips_py.engine import parked as parking
from opensips_py.engine.operation import READ
from opensips_py.engine.unsettled import unsettled
from opensips_py.evi.mailbox import mailbox
from opensips_py.net.tcp import FD_KEY, RECEIVER
from opensips_py.script.context import RouteKind
from opensips_py.script.declarations import MIError
from opensips_py.script.program import Program
from opensips_py.server import log as logging
from opensips_py.server.guard import report_error
from opensips_py.server.log import CRITICAL, ERROR, NOTICE, WARNING, log
from opensips_py.server.process import this
from opensips_py.server.statistics import registry
from workers import sip_receiver, timer_watch
from workers.child import Child, Place, Shared, drain_seconds
from workers.connection_heirs import NOT_TAKING, give_away
from workers.linux import adopt_orphans
from workers.options import Options
from workers.process_table import TIMER, Worker, process_table
from workers.reactor import EpollReactor
from workers.shared_queue import REST, nudge
from workers.take_over import STUCK_SECONDS, TakeOver

LOOK_SECONDS = 0.03
"""How often the attendant looks for stuck processes, and takes what workers have sent it. Together with STUCK_SECONDS it is less
than 0.1 s until another process has what a stuck one waited for."""
QUIET_LOOK_SECONDS = LOOK_SECONDS + STUCK_SECONDS
"""The same while nothing waits, and no receiver works that rests from its socket. What is parked meanwhile by a process that gets
stuck is found as soon as with the other."""
STOPPED_SECONDS = 0.25
"""How often the attendant looks for processes that were stopped (SIGSTOP, a debugger) while they waited for work."""
READY_SECONDS = 30.0
"""How long a process may take to start."""
ORPHAN_SECONDS = 60.0
"""How long the exit status of an adopted child is kept for whoever took its operation over."""
KILL_PAUSE = 0.05
"""Pause in seconds between the MI command ``kill`` and its effect, so that its answer gets out."""
RESPAWN_PAUSE = 1.0
"""Pause in seconds before a slot whose process died within this time of its start is filled again."""
STEPPED_SECONDS = 1.0
"""A wall clock that is further away than this has been set, and the log says so."""


class Attendant:
    """The master process (see the module's text)."""

    def __init__(
        self, program: Program, options: Options, rundir: RunDir, handles: list[socket.socket], ready: Callable[[int], None]
    ) -> None:
        self._stepped = False
        self.program = program
        self._report_ready = ready
        self._places = process_table(program)
        slots = len(self._places) + 1
        this.kinds = ["attendant", *(place.kind for place in self._places)]
        wire()
        core_statistics.collect(program.modules.values())
        self.counters = Counters.create(rundir.path, slots)
        owners = [place.slot for place in self._places if place.kind == RECEIVER]
        if "event_routing" in program.modules:
            mailbox.prepare(slots)
        self.mailboxes = Mailboxes(owners) if owners else None
        self.shared = Shared(
            program, rundir, self.counters, program.sockets, handles, this.clock.now(), options.argv_list, self.mailboxes
        )
        self._workers: dict[int, Worker] = {}
        """By pid."""
        self._incarnations: dict[int, int] = {}
        self._stopping = False
        self._status = 0
        self._timer_watch = timer_watch.TimerWatch(
            lambda worker, order: self.fd_store.hand_over(self._workers[worker.pid].place.slot, order, [])
        )
        status = self.counters.status(0)
        status.pid = os.getpid()
        self.reactor = EpollReactor(status, lambda error: report_error(error, "attendant"))
        logging.state.later = self.reactor.in_a_second
        size = max(options.shared_memory << 20, MIN_SIZE) if options.shared_memory else MAP_SIZE
        self.store = LmdbStore.create(rundir.path, size, allocate=True)
        self.fd_store = FdStore(slots)
        self.take_over = TakeOver(
            self.store, self.fd_store, status, lambda slot: self.counters.status(slot).epoch, lambda: list(self._workers.values())
        )
        this.slot, this.kind = 0, "attendant"
        this.program, this.store, this.reactor = program, self.store, self.reactor
        this.counters, this.started_at, this.argv = self.counters, self.shared.started, self.shared.argv
        this.sockets = program.sockets
        registry.attach(self.counters, place_row=0)
        reload.changed.append(self._routes_changed)

    def _routes_changed(self) -> None:
        """Processes started from now on have the new routes."""
        self.program = self.shared.program = this.program

    # --- start --------------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Start all processes, supervise them, end them."""
        setproctitle("opensips-py: attendant")
        adopt_orphans()
        self._signals()
        gc.collect()
        gc.freeze()
        try:
            started = self._start_all()
        except OSError as error:
            log(CRITICAL, "core", "main_loop", f"cannot fork: {error.strerror}")
            started = False
        if not started:
            self._status = 255
            self._kill_all()
            self._report_ready(255)
            return 255
        self.hub = ControlHub(self.shared.rundir.path, self.reactor, self._command)
        self._report_ready(0)
        self.reactor.call_soon(self._look)
        self.reactor.call_soon(self._sample_load)
        self.reactor.call_soon(self._look_for_stopped)
        self.reactor.call_soon(self._look_after_timers)
        self.reactor.run()
        for asked_again in (signal.SIGTERM, signal.SIGINT):  # Python restores the default action, which kills, when it exits
            signal.signal(asked_again, signal.SIG_IGN)
        return self._status

    def _signals(self) -> None:
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        self._wake = (wake_read, wake_write)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for ignored in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, lambda *_: self._ask_to_reload())
        signal.signal(signal.SIGTERM, lambda *_: self._ask_to_stop())
        signal.signal(signal.SIGINT, lambda *_: self._ask_to_stop())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._asked = False
        self._asked_to_reload = False
        self.reactor.add(wake_read.fileno(), READ, self._woken)

    def _ask_to_stop(self) -> None:
        self._asked = True

    def _ask_to_reload(self) -> None:
        self._asked_to_reload = True

    def _woken(self, events: int) -> None:
        try:
            self._wake[0].recv(256)
        except BlockingIOError:
            return
        self._reap()
        if self._asked and not self._stopping:
            self._stop()
        elif self._asked_to_reload and not self._stopping:
            self._asked_to_reload = False
            self._reload()

    def _reload(self) -> None:
        """SIGHUP: as the management command ``reload_routes``; the log tells how it ended."""
        try:
            later = reload.reload_routes(self._send_all)
        except MIError as error:
            log(ERROR, "core", "reload_routes", f"the routes stay as they are: {error.data or error.message}")
            return
        later.deliver(lambda result, error: None)

    def _send_all(self, command: str, arguments: dict[str, Any], told: reload.Told, seconds: float) -> None:
        """What ``ControlLine.send_all`` is in other processes."""
        try:
            own = {"0": self._command(command, arguments)}
        except Exception as error:  # the log has it; the answer is missing
            report_error(error, command)
            own = {}

        def done(answers: dict[int, Any]) -> None:
            told(own | {str(slot): answer for slot, answer in answers.items()}, None)

        self.hub.send_all(command, arguments, done, seconds)

    def _start_all(self) -> bool:
        """Fork everybody; startup_route runs in the first receiver before the others exist. True when all are ready."""
        first_receiver = next(p for p in self._places if p.receives)
        waiting: dict[int, int] = {}
        for place in self._places:
            reader = self._spawn(place, startup=place is first_receiver)
            if place is first_receiver and self.program.route(RouteKind.STARTUP, "0") is not None:
                if not self._await_ready({reader: place.slot}):
                    return False
            else:
                waiting[reader] = place.slot
        return self._await_ready(waiting)

    def _await_ready(self, readers: dict[int, int]) -> bool:
        """Wait until every process has written its byte; an end of file instead means that it died."""
        deadline = this.clock.now() + READY_SECONDS
        poll = select.poll()
        for reader in readers:
            poll.register(reader, select.POLLIN)
        ok = True
        left = set(readers)
        while left and ok and not self._asked:
            for reader, _ in poll.poll(100):
                poll.unregister(reader)
                left.discard(reader)
                if os.read(reader, 1) != b"1":
                    place = self._places[readers[reader] - 1]
                    log(CRITICAL, "core", "main_loop", f"process {place.slot} ({place.kind}) did not start")
                    ok = False
            if this.clock.now() > deadline:
                slots = sorted(readers[reader] for reader in left)
                log(CRITICAL, "core", "main_loop", f"not ready after {READY_SECONDS:.0f} s: processes {slots}")
                ok = False
        for reader in readers:
            os.close(reader)
        return ok and not self._asked

    def _spawn(self, place: Place, startup: bool = False) -> int:
        """Fork one process; the descriptor on which it tells that it is ready."""
        reader, writer = os.pipe()
        incarnation = self._incarnations[place.slot] = self._incarnations.get(place.slot, 0) + 1
        line = self.fd_store.line(place.slot)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(reader)
                status = self._child(place, incarnation, line, writer, startup)
            except BaseException as error:  # nothing may escape into the attendant's stack
                report_error(error, place.kind)
            finally:
                os._exit(status)
        os.close(writer)
        line.close()
        self._workers[pid] = Worker(place, pid, incarnation, self.counters.status(place.slot))
        return reader

    def _child(self, place: Place, incarnation: int, line: socket.socket, writer: int, startup: bool) -> int:
        self.fd_store.close_in_child()
        self.reactor.close()
        signal.set_wakeup_fd(-1)
        for end in self._wake:
            end.close()

        def ready() -> None:
            if startup and sip_receiver.run_startup_route() < 0:
                log(CRITICAL, "core", "main_loop", "startup_route returned an error: the server does not start")
                os._exit(1)
            os.write(writer, b"1")
            os.close(writer)

        return Child(self.shared, place, incarnation, line, ready).run()

    # --- supervision --------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            if found.si_pid not in self._workers:
                # while it is still a zombie: nobody may see it gone without finding its status
                self._orphan_ended(found.si_pid, found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status)
            _, wait_status = os.waitpid(found.si_pid, 0)
            worker = self._workers.pop(found.si_pid, None)
            if worker is not None:
                self._ended(worker, wait_status)
        if self._stopping and not self._workers:
            self.reactor.stop()

    def _orphan_ended(self, pid: int, wait_status: int) -> None:
        """A program started by a dead worker has ended: whoever has its operation now finds the status in the store."""
        key = parking.ORPHAN_STATUS + str(pid).encode()
        self.store.put(key, str(wait_status).encode())

        def forget() -> None:
            self.store.delete(key)

        self.reactor.call_at(this.clock.now() + ORPHAN_SECONDS, forget)

    def _ended(self, worker: Worker, wait_status: int) -> None:
        place = worker.place
        code = os.waitstatus_to_exitcode(wait_status)
        if self._stopping and code not in (0, -signal.SIGKILL):
            self._status = 1
        if code or not self._stopping:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
            what_next = "" if self._stopping else "; starting another"
            log(CRITICAL, "core", "handle_sigs", f"process {worker} {how}{what_next}")
        self.store.reap_readers()
        self.fd_store.line_closed(place.slot)
        status = worker.status
        status.busy_since_ns = 0
        status.connections = NOT_TAKING
        number, status.unsettled = status.unsettled, 0
        if delivered := status.delivered:
            status.delivered = 0
            self.store.delete(outbox.Noted.key(delivered))  # done, and perhaps not deleted yet
        self._look_at_socket_of(worker)
        self.take_over.has_died(worker, unsettled.key(number) if number else None)
        status.parked = 0  # not before: receivers that have nothing left end when no other has, at the end of the server
        self._connections_of_dead()
        self._drop_descriptors_of(worker)
        if self._stopping:
            return
        if this.clock.now() - worker.started < RESPAWN_PAUSE:
            self.reactor.call_at(this.clock.now() + RESPAWN_PAUSE, lambda: self._respawn(place))
        else:
            self._respawn(place)

    def _drop_descriptors_of(self, worker: Worker) -> None:
        """Pooled connections of a dead process that nobody took: their peers must see them closed."""
        of_dead = f":{worker.place.slot}:{worker.incarnation}:"
        alive = self.take_over.alive()
        for key in self.fd_store.names():
            token = parking.token_of_fd_key(key)
            if token is not None:
                # somebody died between handing descriptors over and storing what they are for, or between the two at the end
                if parking.maker_of(token) not in alive and self.store.get(parking.PREFIX + token) is None:
                    self.fd_store.drop(key)
            elif of_dead in key and not key.startswith(FD_KEY):
                self.fd_store.drop(key)

    def _respawn(self, place: Place) -> None:
        if self._stopping:
            return
        reader = self._spawn(place)

        def ready(events: int) -> None:
            self.reactor.remove(reader)
            alive = os.read(reader, 1) == b"1"
            os.close(reader)
            if alive:
                log(NOTICE, "core", "handle_sigs", f"process {place.slot} ({place.kind}) is back")
                self.take_over.from_dead()
                self._connections_of_dead()

        self.reactor.add(reader, READ, ready)

    # --- handing over -------------------------------------------------------------------------------------------

    def _connections_of_dead(self) -> None:
        """Connections whose owner has died go on in other TCP receivers; until there is one, they wait here."""
        if self.mailboxes is None:
            return
        takers = [w.name for w in self.take_over.receivers() if w.place.kind == RECEIVER]
        if takers:
            alive = self.take_over.alive()
            self.fd_store.drain()
            give_away(self.store, self.fd_store, self.mailboxes, alive, takers)

    def _look(self) -> None:
        """Take the workers' descriptors; find receivers that are stuck while others wait for them."""
        quiet = not self.fd_store.drain()
        now = this.clock.ticks()
        for worker in self._workers.values():
            status = worker.status
            busy = status.busy_since_ns
            if busy and busy != worker.nudged and not status.watching_since_ns and worker.place.socket_index >= 0:
                quiet = False
                if now - busy > REST * 1e9:
                    worker.nudged = busy
                    self._look_at_socket_of(worker)
        if self.take_over.look():
            quiet = False
        if self._workers:
            self.reactor.call_at(this.clock.now() + (QUIET_LOOK_SECONDS if quiet else LOOK_SECONDS), self._look)

    def _look_for_stopped(self) -> None:
        self.take_over.look_for_stopped()
        if self._workers:
            self.reactor.call_at(this.clock.now() + STOPPED_SECONDS, self._look_for_stopped)

    def _look_after_timers(self) -> None:
        timer_process = next((worker for worker in self._workers.values() if worker.place.kind == TIMER), None)
        self._timer_watch.look(timer_process, self._is_alive, self.take_over.receivers)
        if self._workers:
            self.reactor.call_at(this.clock.now() + STOPPED_SECONDS, self._look_after_timers)

    def _is_alive(self, worker: timer_watch.Worker) -> bool:
        return worker.pid in self._workers

    def _look_at_socket_of(self, worker: Worker) -> None:
        """Have another receiver do it: this one may have left a datagram to a colleague, and does not come back to it."""
        if worker.place.socket_index >= 0:
            nudge(self.shared.handles[worker.place.socket_index])

    def _sample_load(self) -> None:
        self.counters.sample_load()
        self._follow_wall_clock()
        self.reactor.call_at(this.clock.now() + 1.0, self._sample_load)

    def _follow_wall_clock(self) -> None:
        ahead = this.clock.follow()
        stepped = abs(ahead) > STEPPED_SECONDS
        if stepped and not self._stepped:
            log(WARNING, "core", "clock", f"the wall clock was set by {ahead:+.0f} s; timers follow it slowly, none ends at once")
        self._stepped = stepped

    # --- end ----------------------------------------------------------------------------------------------------

    def _command(self, command: str, arguments: dict[str, object]) -> object:
        """A command from another process over the control channel."""
        if command == "kill":
            self.reactor.call_at(this.clock.now() + KILL_PAUSE, self._stop)
            return "OK"
        return mi_commands.CONTROL[command](**arguments)

    def _stop(self) -> None:
        """Receivers first, so that what they drain still has timers and management; then the rest."""
        if self._stopping:
            return
        self._stopping = True
        log(NOTICE, "core", "handle_sigs", "terminating")
        self.take_over.end()
        for worker in self._workers.values():
            if worker.place.receives:
                os.kill(worker.pid, signal.SIGTERM)
        deadline = this.clock.now() + drain_seconds() + 2.0
        told = False

        def look() -> None:
            nonlocal deadline, told
            self._reap()
            self.take_over.look_at_end()
            if not told and not any(w.place.receives for w in self._workers.values()):
                told = True
                if lost := self.take_over.unanswered():
                    log(WARNING, "core", "handle_sigs", f"{lost} parked operations are lost: nobody is left to answer them")
                for worker in self._workers.values():
                    os.kill(worker.pid, signal.SIGTERM)
            if this.clock.now() > deadline:
                # the others wait for the receivers, to be told to end when those have
                late = [w for w in self._workers.values() if w.place.receives] or list(self._workers.values())
                log(WARNING, "core", "handle_sigs", f"killing what does not end: {', '.join(map(str, late))}")
                for worker in late:
                    os.kill(worker.pid, signal.SIGKILL)
                deadline = this.clock.now() + 2.0  # for those that are told to end now
            if self._workers:
                self.reactor.call_at(this.clock.now() + 0.02, look)
            else:
                self.reactor.stop()

        look()

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            try:
                os.kill(worker.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for worker in list(self._workers.values()):
            try:
                os.waitpid(worker.pid, 0)
            except ChildProcessError:
                continue
        self._workers.clear()
