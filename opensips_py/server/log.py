"""The server's log: standard error or syslog, in the two line formats of OpenSIPS.

On standard error a line of the server is ``Nov 23 10:00:00 [PID] LEVEL:module:function: text``, and a line of the
script (``xlog``) has only the date and the process in front of its text. Syslog adds date and process itself.
Texts are byte strings carried as ``str`` (one character per byte). Those of the script are written unchanged; in lines of the
server, which quote what others send, control characters are shown as ``\\x1b``, and further lines of one text are indented:
nobody can forge a line.

Logging never waits: a line for which there is no room is lost, and counted. A place in the code that has much to say in one
second is cut short, and how many lines were left out is said afterwards.

Levels count upwards with verbosity, so "is this written?" is one comparison. They are those of OpenSIPS: the ones
below 1 cannot be silenced by accident, and 0 does not exist.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable

from ipc.clock import clock
from opensips_py.server.standard_error import StandardError

ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DBG = -3, -2, -1, 1, 2, 3, 4

NAMES = {ALERT: "ALERT", CRITICAL: "CRITICAL", ERROR: "ERROR", WARNING: "WARNING", NOTICE: "NOTICE", INFO: "INFO", DBG: "DBG"}

_SEVERITIES = {ALERT: 1, CRITICAL: 2, ERROR: 3, WARNING: 4, NOTICE: 5, INFO: 6, DBG: 7}
"""Severities of syslog (RFC 5424 section 6.2.1)."""

FACILITIES = {
    "LOG_KERN": 0,
    "LOG_USER": 1,
    "LOG_MAIL": 2,
    "LOG_DAEMON": 3,
    "LOG_AUTH": 4,
    "LOG_SYSLOG": 5,
    "LOG_LPR": 6,
    "LOG_NEWS": 7,
    "LOG_UUCP": 8,
    "LOG_CRON": 9,
    "LOG_AUTHPRIV": 10,
    "LOG_FTP": 11,
} | {f"LOG_LOCAL{n}": 16 + n for n in range(8)}
"""``log_facility`` by name (RFC 5424 section 6.2.1)."""

SYSLOG_SOCKET = "/dev/log"


def _not_counted(lines: int) -> None:
    """Nobody keeps count of lines that are not written."""


_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class _Site:
    """What one place in the code has logged in the current second."""

    __slots__ = ("bytes", "left_out", "lines", "second")

    def __init__(self) -> None:
        self.second = self.lines = self.bytes = self.left_out = 0


class LogState:
    """Where this process logs, and how much. Processes inherit it at the fork; ``log_level`` (MI) changes one process."""

    __slots__ = (
        *(
            "_flooded",
            "_output",
            "_prefix",
            "_second",
            "_sites",
            "_syslog",
            "facility",
            "left_out",
            "later",
            "level",
            "most_bytes",
            "most_lines",
            "name",
            "pid",
            "starter",
        ),
        *("stderr", "syslog", "xlog_level"),
    )

    def __init__(self) -> None:
        self.level = NOTICE
        """Lines of the server up to this level are written (``log_level``)."""
        self.xlog_level = NOTICE
        """Lines of the script up to this level are written (``xlog_level``)."""
        self.most_lines, self.most_bytes = 100, 65536
        """Lines that one place may write in one second, and bytes in them (``log_max_lines``, ``log_max_bytes``)."""
        self.left_out: Callable[[int], None] = _not_counted
        """Told of each line that is not written because of these, or because nobody takes it."""
        self.stderr = True
        """Write to standard error."""
        self.syslog = False
        """Write to syslog."""
        self.facility = FACILITIES["LOG_DAEMON"]
        self.name = "opensips-py"
        """Program name in syslog (``log_name``)."""
        self.starter = -1
        """Pipe to the launching process of a daemon that is starting: it shows errors to who started it. -1: none."""
        self.pid = os.getpid()
        self._second = 0
        self._prefix = b""
        self._syslog: socket.socket | None = None
        self._output = StandardError()
        self._sites: dict[tuple[str, str], _Site] = {}
        self._flooded: set[tuple[str, str]] = set()
        """Places whose lines are being left out."""
        self.later: Callable[[Callable[[], None]], None] | None = None
        """Calls something in a second, where there is a loop to do it. Else what was left out is said with the next line."""

    def prefix(self) -> bytes:
        """``Nov 23 10:00:00 [PID] ``, made once per second."""
        now = int(clock.wall())
        if now != self._second:
            self._prefix = time.strftime("%b %e %H:%M:%S [", time.localtime(now)).encode() + b"%d] " % self.pid
            self._second = now
        return self._prefix

    def forked(self) -> None:
        self.pid = os.getpid()
        self._second = 0
        self._sites.clear()
        self._flooded.clear()
        self.later = None

    def standard_error_changed(self) -> None:
        """Descriptor 2 has been replaced."""
        self._output.changed()

    def allows(self, module: str, function: str, size: int) -> bool:
        """Whether a place may write one more line of so many bytes in this second."""
        now = int(clock.now())
        if self._flooded:
            self._sum_up(now)
        place = module, function
        site = self._sites.get(place)
        if site is None:
            site = self._sites[place] = _Site()
        if site.second != now:
            site.second, site.lines, site.bytes = now, 0, 0
        site.lines += 1
        site.bytes += size
        if site.lines <= self.most_lines and site.bytes <= self.most_bytes:
            return True
        self.left_out(1)
        if not site.left_out and self.later is not None:
            self.later(self.sum_up)
        site.left_out += 1
        self._flooded.add(place)
        return False

    def sum_up(self) -> None:
        """Say what was left out."""
        self._sum_up(int(clock.now()))
        if self._flooded and self.later is not None:
            self.later(self.sum_up)

    def _sum_up(self, now: int) -> None:
        for place in [place for place in self._flooded if self._sites[place].second != now]:
            self._flooded.discard(place)
            site = self._sites[place]
            left_out, site.left_out = site.left_out, 0
            self.write(NOTICE, to_bytes(f"NOTICE:{place[0]}:{place[1]}: {left_out} more lines like these were left out\n"))

    def write(self, level: int, line: bytes, facility: int | None = None) -> bool:
        """Write one line that has passed its level. False when there was room for it nowhere.

        ``facility``: of syslog, if it is another one than the server's.
        """
        written = False
        if self.stderr:
            try:
                written = self._to_standard_error(line)
            except OSError:
                pass  # nobody reads it: the server goes on
        if self.syslog:
            written |= self._to_syslog(level, line, self.facility if facility is None else facility)
        if self.starter >= 0 and level <= ERROR:
            try:
                os.write(self.starter, self.prefix() + line)
            except OSError:  # the launching process has seen the start and is gone
                os.close(self.starter)
                self.starter = -1
        return written

    def _to_standard_error(self, line: bytes) -> bool:
        output = self._output
        prefix = self.prefix()
        if output.lost:
            lost, output.lost = output.lost, 0
            if not output.write(
                b"%sNOTICE:core:log: %d lines could not be written: standard error is not read\n" % (prefix, lost)
            ):
                output.lost = lost + 1  # this one, too
                return False
        if output.write(prefix + line):
            return True
        self.left_out(1)
        return False

    def _to_syslog(self, level: int, line: bytes, facility: int) -> bool:
        # syslog(3) would take text and encode it; script texts are bytes
        stamp = time.strftime("%b %e %H:%M:%S ").encode()
        priority = facility << 3 | _SEVERITIES[min(max(level, ALERT), DBG) or ERROR]
        packet = b"<%d>%s%s[%d]: %s" % (priority, stamp, self.name.encode(), self.pid, line.rstrip(b"\n"))
        for _ in range(2):  # a second time when the syslog daemon was restarted
            try:
                if self._syslog is None:
                    self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                    self._syslog.connect(SYSLOG_SOCKET)
                self._syslog.send(packet)
                return True
            except BlockingIOError:
                self.left_out(1)
                return False  # the syslog daemon does not keep up: losing a line is better than stopping
            except OSError:
                if self._syslog is not None:
                    self._syslog.close()
                self._syslog = None
        return False


state = LogState()
os.register_at_fork(after_in_child=state.forked)


def to_bytes(text: str) -> bytes:
    """The bytes of a script text; a text of Python's own that is not latin-1 (an error message) becomes UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def _shown(control: re.Match[str]) -> str:
    return "\n    " if control[0] == "\n" else f"\\x{ord(control[0]):02x}"


def log(level: int, module: str, function: str, text: str) -> None:
    """Write a line of the server. ``module`` is ``core`` or an OpenSIPS module's name; ``text`` is without line end."""
    if level > state.level:
        return
    if level <= NOTICE and not state.allows(module, function, len(text)):
        return
    text = text.rstrip("\n")
    if not text.isprintable():  # also true of what is outside ASCII, which is not changed
        text = _control.sub(_shown, text)
    state.write(level, to_bytes(f"{NAMES.get(level, str(level))}:{module}:{function}: {text}\n"))


def record(level: int, text: str, facility: int | None = None) -> bool:
    """Write a line that must not get lost, without level in front. False when there is no room for it now.

    ``text`` quotes what others send, so control characters in it are shown, but it is not left out when there are many.
    """
    if level > state.level:
        return True
    return state.write(level, to_bytes(f"{_control.sub(_shown, text)}\n"), facility)


def xlog(level: int, text: str) -> None:
    """Write a line of the script, as it is: without level in front, and with a line end only if it has one."""
    if level > state.xlog_level:
        return
    state.write(level, to_bytes(text))
