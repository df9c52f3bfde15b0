"""Lines of the log, on standard error and to syslog."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensips_py.core import log as logging
from opensips_py.core.log import DBG, ERROR, INFO, NOTICE, log, xlog
from opensips_py.script.program import load
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
