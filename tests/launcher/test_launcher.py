"""Outputs and exit codes of the command ``opensips-py``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scripts.testbed.ports import free_port, port_open
from tests.support.sip_client import SipClient
from workers.privileges import find_account, left_of_root

SCRIPT = """\
log_level=2
udp_workers=2
socket=udp:127.0.0.1:{port}
loadmodule "proto_udp.so"
loadmodule "sl.so"
route {
    sl_send_reply(200, "OK");
}
"""


def run(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "opensips_py", *arguments], input=stdin, capture_output=True, text=True, timeout=30, cwd=cwd
    )


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def script(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "my.cfg"
    path.write_text(SCRIPT.replace("{port}", str(port)))
    return path


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[[Path], int]]:
    """The process in a pid file, which is ended after the test whatever becomes of the file."""
    processes: list[psutil.Process] = []

    def remember(path: Path) -> int:
        processes.append(psutil.Process(int(path.read_text())))
        return processes[-1].pid

    yield remember
    for process in processes:
        if process.is_running():
            process.send_signal(signal.SIGTERM)
            process.wait(15)


def test_version_and_help_end_with_0() -> None:
    version = run("-V")
    assert version.returncode == 0 and version.stdout.startswith("version: opensips-py ")
    assert re.search(r"^poll method support: epoll", version.stdout, re.M)
    usage = run("-h")
    assert usage.returncode == 0 and "-f file" in usage.stdout


def test_unknown_option_ends_with_255() -> None:
    done = run("-x")
    assert (done.returncode, done.stderr) == (255, "Unknown option `-x'.\n")


def test_check_prints_sockets_on_stdout_and_the_verdict_on_stderr(script: Path, port: int) -> None:
    done = run("-c", "-f", str(script))
    assert done.returncode == 0
    assert done.stdout.startswith(f"Listening on \n             udp: 127.0.0.1 [127.0.0.1]:{port}\nAliases: \n")
    assert re.search(r"^\w{3} [ \d]\d [\d:]{8} \[\d+\] NOTICE:core:main: config file ok, exiting\.\.\.$", done.stderr, re.M)
    assert not port_open(port)


def test_script_is_read_from_standard_input(script: Path) -> None:
    assert run("-c", "-f", "-", stdin=script.read_text()).returncode == 0


def test_wrong_script_ends_with_255_and_shows_the_place(tmp_path: Path) -> None:
    path = tmp_path / "wrong.cfg"
    path.write_text('loadmodule "sl.so"\nroute {\n    sl_send_reply(200 "OK");\n}\n')
    done = run("-c", "-f", str(path))
    assert done.returncode == 255
    assert re.search(r"CRITICAL:core:yyerror: parse error in \S*wrong\.cfg:3:", done.stderr)
    assert "^" in done.stderr and "Exiting...." in done.stderr


def test_missing_script_ends_with_255_and_names_it(tmp_path: Path) -> None:
    done = run("-c", "-f", str(tmp_path / "none.cfg"))
    assert done.returncode == 255 and "none.cfg" in done.stderr


def test_daemon_is_ready_when_the_command_returns(
    script: Path, port: int, tmp_path: Path, daemons: Callable[[Path], int], client: Callable[..., SipClient]
) -> None:
    pid_file, pgid_file = tmp_path / "pid", tmp_path / "pgid"
    script.write_text(script.read_text().replace('"OK"', '"$argv(who)"'))
    done = run("-f", str(script), "-P", str(pid_file), "-G", str(pgid_file), "-o", "who=daemon", "-n", "3")
    assert done.returncode == 0, done.stderr
    attendant = psutil.Process(daemons(pid_file))
    assert " ".join(attendant.cmdline()).startswith("opensips-py: attendant")
    assert attendant.cwd() == "/"
    assert int(pgid_file.read_text()) == os.getpgid(attendant.pid) == attendant.pid
    assert os.readlink(f"/proc/{attendant.pid}/fd/0") == os.devnull
    receivers = [p for p in attendant.children() if f"SIP receiver udp:127.0.0.1:{port}" in " ".join(p.cmdline())]
    assert len(receivers) == 3
    sip = client(("127.0.0.1", port))
    sip.request("OPTIONS")
    assert sip.final().start == "SIP/2.0 200 daemon"

    attendant.send_signal(signal.SIGTERM)
    attendant.wait(15)
    assert not pid_file.exists() and not pgid_file.exists()
    assert not [p for p in receivers if p.is_running()]


def test_second_server_is_refused_by_the_pid_file_of_the_first(
    script: Path, tmp_path: Path, daemons: Callable[[Path], int]
) -> None:
    pid_file = tmp_path / "pid"
    assert run("-f", str(script), "-P", str(pid_file)).returncode == 0
    first = daemons(pid_file)
    second = run("-f", str(script), "-P", str(pid_file))
    assert second.returncode == 255
    assert f"running process found in the pid file {pid_file}" in second.stderr
    assert int(pid_file.read_text()) == first


def test_pid_file_of_a_dead_process_is_replaced(script: Path, tmp_path: Path, daemons: Callable[[Path], int]) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{dead.pid}\n")
    done = run("-f", str(script), "-P", str(pid_file))
    assert done.returncode == 0, done.stderr
    assert "left over" in done.stderr
    assert daemons(pid_file) != dead.pid


def test_daemon_that_cannot_start_says_why_and_ends_with_255(script: Path, port: int, client: Callable[..., SipClient]) -> None:
    client(port=port)  # the port is taken
    done = run("-f", str(script))
    assert done.returncode == 255
    assert "CRITICAL" in done.stderr and str(port) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_foreground_server_says_that_it_is_ready_and_ends_with_0_on_a_signal(script: Path, number: int) -> None:
    process = subprocess.Popen([sys.executable, "-m", "opensips_py", "-FE", "-f", str(script)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "all processes are ready" in process.stderr.readline()
    process.send_signal(number)
    assert process.wait(15) == 0
    process.stderr.close()


def test_a_server_that_is_told_again_and_again_to_end_ends_with_0(script: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "opensips_py", "-FE", "-f", str(script)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "all processes are ready" in process.stderr.readline()
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    process.stderr.close()


def test_server_runs_as_the_user_that_is_asked_for(script: Path, tmp_path: Path, daemons: Callable[[Path], int]) -> None:
    pid_file = tmp_path / "pid"
    user, group = ("nobody", "nogroup") if os.getuid() == 0 else (str(os.getuid()), str(os.getgid()))
    done = run("-f", str(script), "-P", str(pid_file), "-u", user, "-g", group)
    assert done.returncode == 0, done.stderr
    uid, gid = find_account(user, group)
    attendant = psutil.Process(daemons(pid_file))
    for process in [attendant, *attendant.children()]:
        assert process.uids().effective == process.uids().real == uid
        assert process.gids().effective == gid
        assert os.getuid() or not left_of_root(f"/proc/{process.pid}/status")


@pytest.mark.skipif(os.getuid() != 0, reason="only root has something to give up")
@pytest.mark.parametrize("account", [("-u", "12345"), ("-u", "nobody", "-g", "0")])
def test_server_that_would_keep_roots_group_does_not_start(script: Path, account: tuple[str, ...]) -> None:
    done = run("-f", str(script), *account)
    assert done.returncode == 255 and "-g" in done.stderr


def test_unknown_user_is_refused(script: Path) -> None:
    done = run("-f", str(script), "-u", "no-such-user")
    assert done.returncode == 255 and "bad user name/uid number: no-such-user" in done.stderr


def test_options_that_have_no_effect_are_said_in_one_line_each(script: Path) -> None:
    done = run("-c", "-f", str(script), "-M", "64", "-W", "epoll")
    assert done.returncode == 0
    assert [line.split(":")[1] for line in done.stderr.splitlines() if "no effect" in line] == [
        " option -M has no effect",
        " option -W has no effect",
    ]


@pytest.mark.parametrize("name", ["demo", "credit", "push"])
def test_examples_pass_the_full_check_in_half_a_second(name: str) -> None:
    path = Path(__file__).parent.parent.parent / "examples" / f"{name}.cfg"
    before = os.times()
    done = run("-C", "-f", str(path))
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    assert seconds < 1.0, "half a second of CPU time, more where others use the caches too"
