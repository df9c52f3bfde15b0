"""Becoming a daemon: session, directories, pid files, and the pipe on which the start is reported."""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable

from opensips_py.server import log as logging
from opensips_py.server.log import CRITICAL, WARNING, log

FAILED = 255
"""Exit status of a start that failed (``return -1`` of OpenSIPS' main)."""

_READY = b"\0"


class DaemonError(Exception):
    """The process cannot be set up as asked; the text says what and why."""


def check_pid_file(path: str) -> None:
    """Refuse a pid file of a living process; tell about one of a dead process, which will be overwritten."""
    try:
        with open(path) as file:
            text = file.read().strip()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DaemonError(f"cannot read pid file {path}: {error.strerror}") from error
    if text.isascii() and text.isdigit() and int(text) > 0 and _alive(int(text)):
        raise DaemonError(f"running process found in the pid file {path} (pid {text})")
    log(WARNING, "core", "daemonize", f"pid file {path} is left over from a process that is gone, replacing it")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's process
    return pid != os.getpid()


def write_pid_files(pid_file: str | None, pgid_file: str | None) -> None:
    """Write process and process group number; a later :func:`remove_pid_files` takes them away."""
    for path, number in ((pid_file, os.getpid()), (pgid_file, os.getpgid(0))):
        if path is None:
            continue
        try:
            with open(path, "w") as file:
                file.write(f"{number}\n")
        except OSError as error:
            raise DaemonError(f"cannot write pid file {path}: {error.strerror}") from error


def remove_pid_files(pid_file: str | None, pgid_file: str | None) -> None:
    """Take away what :func:`write_pid_files` wrote, as far as this process may."""
    for path in (pid_file, pgid_file):
        if path is not None:
            try:
                os.unlink(path)
            except OSError:
                pass  # the directory belongs to root and we no longer are: the next start finds it stale


def change_directories(chroot: str | None, workdir: str | None) -> None:
    """Change root, then working directory."""
    try:
        if chroot is not None:
            os.chdir(chroot)
            os.chroot(chroot)
        if workdir is not None:
            os.chdir(workdir)
    except OSError as error:
        raise DaemonError(f"cannot change to directory {error.filename or chroot}: {error.strerror}") from error


def daemonize(serve: Callable[[Callable[[int], None]], int]) -> int:
    """Run ``serve(ready)`` in a new session; return in the launching process when it is ready or has failed.

    Until then the daemon's errors are copied to this process' standard error through a pipe, since the daemon itself
    has no terminal any more. Returns 0 when ``ready(0)`` was called, else the status of the failed start.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = FAILED
        try:
            status = _be_daemon(serve, writing)
        except Exception:  # nobody would see it: the daemon has no terminal
            log(CRITICAL, "core", "main", traceback.format_exc())
        finally:
            os._exit(status)
    os.close(writing)
    status = _watch_start(pid, reading)
    os.close(reading)
    return status


def _be_daemon(serve: Callable[[Callable[[int], None]], int], pipe: int) -> int:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        if descriptor != 2 or not logging.state.stderr:
            os.dup2(null, descriptor)
    os.close(null)
    logging.state.standard_error_changed()
    logging.state.starter = -1 if logging.state.stderr else pipe

    def ready(status: int) -> None:
        nonlocal pipe
        if pipe >= 0:
            try:
                os.write(pipe, _READY + bytes([status & 255]))
            except OSError:
                pass  # the launching process was killed
            logging.state.starter = -1
            os.close(pipe)
            pipe = -1

    return serve(ready)


def _watch_start(pid: int, pipe: int) -> int:
    """Copy what comes through the pipe; the status of the start once it is known."""
    process = os.pidfd_open(pid)
    try:
        while True:
            readable, _, _ = select.select([pipe, process], [], [])
            if pipe in readable:
                data = os.read(pipe, 65536)
                text, end, status = data.partition(_READY)
                os.write(2, text)
                if end:
                    return status[0] if status else os.read(pipe, 1)[0]
                if data:
                    continue
            if process in readable:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255 or FAILED
            if pipe in readable:  # closed without a word by a process that lives: it has gone astray
                os.kill(pid, signal.SIGKILL)
                return FAILED
    finally:
        os.close(process)
