"""opensips-py as a child process: started from a script's text, observed from outside, stopped orderly."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from scripts.testbed.ports import free_port
from scripts.testbed.preloaded import Preloaded, PreloadedProcess

PREAMBLE = """\
log_level=2
log_stderror=yes
udp_workers={workers}
socket=udp:127.0.0.1:{port}
auto_aliases=no
maxbuffer=4194304
loadmodule "proto_udp.so"
loadmodule "mi_fifo.so"
modparam("mi_fifo", "fifo_name", "{tmp}/fifo")
modparam("mi_fifo", "reply_dir", "{tmp}/")
"""
"""Put before a script that opens no socket itself."""

READY = "all processes are ready"
"""Logged at level 2 (notice): a script with a lower ``log_level`` cannot be waited for."""


Process = PreloadedProcess | subprocess.Popen[bytes]


@functools.cache
def preloaded() -> Preloaded:
    """The process from which servers are forked, one for this process."""
    process = Preloaded()
    atexit.register(process.close)
    return process


def check(script: Path, option: str = "-C") -> subprocess.CompletedProcess[str]:
    """Have a script checked."""
    command = [*preloaded().command(), option, "-f", str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


class MIError(Exception):
    """The server answered a management command with a JSON-RPC error, or not at all."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code


class Server:
    """A running server. ``{port}``, ``{tmp}`` and ``{workers}`` in the script stand for its port, directory and workers.

    A script without ``socket=`` gets :data:`PREAMBLE`: one UDP socket on 127.0.0.1 and the management FIFO.
    """

    def __init__(
        self,
        script: str,
        workers: int = 2,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        wait: bool = True,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.port = port or free_port()
        self.tmp = Path(tempfile.mkdtemp(prefix="opensips-py-"))
        self.fifo = self.tmp / "fifo"
        self.log_file = self.tmp / "log"
        if not re.search(r"^\s*socket\s*=", script, re.M):
            script = PREAMBLE + script
        for name, value in (("port", self.port), ("tmp", self.tmp), ("workers", workers)):
            script = script.replace("{" + name + "}", str(value))
        self.config = self.tmp / "opensips.cfg"
        self.config.write_bytes(script.encode("latin-1", "surrogateescape"))
        self.process = self._start(["-F", "-E", "-f", str(self.config), *options], environment, stdin)
        self.address = ("127.0.0.1", self.port)
        if wait:
            self.wait_ready()

    def _start(self, arguments: list[str], environment: dict[str, str] | None, stdin: int) -> Process:
        """Forked from the preloaded process; with an environment of its own, which Python reads too, by the command line."""
        with open(self.log_file, "wb") as output, open(os.devnull, "rb") as nothing:
            if environment is None:
                reading = nothing.fileno() if stdin == subprocess.DEVNULL else stdin
                return preloaded().start(arguments, directory=str(self.tmp), stdin=reading, output=output.fileno())
            return subprocess.Popen(
                [sys.executable, "-m", "opensips_py", *arguments],
                stdout=output,
                stderr=output,
                stdin=stdin,
                cwd=self.tmp,
                env=os.environ | environment,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until all processes are ready. Raises RuntimeError with the log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with status {self.process.returncode}:\n{self.log}")
            if READY in self.log:
                return
            time.sleep(0.01)
        log = self.log
        self.kill()
        raise RuntimeError(f"the server is not ready after {seconds} s:\n{log}")

    @property
    def log(self) -> str:
        """Everything that it has written so far (one character per byte)."""
        return self.log_file.read_bytes().decode("latin-1")

    def lines(self, containing: str = "") -> list[str]:
        """Log lines that contain a text."""
        return [line for line in self.log.splitlines() if containing in line]

    def wait_log(self, text: str, seconds: float = 20, count: int = 1, pause: float = 0.01) -> list[str]:
        """Wait until at least ``count`` log lines contain ``text``; returns them. Raises AssertionError with the log.

        ``pause`` is the time between two looks, in seconds.
        """
        end = time.monotonic() + seconds
        while len(found := self.lines(text)) < count:
            if time.monotonic() > end:
                raise AssertionError(f"{len(found)} of {count} lines with {text!r} after {seconds} s in:\n{self.log}")
            time.sleep(pause)
        return found

    def processes(self) -> list[psutil.Process]:
        """The attendant and all its processes, programs started by exec() too."""
        try:
            attendant = psutil.Process(self.process.pid)
            return [attendant, *attendant.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def pids(self, kind: str = "") -> list[int]:
        """Process ids whose title contains ``kind``: ``SIP receiver``, ``timer``, ``MI FIFO``, ``attendant``."""
        found = []
        for process in self.processes():
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if title.startswith("opensips-py: ") and kind in title:
                found.append(process.pid)
        return found

    def mi(self, command: str, params: dict[str, Any] | list[Any] | None = None, seconds: float = 20) -> Any:
        """Run a management command over the FIFO; raises :class:`MIError`."""
        reply = f"reply_{os.getpid()}_{time.monotonic_ns()}"
        path = self.tmp / reply
        os.mkfifo(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            request: dict[str, Any] = {"jsonrpc": "2.0", "id": reply, "method": command}
            if params is not None:
                request["params"] = params
            with open(self.fifo, "wb", buffering=0) as fifo:
                fifo.write(f":{reply}:{json.dumps(request)}".encode())
            answer = self._read_answer(descriptor, seconds)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)
        if "error" in answer:
            raise MIError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    @staticmethod
    def _read_answer(descriptor: int, seconds: float) -> dict[str, Any]:
        data = b""
        end = time.monotonic() + seconds
        poll = select.poll()  # a test with a thousand connections has descriptors that select() does not take
        poll.register(descriptor, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            if not poll.poll(left * 1000):
                break
            part = os.read(descriptor, 65536)
            data += part
            if not part and data:
                answer: dict[str, Any] = json.loads(data)
                return answer
            if not part:
                time.sleep(0.005)  # no writer yet
        raise MIError(0, f"no answer, {data!r} so far")

    def statistics(self, *names: str) -> dict[str, int]:
        """Values of statistics (``group:name``), or of whole groups (``group:``)."""
        result = self.mi("get_statistics", {"statistics": list(names)})
        return {name: int(value) for name, value in result.items()}

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time of the server's processes, and of the programs that they have run and reaped."""
        own = children = 0.0
        for process in self.processes():
            try:
                if (times := process.cpu_times()) and process.cmdline()[:1] and "opensips-py" in process.cmdline()[0]:
                    own += times.user + times.system
                    if process.pid != self.process.pid:
                        children += times.children_user + times.children_system
            except (psutil.Error, IndexError):
                continue
        return own, children

    def uss(self) -> int:
        """Memory that only the server's processes use, in bytes (USS, summed)."""
        total = 0
        for pid in self.pids():
            try:
                total += psutil.Process(pid).memory_full_info().uss
            except psutil.Error:
                continue
        return total

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM and wait; returns the exit status. What is left after ``seconds`` is killed and raises AssertionError."""
        tree = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server does not stop within {seconds} s:\n{self.log}") from None
        _, alive = psutil.wait_procs([p for p in tree if p.pid != self.process.pid], timeout=5)
        for process in alive:
            process.kill()
        if alive:
            raise AssertionError(f"processes left behind: {alive}\n{self.log}")
        return status

    def kill(self) -> None:
        """SIGKILL to every process, as a crash."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue
        self.process.wait(20)

    def remove(self) -> None:
        """Delete its directory."""
        shutil.rmtree(self.tmp, ignore_errors=True)
