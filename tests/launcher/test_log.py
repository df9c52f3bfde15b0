"""Lines of the log, on standard error and to syslog."""

from __future__ import annotations

import os
import pty
import re
import socket
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opensips_py.script.program import load
from opensips_py.server import log as logging
from opensips_py.server import standard_error
from opensips_py.server.log import DBG, ERROR, INFO, NOTICE, log, xlog
from tests.support.driven_clock import DrivenClock
from workers.launcher import _set_up_log
from workers.options import Options

STAMP = rb"^\w{3} [ \d]\d \d\d:\d\d:\d\d \[%d\] " % os.getpid()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging, "state", logging.LogState())
    yield


def test_line_of_the_server_names_level_module_and_function(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log(ERROR, "tm", "t_relay", "no destination")
    assert re.match(STAMP + rb"ERROR:tm:t_relay: no destination\n$", capfdbinary.readouterr().err)


def test_line_of_the_script_is_written_byte_for_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    xlog(ERROR, "caf\xe9 \xff\x00")
    assert re.match(STAMP + rb"caf\xe9 \xff\x00$", capfdbinary.readouterr().err)


def test_lines_above_the_level_are_not_written(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log(INFO, "core", "main", "hidden")
    xlog(INFO, "hidden\n")
    logging.state.level = DBG
    log(DBG, "core", "main", "shown")
    xlog(INFO, "still hidden\n")
    assert capfdbinary.readouterr().err.endswith(b"DBG:core:main: shown\n")


def test_nobody_can_forge_a_line_of_the_server(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log(ERROR, "core", "receive", "bad\nNov 23 10:00:00 [1] ERROR:core:main: forged\r\x1b[2Jcaf\xe9\tx\x00\n")
    found = capfdbinary.readouterr().err
    assert found.endswith(b"bad\n    Nov 23 10:00:00 [1] ERROR:core:main: forged\\x0d\\x1b[2Jcaf\xe9\tx\\x00\n")


def test_a_flood_of_one_place_is_summed_up(capfdbinary: pytest.CaptureFixture[bytes], clock: DrivenClock) -> None:
    asked: list[object] = []
    logging.state.later = asked.append
    counted: list[int] = []
    logging.state.left_out = counted.append
    for n in range(1000):
        log(ERROR, "core", "receive", f"bad {n}")
        log(ERROR, "core", "trace", "x" * 10_000)
        xlog(ERROR, "script\n")
    log(ERROR, "core", "other", "not a flood")
    found = capfdbinary.readouterr().err
    assert found.count(b"receive: bad") == 100
    assert found.count(b"x" * 10_000) == 65536 // 10_000
    assert sum(counted) == 900 + 994
    assert found.count(b"script") == 1000 and b"not a flood" in found
    assert b"left out" not in found
    assert asked == [logging.state.sum_up] * 2
    clock.now += 1
    logging.state.sum_up()
    found = capfdbinary.readouterr().err
    assert b"NOTICE:core:receive: 900 more lines like these were left out\n" in found
    assert b"NOTICE:core:trace: 994 more lines like these were left out\n" in found
    log(ERROR, "core", "receive", "again")
    assert b"receive: again" in capfdbinary.readouterr().err


def test_how_many_lines_a_place_may_write_is_a_parameter(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    logging.state.most_lines, logging.state.most_bytes = 3, 1 << 20
    for n in range(10):
        log(ERROR, "core", "here", f"line {n}")
    assert capfdbinary.readouterr().err.count(b"here: line") == 3


@contextmanager
def not_read(kind: str) -> Iterator[int]:
    """Standard error that somebody holds and does not read; gives the end to read from."""
    kept = os.dup(2)
    if kind == "socket":
        ours, theirs = socket.socketpair()
        reading, writing = theirs.detach(), ours.detach()
    else:
        reading, writing = pty.openpty() if kind == "terminal" else os.pipe()
    if kind == "terminal":
        tty.setraw(writing)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(reading)


@pytest.mark.parametrize("kind", ["pipe", "pipe without /proc", "socket", "terminal"])
def test_standard_error_that_nobody_reads_stops_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "pipe without /proc":
        monkeypatch.setattr(standard_error, "_ANEW", "/nonexistent")
    with not_read(kind) as reader:
        for n in range(20_000):
            xlog(ERROR, f"line {n} {'x' * 80}\n")
        blocking = os.get_blocking(2)
        os.set_blocking(reader, False)
        before = _drain(reader)
        log(ERROR, "core", "main", "somebody reads again")
        after = _drain(reader)
    assert blocking, "descriptor 2 belongs to others, too"
    assert b" line 0 " in before and b" line 19999 " not in before
    lost = re.search(rb"NOTICE:core:log: (\d+) lines could not be written: standard error is not read\n", after)
    assert lost is not None and int(lost[1]) > 10_000
    assert re.search(rb"\n\w{3} [^\n]*ERROR:core:main: somebody reads again\n$", after)


def _drain(fd: int) -> bytes:
    found = b""
    while True:
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            return found
        found += data


def test_standard_error_may_become_another(tmp_path: Path) -> None:
    kept = os.dup(2)
    state = logging.LogState()
    try:
        for name in ("first", "second"):
            file = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 2)
            os.close(file)
            state.standard_error_changed()
            state.write(ERROR, name.encode() + b"\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert [(tmp_path / name).read_bytes().split()[-1] for name in ("first", "second")] == [b"first", b"second"]


def test_text_of_python_outside_latin_1_is_utf_8(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log(ERROR, "core", "main", "\u2192 \U0001f600")
    assert "→ 😀".encode() in capfdbinary.readouterr().err


def test_syslog_gets_facility_severity_name_and_unchanged_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr(logging, "SYSLOG_SOCKET", path)
    logging.state.stderr, logging.state.syslog = False, True
    logging.state.facility = logging.FACILITIES["LOG_LOCAL0"]
    logging.state.name = "proxy"
    for _ in range(2):  # the second time after a restart of the syslog daemon
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
            daemon.bind(path)
            daemon.settimeout(2)
            xlog(NOTICE, "caf\xe9\n")
            assert re.match(rb"<133>\w{3} [ \d]\d [\d:]{8} proxy\[%d\]: caf\xe9$" % os.getpid(), daemon.recv(4096))
            log(ERROR, "core", "main", "broken")
            assert daemon.recv(4096).endswith(b"ERROR:core:main: broken")
        os.unlink(path)


def test_without_syslog_daemon_the_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "SYSLOG_SOCKET", str(tmp_path / "none"))
    logging.state.stderr, logging.state.syslog = False, True
    log(ERROR, "core", "main", "lost")


@pytest.mark.parametrize(
    "lines, on_screen, to_daemon",
    [
        ("", False, True),
        ("log_stderror=yes", True, False),
        ("stderror_enabled=yes\nsyslog_enabled=no\nsyslog_facility=LOG_LOCAL3", True, False),
        ("stderror_enabled=yes", True, True),
        ("syslog_enabled=no", False, False),
    ],
)
def test_where_the_script_sends_the_log(tmp_path: Path, lines: str, on_screen: bool, to_daemon: bool) -> None:
    config = tmp_path / "opensips.cfg"
    config.write_text(f'{lines}\nsocket=udp:127.0.0.1:5060\nloadmodule "proto_udp.so"\nroute {{ exit; }}\n')
    _set_up_log(Options(), load(str(config)))
    assert (logging.state.stderr, logging.state.syslog) == (on_screen, to_daemon)
    facility = "LOG_LOCAL3" if "LOCAL3" in lines else "LOG_DAEMON"
    assert logging.state.facility == logging.FACILITIES[facility]
