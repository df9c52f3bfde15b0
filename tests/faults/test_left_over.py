"""What a killed server leaves is cleaned at the next start; what a living one holds is not taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from opensips_py.server.process import this
from scripts.testbed.ports import free_port, port_open
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, programs, rows, run_directory, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
route {
    if ($rU == "park") async(exec("exec sleep 60", , $avp(out)), resume);
    t_reply(200, "OK");
}
route[resume] {
    t_reply(200, "Resumed");
}
"""
)


def _park(running: Server, client: MakeClient) -> SipClient:
    caller = client(running.address)
    caller.request("INVITE", f"sip:park@127.0.0.1:{running.port}")
    wait_parked(running)
    return caller


def _start_failing(script: str, port: int) -> Server:
    failing = Server(script, port=port, wait=False)
    assert failing.process.wait(20) == 255
    return failing


@pytest.mark.parametrize("whom", ["every process", "the attendant"])
def test_shared_memory_and_fifo_of_a_killed_server_are_cleaned(server: StartServer, client: MakeClient, whom: str) -> None:
    first = server(SCRIPT)
    _park(first, client)
    processes, started = first.processes(), programs(first)
    directory = run_directory(first)
    assert rows(first).keys() >= {"t", "p"}
    if whom == "every process":
        first.kill()
    else:
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(20)
    _, alive = psutil.wait_procs([p for p in processes if p not in started], timeout=3)
    assert not alive, "processes outlive the attendant"
    for program in started:
        if program.is_running():
            program.kill()
    assert first.fifo.exists()  # any server that starts removes the directory
    second = server(first.config.read_text(), port=first.port)
    second.fifo, second.tmp = first.fifo, first.tmp
    assert run_directory(second) == directory
    assert rows(second) == {}
    assert second.mi("async_list")["Count"] == 0
    caller = client(second.address)
    caller.request("OPTIONS")
    assert caller.final().status == 200
    assert second.stop() == 0
    assert not directory.exists() and not first.fifo.exists()


def test_a_second_server_on_one_port_is_refused_and_leaves_the_first_alone(server: StartServer, client: MakeClient) -> None:
    first = server(SCRIPT)
    _park(first, client)
    directory = run_directory(first)
    failing = _start_failing(SCRIPT, first.port)
    assert f"udp:127.0.0.1:{first.port}: address already in use; is another SIP server running on it?" in failing.log
    assert len(failing.lines("CRITICAL")) == 1 and "Traceback" not in failing.log
    failing.remove()
    assert run_directory(first) == directory and rows(first).keys() >= {"t", "p"}
    assert first.mi("async_list")["Count"] == 1
    caller = client(first.address)
    caller.request("OPTIONS")
    assert caller.final().status == 200


def test_one_taken_port_of_several_stops_the_start(client: MakeClient) -> None:
    free = free_port()
    taken = client().port
    script = f'socket=udp:127.0.0.1:{free}\nsocket=udp:127.0.0.1:{taken}\nloadmodule "proto_udp.so"\nroute {{ exit; }}\n'
    failing = _start_failing(script, free)
    assert f"udp:127.0.0.1:{taken}: address already in use" in failing.log
    assert not port_open(free)
    failing.remove()


# --- daemon mode ----------------------------------------------------------------------------------------------------

DAEMON = 'socket=udp:127.0.0.1:{port}\nudp_workers=2\nloadmodule "proto_udp.so"\nloadmodule "sl.so"\n'

FAILURES = {
    "a module refuses its parameters": (
        'loadmodule "exec.so"\nmodparam("exec", "time_to_kill", -5)\nroute { exit; }\n',
        "time_to_kill is -5; it cannot be negative",
    ),
    "startup_route fails": ("startup_route { return(-1); }\nroute { exit; }\n", "startup_route returned an error"),
    "the FIFO's folder is missing": (
        'loadmodule "mi_fifo.so"\nmodparam("mi_fifo", "fifo_name", "/no/such/folder/fifo")\nroute { exit; }\n',
        "/no/such/folder",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_daemon_of_which_a_part_cannot_start_fails_as_a_whole(tmp_path: Path, failure: str) -> None:
    more, reason = FAILURES[failure]
    port = free_port()
    config, pid_file = tmp_path / "daemon.cfg", tmp_path / "pid"
    config.write_text(DAEMON.replace("{port}", str(port)) + more)
    command = [sys.executable, "-m", "opensips_py", "-f", str(config), "-P", str(pid_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 255
    assert reason in done.stderr
    assert not pid_file.exists()
    end = this.clock.now() + 20
    while port_open(port):
        assert this.clock.now() < end, "something of the failed daemon still runs"
        time.sleep(0.02)


def test_a_daemon_returns_when_every_worker_serves(tmp_path: Path, client: MakeClient) -> None:
    port = free_port()
    config, pid_file = tmp_path / "daemon.cfg", tmp_path / "pid"
    script = DAEMON.replace("{port}", str(port)).replace("udp_workers=2", "udp_workers=6")
    config.write_text(script + 'startup_route { $var(x) = 1; }\nroute { sl_send_reply(200, "OK"); }\n')
    done = subprocess.run(
        [sys.executable, "-m", "opensips_py", "-f", str(config), "-P", str(pid_file)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    attendant = psutil.Process(int(pid_file.read_text()))
    try:
        assert len([p for p in attendant.children() if "SIP receiver" in " ".join(p.cmdline())]) == 6
        caller = client(("127.0.0.1", port))
        caller.request("OPTIONS")
        assert caller.final(3).status == 200
    finally:
        attendant.terminate()
        attendant.wait(10)
    assert not pid_file.exists()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-P", "/no/such/folder/pid"], "cannot write pid file /no/such/folder/pid: No such file or directory"),
        (["-w", "/no/such/folder"], "cannot change to directory /no/such/folder: No such file or directory"),
        (["-g", "no-such-group"], "bad group name/gid number: no-such-group"),
        (["-l", "udp:192.0.2.55:5060"], "udp:192.0.2.55:5060: this machine has no such address"),
        (["-n", "0"], "bad process number: -n 0"),
    ],
)
def test_a_daemon_that_cannot_be_set_up_as_asked_says_why(tmp_path: Path, options: list[str], reason: str) -> None:
    port = free_port()
    config = tmp_path / "daemon.cfg"
    config.write_text(DAEMON.replace("{port}", str(port)) + "route { exit; }\n")
    command = [sys.executable, "-m", "opensips_py", "-f", str(config), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 255
    assert reason in done.stderr and "Traceback" not in done.stderr
    assert not port_open(port)
