"""Calls that other threads have for the one that runs the script: they are made between two messages."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from opensips_py.engine.operation import READ
from opensips_py.server.guard import report_error
from opensips_py.server.process import this

_calls: deque[Callable[[], None]] = deque()
_wake: list[int] = []


def begin() -> None:
    """In each process, before it serves; a second time in the same process is harmless."""
    if not _wake:
        _wake.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        this.reactor.add(_wake[0], READ, _run)


def end() -> None:
    """The process ends; calls that nobody has made yet are dropped."""
    if _wake:
        fd = _wake.pop()
        this.reactor.remove(fd)
        os.close(fd)
    _calls.clear()


def call(function: Callable[[], None]) -> None:
    """Call ``function`` in the script's thread: here and now if this is it, else soon."""
    if threading.current_thread() is threading.main_thread():
        function()
        return
    _calls.append(function)
    if _wake:
        os.eventfd_write(_wake[0], 1)


def _run(events: int) -> None:
    os.eventfd_read(_wake[0])
    for _ in range(len(_calls)):
        try:
            _calls.popleft()()
        except Exception as error:
            report_error(error, "call from another thread")
