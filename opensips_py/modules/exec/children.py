"""Child processes: started cheaply, always reaped.

``posix_spawn`` (vfork inside) and not fork: copying the page tables of a large worker would cost more than everything
else here (measured: 120 us for spawn, read and reap against 180 to 220 us with subprocess). Each child leads a process
group of its own, so that what it has started can be signalled with it. Its signals are reset to their defaults and,
all our descriptors being close-on-exec, it inherits nothing but 0, 1 and 2.

A child that nobody waits for any more is left to :func:`reap_later`, which collects it when it ends.
"""

from __future__ import annotations

import os
import select
import signal

from opensips_py.engine.operation import READ
from opensips_py.modules.exec.child_places import places
from opensips_py.server.process import NO_REACTOR, this

SWEEP = 0.02
"""Seconds until children left alone are looked at together: most end just after their output, and watching each one would
cost two system calls and a turn of the loop."""

STATUS_PATIENCE = 0.1
"""Seconds for which the status of an ended process that is not ours is waited for."""

TERM_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for a child that is told to end."""

_DEFAULT_SIGNALS = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXFSZ,
]

_left: dict[int, tuple[Child, bool]] = {}
"""Children left to run alone, by pid, and whether somebody wants to be told their status."""
_fresh: list[Child] = []
"""Those that are not watched yet."""


class Child:
    """A process that this worker has started and must reap."""

    __slots__ = ("pid", "pidfd", "status")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        """Readable when the process has ended; -1 once closed."""
        self.status: int | None = None
        """Wait status (``os.waitstatus_to_exitcode``) once reaped."""

    def reap(self) -> bool:
        """Collect the exit status if there is one. True when the child is gone."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody ignores SIGCHLD: the kernel has reaped it, its status is unknown
                pid, status = self.pid, 0
            if pid == 0:
                return False
            self.status = status
            places.reaped()
        return True

    def signal_group(self, signum: int) -> None:
        """Signal the child and what it has started. Nothing happens once it is reaped: its number may be another's."""
        if self.status is None:
            try:
                os.killpg(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                return

    def close(self) -> None:
        """Close the pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def spawn(command: bytes, environment: dict[bytes, bytes], stdin: int | None, stdout: int | None, stderr: int | None) -> Child:
    """Start ``/bin/sh -c command``. Streams that are None: /dev/null for stdin, the server's own for the others.

    Raises OSError when there is no process to be had.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    if stdin is None:
        actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
    else:
        actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
    if stdout is not None:
        actions.append((os.POSIX_SPAWN_DUP2, stdout, 1))
    if stderr is not None:
        actions.append((os.POSIX_SPAWN_DUP2, stderr, 2))
    pid = os.posix_spawn(
        b"/bin/sh",
        (b"/bin/sh", b"-c", command),
        environment,
        file_actions=actions,
        setpgroup=0,
        setsigmask=[],
        setsigdef=_DEFAULT_SIGNALS,
    )
    try:
        child = Child(pid, os.pidfd_open(pid))
        places.take()
        return child
    except OSError:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


class Orphan(Child):
    """A child of another process of ours (dead or stuck), whose operation goes on here."""

    __slots__ = ("_ended_at",)

    def __init__(self, pid: int, pidfd: int) -> None:
        super().__init__(pid, pidfd)
        self._ended_at: float | None = None

    def reap(self) -> bool:
        """Learn the exit status. True when the process is gone; its status stays None when nobody knows it."""
        if self.status is not None:
            return True
        poll = select.poll()  # select() takes no descriptors beyond 1023, and thousands may be parked here
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(0):
            return False
        self.status = status_of_orphan(self.pid)
        if self.status is not None:
            return True
        now = this.clock.now()
        if self._ended_at is None:
            self._ended_at = now
        return now - self._ended_at > STATUS_PATIENCE


def reap_later(child: Child, *, end_at: float | None = None, tell: bool = False) -> None:
    """Let the child go on without anybody waiting for it, and reap it when it ends.

    At ``end_at`` (``this.clock.now()``) its group gets SIGTERM, and SIGKILL :data:`TERM_GRACE` seconds later. With
    ``tell``, its exit status is left in the store for the process that has taken its operation over.
    """
    if tell and child.status is not None:
        this.store.put(b"x%d" % child.pid, b"%d" % child.status)
    if isinstance(child, Orphan) or child.status is not None or (not tell and child.reap()):
        child.close()
        return
    _left[child.pid] = (child, tell)
    if not _watched():
        reap_left()
    else:
        if not _fresh:
            this.reactor.call_at(this.clock.now() + SWEEP, _sweep)
        _fresh.append(child)
    if end_at is not None:
        _end_at(child, signal.SIGTERM, end_at)


def _sweep() -> None:
    """Reap what has ended since it was left; what has not is watched from now on."""
    fresh = _fresh[:]
    _fresh.clear()
    for child in fresh:
        _collect(child.pid)
        if child.pidfd >= 0:
            _watch(child)


def _watch(child: Child) -> None:
    this.reactor.add(child.pidfd, READ, lambda events: _collect(child.pid))


def _watched() -> bool:
    """False in a process without a loop, where each call collects what has ended before."""
    return this.reactor is not NO_REACTOR


def _end_at(child: Child, signum: int, when: float) -> None:
    """Signal the group at ``when``; a SIGTERM is followed by SIGKILL."""
    if when > this.clock.now() and _watched():
        this.reactor.call_at(when, lambda: _end_at(child, signum, 0.0))
        return
    child.signal_group(signum if _watched() else signal.SIGKILL)
    if signum != signal.SIGKILL:
        _end_at(child, signal.SIGKILL, this.clock.now() + TERM_GRACE)


def _collect(pid: int) -> None:
    entry = _left.get(pid)
    if entry is None:
        return
    child, tell = entry
    if tell:
        ended = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        status = ended.si_status << 8 if ended.si_code == os.CLD_EXITED else ended.si_status
        this.store.put(b"x%d" % pid, b"%d" % status)
    if not child.reap():
        return
    del _left[pid]
    if _watched():
        this.reactor.remove(child.pidfd)
    child.close()


def reap_left() -> int:
    """Collect what has ended among the children left alone; returns how many still run."""
    for pid in list(_left):
        _collect(pid)
    return len(_left)


def status_of_orphan(pid: int) -> int | None:
    """Wait status of an ended process that is not our child; None when nobody knows (yet).

    A child whose worker died belongs to the attendant, which leaves the status in the store before it reaps; a child of
    a worker that is stuck is a zombie, whose status the kernel shows (proc(5), ``exit_code``).
    """
    key = b"x%d" % pid
    row = this.store.get(key)
    if row is None:
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                fields = stat.read().rpartition(b") ")[2].split()
        except OSError:
            return None
        return int(fields[-1]) if fields[0] in b"ZX" else None
    this.store.delete(key)
    return int(row)
