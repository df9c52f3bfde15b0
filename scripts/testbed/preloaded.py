"""A process that has everything imported, from which servers are forked: a start takes milliseconds, not half a second.

What a server is afterwards, it is by the launcher: the same ``main()``, with its own arguments, directory, environment,
descriptors and session. The process itself opens nothing that a server would (no store, no sockets of zmq, no threads), so
that a fork differs from a new interpreter in nothing but its age.

A request comes over a Unix socket, with descriptors 0 to 2 of the future server beside it (SCM_RIGHTS)::

    length NUL directory NUL number of arguments NUL arguments NUL ... NUL environment NUL ...

Two lines come back: the process id, and in the end the exit status, negative when a signal ended the server. A client that goes
before that takes its server with it: all of its session is killed. ``preloaded_client.py`` is such a client for the command
line, :class:`PreloadedProcess` one for Python.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import os
import pkgutil
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

import ipc
import opensips_py
import workers
from workers.launcher import main as launch

_NOT_PRELOADED = {"opensips_py.__main__", "opensips_py.testing", "opensips_py.script.coverage_plugin"}
"""Not part of a server."""
_STANDARD = range(3)
_REQUEST_SECONDS = 10.0


def preload() -> None:
    """Import all that any server may need, and put it where the garbage collector does not write."""
    for package in (opensips_py, workers, ipc):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name not in _NOT_PRELOADED:
                with contextlib.suppress(ImportError):  # a server that needs it will say why
                    importlib.import_module(module.name)
    setproctitle("opensips-py-preloaded")  # finds its place among arguments and environment when first called
    gc.collect()
    gc.freeze()


class Zygote:
    """Serves requests until the process that started it is gone."""

    def __init__(self, listener: socket.socket, owner: int) -> None:
        self._listener = listener
        self._owner = owner
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._poll.register(owner, select.POLLIN)
        self._clients: dict[int, tuple[socket.socket, int]] = {}
        """Descriptor of a connection -> connection, process id."""
        self._servers: dict[int, tuple[int, int]] = {}
        """pidfd -> process id, descriptor of its client."""

    def serve(self) -> list[str] | None:
        """None at the end; in a forked process, the arguments of the server that it is to become."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._owner:
                    for _, pid in self._clients.values():
                        _kill_session(pid)
                    return None
                if descriptor == self._listener.fileno():
                    arguments = self._accept()
                    if arguments is not None:
                        return arguments
                elif descriptor in self._servers:
                    self._ended(descriptor)
                elif descriptor in self._clients:
                    _kill_session(self._clients[descriptor][1])
                    self._forget(descriptor)

    def _accept(self) -> list[str] | None:
        connection, _ = self._listener.accept()
        connection.settimeout(_REQUEST_SECONDS)
        try:
            descriptors, words = _receive(connection)
            connection.settimeout(None)
        except (OSError, ValueError):
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            limits = _limits_of(connection)
            self._let_go()
            connection.close()
            return _become(descriptors, words, limits)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % pid)
        watched = os.pidfd_open(pid)
        self._servers[watched] = pid, connection.fileno()
        self._clients[connection.fileno()] = connection, pid
        self._poll.register(watched, select.POLLIN)
        self._poll.register(connection, select.POLLIN)
        return None

    def _ended(self, watched: int) -> None:
        pid, client = self._servers.pop(watched)
        self._poll.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        if client in self._clients and self._clients[client][1] == pid:
            with contextlib.suppress(OSError):
                self._clients[client][0].sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            self._forget(client)

    def _let_go(self) -> None:
        """Close all that is this process' own."""
        self._listener.close()
        for connection, _ in self._clients.values():
            connection.close()
        for descriptor in (self._owner, *self._servers):
            os.close(descriptor)

    def _forget(self, client: int) -> None:
        self._poll.unregister(client)
        self._clients.pop(client)[0].close()


def _kill_session(pid: int) -> None:
    for end in (os.killpg, os.kill):  # the process may not lead its group yet
        with contextlib.suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def _receive(connection: socket.socket) -> tuple[list[int], list[bytes]]:
    """Descriptors and words of a request; ValueError when the client is gone before its end."""
    integer = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(len(_STANDARD) * integer.itemsize))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            integer.frombytes(content)
    length = int(data[: data.index(b"\0")])
    rest = data[data.index(b"\0") + 1 :]
    while len(rest) < length:
        part = connection.recv(65536)
        if not part:
            raise ValueError("not a whole request")
        rest += part
    return list(integer), rest.split(b"\0")


_Limits = dict[int, tuple[int, int]]


def _limits_of(connection: socket.socket) -> _Limits:
    """Open files and size of core dumps that the client is allowed."""
    client: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return {limit: resource.prlimit(client, limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)}


def _become(descriptors: list[int], words: list[bytes], limits: _Limits) -> list[str]:
    """Be, in the forked process, what ``python -m opensips_py`` would be; returns the arguments."""
    os.setsid()
    for limit, values in limits.items():
        resource.setrlimit(limit, values)
    for target, descriptor in zip(_STANDARD, descriptors, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(words[0])
    count = int(words[1])
    os.environb.clear()
    for word in words[2 + count :]:
        name, _, value = word.partition(b"=")
        os.environb[name] = value
    time.tzset()
    sys.path[0] = os.getcwd()
    return [os.fsdecode(word) for word in words[2 : 2 + count]]


def request(arguments: list[str], directory: str, environment: dict[str, str]) -> bytes:
    """The bytes that ask for a server."""
    words = [directory, str(len(arguments)), *arguments, *(f"{name}={value}" for name, value in environment.items())]
    body = b"\0".join(map(os.fsencode, words))
    return b"%d\0" % len(body) + body


class PreloadedProcess:
    """A forked server, with what is used of ``subprocess.Popen``."""

    def __init__(self, path: str, arguments: list[str], *, directory: str, stdin: int, output: int) -> None:
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(path)
        rights = array.array("i", [stdin, output, output])
        data = request(arguments, directory, dict(os.environ))
        sent = self._connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        if sent < len(data):  # a server that ended already has closed the connection, and sending nothing would fail
            self._connection.sendall(data[sent:])
        self._answer = self._connection.makefile("rb")
        self.pid = int(self._answer.readline())

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None and self._said_something(0):
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            if not self._said_something(timeout):
                raise subprocess.TimeoutExpired(["opensips-py"], timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _said_something(self, seconds: float | None) -> bool:
        poll = select.poll()  # a test with a thousand connections has descriptors that select() does not take
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _end(self) -> None:
        self.returncode = int(self._answer.readline())
        self._answer.close()
        self._connection.close()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it is known to have ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Preloaded:
    """The process and its socket; it ends with :meth:`close`, or when this process does."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="opensips-py-preloaded-")
        self.path = f"{self.directory}/socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(64)
            theirs, self._ours = os.pipe()
            # the child has the reading end; ours is closed by the kernel at the latest
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno()), str(theirs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=Path(__file__).resolve().parents[2],
                pass_fds=[listener.fileno(), theirs],
                start_new_session=True,
            )
            os.close(theirs)

    def start(self, arguments: list[str], *, directory: str, stdin: int, output: int) -> PreloadedProcess:
        """Fork a server."""
        return PreloadedProcess(self.path, arguments, directory=directory, stdin=stdin, output=output)

    def command(self) -> list[str]:
        """The beginning of a command line that starts a server."""
        return [sys.executable, "-I", "-S", str(Path(__file__).with_name("preloaded_client.py")), self.path]

    def close(self) -> None:
        """End it, and all servers that it has forked and that somebody waits for."""
        os.close(self._ours)
        self._process.wait()
        Path(self.path).unlink(missing_ok=True)
        os.rmdir(self.directory)


def serve(listener: int, owner: int) -> NoReturn:
    """Be the process."""
    preload()
    arguments = Zygote(socket.socket(fileno=listener), owner).serve()
    if arguments is None:
        sys.exit(0)
    sys.argv = ["opensips-py", *arguments]
    status = launch()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking all that was imported apart would take longer than a short server lives


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
