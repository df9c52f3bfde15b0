"""The operation behind ``exec()``: one program, its input and its output.

Its input is a memory file (memfd), written whole before the program starts: there is no writing state, nothing that
can deadlock with reading, and nothing to hand over. Output comes through pipes. All that is waited for (the pipes, the
pidfd) hangs in one epoll descriptor, the one that the engine watches.

The number of programs is limited (:mod:`child_places`): beyond it, calls in async() and launch() wait until another program ends,
within their deadline. A plain call would hold up the process meanwhile, in which nothing could end: it is refused.

Another process gets pipes and pidfd and, in the journal, what was read. It is not the program's parent: see
``children.status_of_orphan`` for how it learns the exit status.
"""

from __future__ import annotations

import os
import select
import signal

import msgspec

from opensips_py.engine.holding import VALUE, Holding, TooMuch
from opensips_py.engine.operation import BUSY, LOST, Done, DoneUnless, Operation
from opensips_py.modules.exec import children
from opensips_py.modules.exec.child_places import places
from opensips_py.modules.exec.children import Child, Orphan
from opensips_py.script.context import Value
from opensips_py.server.log import ERROR, WARNING, log
from opensips_py.server.process import this, unwatch

_CHUNK = 65536
_READS_PER_TURN = 4
"""Chunks read in one go, so that a program that never stops writing does not keep the worker from its other work."""
_STACKS = ("$avp(", "$(avp(")
_SLACK = 0.001
"""Timers count in milliseconds."""


class Limits(msgspec.Struct, array_like=True, frozen=True):
    """What the module's parameters allow a program."""

    seconds: float = 0.0
    """Running time; 0: any."""
    output: int = 16 * 1024 * 1024
    """Bytes of output, both streams together; 0: any."""
    grace: float = 1.0
    """Seconds for which output is awaited after the program's end."""
    rc_from_exit_status: bool = False


class _Frozen(msgspec.Struct, array_like=True):
    pid: int
    out: str | None
    err: str | None
    limits: Limits
    mode: str
    kill_at: float | None
    deadline: float | None
    streams: list[str]
    """Open pipes, ``out`` and ``err``, in the order of the descriptors; the pidfd comes after them."""
    read: dict[str, bytes]
    waiting: tuple[bytes, bytes, dict[bytes, bytes]] | None = None
    """Command, input and environment of a program that has not been started yet."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frozen).decode


class ExecOperation(Operation):
    """A program being run. ``out`` and ``err`` are the source texts of the output variables."""

    name = "exec"

    def __init__(
        self, command: bytes, stdin: bytes, out: str | None, err: str | None, environment: dict[bytes, bytes], limits: Limits
    ) -> None:
        self._command = command
        self._stdin = stdin
        self._variables = {"out": out, "err": err}
        self._environment = environment
        self._limits = limits
        self._child: Child | None = None
        self._pipes: dict[int, str] = {}
        """Open pipes by descriptor."""
        self._read: dict[str, list[bytes]] = {"out": [], "err": []}
        self._size = 0
        self._epoll: select.epoll | None = None
        self._kill_at: float | None = None
        self._grace_until: float | None = None
        self._queued = False
        self._promised = False
        """There is a place for the program."""
        self._holding = Holding(0, "")

    # --- beginning ----------------------------------------------------------------------------------------------

    def start(self) -> Done | None:
        if self._child is not None:  # thawed
            self._watch()
            return self.advance()
        if not places.free:
            return self._wait()
        return self._run()

    def _wait(self) -> Done | None:
        """Too many programs run."""
        if self.mode == "plain":
            places.refuse()
            return Done(BUSY)
        try:
            self._holding.wait_with(len(self._command) + len(self._stdin))
        except TooMuch:
            places.refuse()
            return Done(BUSY)
        self._queued = places.wait(self)
        if self._limits.seconds > 0:
            self.deadline = this.clock.now() + self._limits.seconds
        return None if self._queued else Done(BUSY)

    def go(self) -> None:
        """Another program has ended."""
        self._queued, self._promised = False, True
        self._holding.release()
        if self.changed is not None:
            self.changed()

    def _run(self) -> Done | None:
        wanted = [stream for stream, text in self._variables.items() if text is not None]
        try:
            self._spawn(wanted)
        except OSError as error:
            self.close()
            log(ERROR, "exec", "exec", f"cannot run [{self._command.decode('latin-1')}]: {error}")
            return Done(-1)
        if self._limits.seconds > 0:
            self.deadline = self._kill_at = this.clock.now() + self._limits.seconds
        if not wanted and self.mode != "launch":
            self._leave_running()
            return Done(2 if self.mode == "async" else 1)
        self._watch()
        return None

    def _spawn(self, wanted: list[str]) -> None:
        stdin: int | None = None
        ends: dict[str, int] = {}
        try:
            if self._stdin:
                stdin = os.memfd_create("exec stdin")
                rest = memoryview(self._stdin)
                while rest:
                    rest = rest[os.write(stdin, rest) :]
                os.lseek(stdin, 0, os.SEEK_SET)
            for stream in wanted:
                end, ends[stream] = os.pipe()
                os.set_blocking(end, False)
                self._pipes[end] = stream
            self._child = children.spawn(self._command, self._environment, stdin, ends.get("out"), ends.get("err"))
        finally:
            for fd in ends.values():
                os.close(fd)
            if stdin is not None:
                os.close(stdin)

    def _watch(self) -> None:
        self._epoll = select.epoll()
        assert self._child is not None
        for fd in (*self._pipes, self._child.pidfd):
            self._epoll.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    # --- progress -----------------------------------------------------------------------------------------------

    def advance(self) -> Done | None:
        child = self._child
        if self._queued:
            return None
        if self._promised:
            self._promised = False
            places.promised()
            self.refreeze = True
            return self._run()
        if child is None or self._epoll is None:
            return Done(-1)
        for fd, stream in list(self._pipes.items()):
            if not self._drain(fd, stream):
                return self._too_much()
        if self._pipes:
            if self._grace_until is None and child.reap():
                self._epoll.unregister(child.pidfd)
                self._grace_until = this.clock.now() + self._limits.grace
                self.deadline = self._grace_until if self._kill_at is None else min(self._grace_until, self._kill_at)
            return None
        if not self._needs_status():
            self._leave_running()
            return self._result(1)
        return self._ended() if child.reap() else None

    def _needs_status(self) -> bool:
        return self._limits.rc_from_exit_status or (self.mode == "launch" and not any(self._variables.values()))

    def _drain(self, fd: int, stream: str) -> bool:
        """Read what is there. False when it is more than allowed."""
        chunks = self._read[stream]
        for _ in range(_READS_PER_TURN):
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                self._close_pipe(fd)
                return True
            chunks.append(data)
            self._size += len(data) + (VALUE * data.count(b"\n") if self._is_stack(stream) else 0)
            if self.journal is not None:
                self.journal((b"o" if stream == "out" else b"e") + len(data).to_bytes(4, "big") + data)
            if self._size > self._limits.output > 0 or not self._may_hold(len(data)):
                return False
            if len(data) < 4096:  # a pipe gives all it has: the next read would be in vain, or the end, which wakes us
                return True
        return True

    def _is_stack(self, stream: str) -> bool:
        """Each line becomes a value of an AVP."""
        text = self._variables[stream]
        return text is not None and text.startswith(_STACKS)

    def _may_hold(self, size: int) -> bool:
        try:
            self._holding.take(size)
        except TooMuch:
            return False
        return True

    def _ended(self) -> Done:
        child = self._child
        assert child is not None
        status = child.status
        if status is None:
            self.close()
            return Done(LOST)
        self._leave_running()
        return self._result(1 if status == 0 else -1)

    def _too_much(self) -> Done:
        text = self._command.decode("latin-1")
        text = f"[{text}] killed: more than {self._limits.output} bytes of output (or of async_memory)"
        log(WARNING, "exec", "exec", text)
        self.close()
        return Done(-1)

    def _result(self, rc: int) -> Done:
        outputs: list[tuple[str, Value]] = []
        for stream, text in self._variables.items():
            if text is None or not self._read[stream]:
                continue
            output = b"".join(self._read[stream]).decode("latin-1")
            if self.mode == "plain":
                outputs.append((text, output))
                continue
            lines = output.split("\n")
            if not lines[-1]:
                lines.pop()
            if not text.startswith(_STACKS):
                lines = lines[-1:]
            outputs += [(text, line) for line in lines]
        return DoneUnless.of(rc, outputs, rc)

    # --- the end ------------------------------------------------------------------------------------------------

    def expire(self) -> Done:
        now = this.clock.now() + _SLACK
        child = self._child
        if child is None:
            self._leave()
            return Done(BUSY)
        if self._grace_until is not None and now >= self._grace_until:
            return self._ended() if self._needs_status() else self._result(1)
        if self._kill_at is not None and now >= self._kill_at:
            # OpenSIPS: a program ended by time_to_kill gives what it has written so far
            result = self._result(-1 if self._needs_status() else 1)
            self._leave_running()
            self.close()
            return result
        self.close()
        return Done(-1)

    def _leave_running(self) -> None:
        """Nobody waits for the program any more; it is reaped when it ends."""
        child, self._child = self._child, None
        self._release()
        if child is not None:
            children.reap_later(child, end_at=self._kill_at)

    def close(self) -> None:
        child, self._child = self._child, None
        self._leave()
        self._release()
        if child is not None:
            child.signal_group(signal.SIGKILL)
            children.reap_later(child)

    def _leave(self) -> None:
        """Do not wait for a place any more."""
        self._holding.release()
        if self._queued:
            self._queued = False
            places.leave(self)
        elif self._promised:
            self._promised = False
            places.give_back()

    def forget(self) -> None:
        child, self._child = self._child, None
        self._leave()
        self._release()
        if child is not None:
            children.reap_later(child, tell=True)

    def _release(self) -> None:
        for fd in list(self._pipes):
            self._close_pipe(fd)
        if self._epoll is not None:
            unwatch(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _close_pipe(self, fd: int) -> None:
        if self._epoll is not None:
            self._epoll.unregister(fd)  # the attendant has a duplicate: closing alone would not do it
        os.close(fd)
        del self._pipes[fd]

    # --- handing over -------------------------------------------------------------------------------------------

    def fds(self) -> list[int]:
        return [] if self._child is None else [*self._pipes, self._child.pidfd]

    def freeze(self) -> bytes:
        return _encode(
            _Frozen(
                pid=0 if self._child is None else self._child.pid,
                out=self._variables["out"],
                err=self._variables["err"],
                limits=self._limits,
                mode=self.mode,
                kill_at=self._kill_at,
                deadline=self.deadline,
                streams=list(self._pipes.values()),
                read={stream: b"".join(chunks) for stream, chunks in self._read.items()},
                waiting=(self._command, self._stdin, self._environment) if self._queued or self._promised else None,
            )
        )

    @classmethod
    def thaw(cls, state: bytes, fds: list[int], journal: bytes) -> Operation:
        f = _decode(state)
        if f.waiting is not None:
            for fd in fds:
                os.close(fd)
            command, stdin, environment = f.waiting
            return cls(command, stdin, f.out, f.err, environment, f.limits)
        op = cls(b"(taken over)", b"", f.out, f.err, {}, f.limits)
        op.mode = f.mode
        if len(fds) != len(f.streams) + 1:
            for fd in fds:
                os.close(fd)
            return _Lost()
        op._child = Orphan(f.pid, fds[-1])
        op._pipes = dict(zip(fds, f.streams, strict=False))
        op._kill_at, op.deadline = f.kill_at, f.deadline
        for stream, data in f.read.items():
            op._read[stream].append(data)
            op._size += len(data)
        at = 0
        while at < len(journal):
            stream = "out" if journal[at : at + 1] == b"o" else "err"
            size = int.from_bytes(journal[at + 1 : at + 5], "big")
            op._read[stream].append(journal[at + 5 : at + 5 + size])
            op._size += size
            at += 5 + size
        return op


class _Lost(ExecOperation):
    """A program of a dead worker whose descriptors never reached anybody."""

    def __init__(self) -> None:
        super().__init__(b"", b"", None, None, {}, Limits())

    def start(self) -> Done:
        return Done(LOST)
