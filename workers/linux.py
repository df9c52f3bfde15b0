"""The few Linux calls that Python does not offer: prctl(2)."""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: int) -> None:
    """Have the kernel send ``signum`` to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose own parent dies, to learn their exit status."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def is_runnable(pid: int) -> bool:
    """Whether a process runs, or waits for nothing but a processor (proc(5), state R); False when it is gone."""
    return _state(pid) == b"R"


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal or a debugger (proc(5), states T and t)."""
    return _state(pid) in (b"T", b"t")


def stopped_by_signal(pid: int) -> bool:
    """Whether a process was stopped by a signal, not by a debugger."""
    return _state(pid) == b"T"


def _state(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0]
    except OSError:
        return b""
