"""Servers forked from a preloaded process are what the command line starts: arguments, descriptors, signals, ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opensips_py.server.process import this
from scripts.testbed.ports import free_port
from scripts.testbed.preloaded import Preloaded
from tests.conftest import StartServer
from tests.support.sip_client import SipClient

SCRIPT = """
log_level=2
log_stderror=yes
udp_workers=1
socket=udp:127.0.0.1:{port}
loadmodule "proto_udp.so"
loadmodule "sl.so"
route { sl_send_reply(200, "OK"); }
"""


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    process = Preloaded()
    yield process
    process.close()


@pytest.fixture
def running(preloaded: Preloaded, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server by the client for the command line, ready."""
    script = tmp_path / "opensips.cfg"
    script.write_text(SCRIPT.replace("{port}", str(free_port())))
    with open(tmp_path / "log", "wb") as log:
        command = [*preloaded.command(), "-F", "-f", "opensips.cfg"]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
    end = this.clock.now() + 60
    while b"all processes are ready" not in (tmp_path / "log").read_bytes():
        assert process.poll() is None and this.clock.now() < end, (tmp_path / "log").read_text()
        time.sleep(0.01)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def processes(directory: Path) -> list[psutil.Process]:
    """All processes of the server whose log is there."""
    log, found = str(directory / "log"), []
    for process in psutil.process_iter():
        try:
            if os.readlink(f"/proc/{process.pid}/fd/2") == log and "opensips-py: " in " ".join(process.cmdline()):
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def wait_gone(directory: Path) -> None:
    end = this.clock.now() + 20
    while left := processes(directory):
        assert this.clock.now() < end, left
        time.sleep(0.01)


def test_a_terminated_client_stops_its_server_and_ends_as_it_does(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert len(processes(tmp_path)) > 2
    running.terminate()
    assert running.wait(30) == 0
    assert not processes(tmp_path)


def test_a_killed_client_takes_its_server_with_it(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    os.killpg(running.pid, signal.SIGKILL)
    wait_gone(tmp_path)


def test_a_killed_server_is_a_killed_client(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    attendant = next(process for process in processes(tmp_path) if "attendant" in process.cmdline()[0])
    attendant.kill()
    assert running.wait(30) == -signal.SIGKILL
    wait_gone(tmp_path)


def test_the_end_of_the_preloaded_process_takes_all_servers_with_it(tmp_path: Path) -> None:
    process = Preloaded()
    script = tmp_path / "opensips.cfg"
    script.write_text(SCRIPT.replace("{port}", str(free_port())))
    with open(tmp_path / "log", "wb") as log, open(os.devnull) as nothing:
        server = process.start(["-F", "-f", str(script)], directory="/", stdin=nothing.fileno(), output=log.fileno())
    while not processes(tmp_path):
        assert server.poll() is None
        time.sleep(0.01)
    process.close()
    wait_gone(tmp_path)


@pytest.mark.parametrize(("text", "status"), [(SCRIPT.replace("{port}", "5060"), 0), ("no script", 255)])
def test_a_check_says_the_same_with_the_same_status(preloaded: Preloaded, tmp_path: Path, text: str, status: int) -> None:
    results = []
    for command in (preloaded.command(), [sys.executable, "-m", "opensips_py"]):
        done = subprocess.run([*command, "-C", "-f", "-"], input=text.encode(), capture_output=True, cwd=tmp_path, timeout=60)
        results.append((done.returncode, done.stdout, re.sub(rb"(?m)^\w+ +\d+ [0-9:]+ \[\d+\] ", b"", done.stderr)))
    assert results[0] == results[1]
    assert results[0][0] == status


def test_environment_and_limits_are_those_of_the_caller(preloaded: Preloaded, tmp_path: Path) -> None:
    startup = 'loadmodule "cfgutils.so"\nstartup_route { xlog("L_ERR", "colour $env(COLOUR)\\n"); }\n'
    (tmp_path / "opensips.cfg").write_text(SCRIPT.replace("{port}", str(free_port())) + startup)
    with open(tmp_path / "log", "wb") as log:
        command = ["/bin/sh", "-c", f"ulimit -n 300; exec {' '.join(preloaded.command())} -F -f opensips.cfg"]
        process = subprocess.Popen(command, stderr=log, stdout=log, cwd=tmp_path, env={"COLOUR": "green"}, start_new_session=True)
    try:
        end = this.clock.now() + 60
        while b"all processes are ready" not in (tmp_path / "log").read_bytes():
            assert process.poll() is None and this.clock.now() < end, (tmp_path / "log").read_text()
            time.sleep(0.01)
        assert "colour green" in (tmp_path / "log").read_text()
        assert (
            "Max open files            300                  300" in Path(f"/proc/{processes(tmp_path)[0].pid}/limits").read_text()
        )
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_two_servers_of_one_process_have_secrets_of_their_own(server: StartServer, client: type[SipClient]) -> None:
    tags = []
    for _ in range(2):
        sip = client(server('loadmodule "sl.so"\nroute { sl_send_reply(200, "OK"); }').address)
        sip.request("OPTIONS", branch="z9hG4bKsame")
        tags.append(sip.final().header("To").partition(";tag=")[2].partition(".")[0])
    assert tags[0] and tags[1] and tags[0] != tags[1]
