"""Writing to standard error without ever waiting for who reads it, if anybody does.

Descriptor 2 belongs to others, too: the shell, a supervisor, programs beside this one. To make it non-blocking would do the same
to them. So a pipe or terminal is opened once more, a socket is written with a flag, and a file never waits.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable

from ipc.clock import clock

_ANEW = "/proc/self/fd/2"
_LOOK_SECONDS = 1.0
"""How long descriptor 2 is taken to be what it was."""


class StandardError:
    """Descriptor 2 of this process."""

    __slots__ = ("_checked", "_close", "_cut", "_identity", "_write", "lost")

    def __init__(self) -> None:
        self._identity: tuple[int, int] | None = None
        """Device and inode of what descriptor 2 was when it was looked at last."""
        self._checked = 0.0
        self._write: Callable[[bytes], int] = _to_file
        self._close: Callable[[], None] | None = None
        self._cut = False
        """A line was written in part: the next one begins a new line."""
        self.lost = 0
        """Lines for which there was no room."""

    def changed(self) -> None:
        """Descriptor 2 is another one: what it was is let go of at once."""
        self._look()

    def write(self, line: bytes) -> bool:
        """Write a line; False when there is no room for it now. Raises OSError when nobody will read it."""
        now = clock.now()
        if not 0 <= now - self._checked < _LOOK_SECONDS:
            self._look()
            self._checked = now
        if self._cut:
            line = b"\n" + line
        try:
            written = self._write(line)
        except BlockingIOError:
            written = 0
        if written == len(line):
            self._cut = False
            return True
        self._cut = self._cut or written > 0
        self.lost += 1
        return False

    def _look(self) -> None:
        """Find out what descriptor 2 is, and how it is written."""
        found = os.fstat(2)
        identity = found.st_dev, found.st_ino
        if identity == self._identity:
            return
        if self._close is not None:
            self._close()
        self._identity, self._close, self._cut = identity, None, False
        if stat.S_ISREG(found.st_mode):
            self._write = _to_file
        elif stat.S_ISSOCK(found.st_mode):
            peer = socket.socket(fileno=os.dup(2))
            self._write, self._close = lambda line: peer.send(line, socket.MSG_DONTWAIT), peer.close
        else:
            try:
                fd = os.open(_ANEW, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY)
            except OSError:  # no /proc, or another user's terminal
                self._write = _if_there_is_room
            else:
                self._write, self._close = lambda line: os.write(fd, line), lambda: os.close(fd)


def _to_file(line: bytes) -> int:
    return os.write(2, line)


def _if_there_is_room(line: bytes) -> int:
    """Ask first. A pipe that says yes takes so many bytes at once, unless another process is faster."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    return os.write(2, line[: select.PIPE_BUF]) if poll.poll(0) else 0
