"""The server's log: standard error or syslog, in the two line formats of OpenSIPS.

On standard error a line of the server is ``Nov 23 10:00:00 [PID] LEVEL:module:function: text``, and a line of the
script (``xlog``) has only the date and the process in front of its text. Syslog adds date and process itself.
Texts are byte strings carried as ``str`` (one character per byte) and are written unchanged.

Levels count upwards with verbosity, so "is this written?" is one comparison. They are those of OpenSIPS: the ones
below 1 cannot be silenced by accident, and 0 does not exist.
"""

from __future__ import annotations

import os
import socket
import time

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


class LogState:
    """Where this process logs, and how much. Processes inherit it at the fork; ``log_level`` (MI) changes one process."""

    __slots__ = ("_prefix", "_second", "_syslog", "facility", "level", "name", "pid", "starter", "stderr", "syslog", "xlog_level")

    def __init__(self) -> None:
        self.level = NOTICE
        """Lines of the server up to this level are written (``log_level``)."""
        self.xlog_level = NOTICE
        """Lines of the script up to this level are written (``xlog_level``)."""
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

    def prefix(self) -> bytes:
        """``Nov 23 10:00:00 [PID] ``, made once per second."""
        now = int(time.time())
        if now != self._second:
            self._prefix = time.strftime("%b %e %H:%M:%S [", time.localtime(now)).encode() + b"%d] " % self.pid
            self._second = now
        return self._prefix

    def forked(self) -> None:
        self.pid = os.getpid()
        self._second = 0

    def write(self, level: int, line: bytes) -> None:
        """Write one line that has passed its level."""
        if self.stderr:
            try:
                os.write(2, self.prefix() + line)
            except OSError:
                pass  # nobody reads it: the server goes on
        if self.syslog:
            self._to_syslog(level, line)
        if self.starter >= 0 and level <= ERROR:
            try:
                os.write(self.starter, self.prefix() + line)
            except OSError:  # the launching process has seen the start and is gone
                os.close(self.starter)
                self.starter = -1

    def _to_syslog(self, level: int, line: bytes) -> None:
        # syslog(3) would take text and encode it; script texts are bytes
        stamp = time.strftime("%b %e %H:%M:%S ").encode()
        priority = self.facility << 3 | _SEVERITIES[min(max(level, ALERT), DBG) or ERROR]
        packet = b"<%d>%s%s[%d]: %s" % (priority, stamp, self.name.encode(), self.pid, line.rstrip(b"\n"))
        for _ in range(2):  # a second time when the syslog daemon was restarted
            try:
                if self._syslog is None:
                    self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                    self._syslog.connect(SYSLOG_SOCKET)
                self._syslog.send(packet)
                return
            except BlockingIOError:
                return  # the syslog daemon does not keep up: losing a line is better than stopping
            except OSError:
                if self._syslog is not None:
                    self._syslog.close()
                self._syslog = None


state = LogState()
os.register_at_fork(after_in_child=state.forked)


def to_bytes(text: str) -> bytes:
    """The bytes of a script text; a text of Python's own that is not latin-1 (an error message) becomes UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def log(level: int, module: str, function: str, text: str) -> None:
    """Write a line of the server. ``module`` is ``core`` or an OpenSIPS module's name; ``text`` is without line end."""
    if level > state.level:
        return
    state.write(level, to_bytes(f"{NAMES.get(level, str(level))}:{module}:{function}: {text}".rstrip("\n") + "\n"))


def xlog(level: int, text: str) -> None:
    """Write a line of the script, as it is: without level in front, and with a line end only if it has one."""
    if level > state.xlog_level:
        return
    state.write(level, to_bytes(text))
