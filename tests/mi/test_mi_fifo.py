"""Management of a running server over its FIFO, with the clients that people use."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from opensips.mi import OpenSIPSMI, OpenSIPSMIException

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient
from workers.mi_process import OPEN_AFTER

BIN = Path(sys.executable).parent

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
loadmodule "statistics.so"
modparam("statistics", "stat_groups", "method")
route {
    update_stat("requests-$rm", 1);
    update_stat("method:$rm", "+2");
    if ($rm == "MESSAGE") async(sleep(4), resume);
    sl_send_reply(200, "OK");
}
route[resume] { t_reply(202, "Accepted"); }
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """One server for the tests that do it no harm."""
    server = Server(SCRIPT, workers=2)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log
    assert not server.fifo.exists(), "the FIFO goes away with the server"
    server.remove()


@pytest.fixture
def real(running: Server) -> OpenSIPSMI:
    """The Python API of the package that OpenSIPS' own tools use."""
    return connect(running)


def connect(server: Server) -> OpenSIPSMI:
    path = str(server.fifo)
    return OpenSIPSMI("fifo", fifo_file=path, fifo_file_fallback=path, fifo_reply_dir=f"{server.tmp}/")


def write(server: Server, data: bytes) -> None:
    with open(server.fifo, "wb", buffering=0) as fifo:
        while data:
            data = data[fifo.write(data) or 0 :]


def mi_process(server: Server) -> psutil.Process:
    [pid] = server.pids("MI FIFO")
    return psutil.Process(pid)


def wd(server: Server) -> dict[str, str]:
    """What ``pwd`` answers."""
    return {"WD": psutil.Process(server.process.pid).cwd()}


def options(server: Server, client: Callable[..., SipClient], number: int = 1) -> None:
    """Have a request answered."""
    phone = client(server.address)
    for _ in range(number):
        phone.request("OPTIONS")
        assert phone.receive().status == 200


# --- the real client ------------------------------------------------------------------------------------------------


def test_ps_lists_the_processes_with_their_kinds(running: Server, real: OpenSIPSMI) -> None:
    processes = real.execute("ps")["Processes"]
    assert [p["Type"] for p in processes] == [
        "attendant",
        "MI FIFO",
        "timer",
        f"SIP receiver udp:127.0.0.1:{running.port}",
        f"SIP receiver udp:127.0.0.1:{running.port}",
    ]
    assert [p["ID"] for p in processes] == [0, 1, 2, 3, 4]
    assert {p["PID"] for p in processes} == set(running.pids())


def test_uptime_version_pwd_arg(running: Server, real: OpenSIPSMI) -> None:
    uptime = real.execute("uptime")
    assert list(uptime) == ["Now", "Up since", "Up time"]
    assert abs(time.mktime(time.strptime(uptime["Up since"])) - psutil.Process(running.process.pid).create_time()) < 3
    seconds, unit = uptime["Up time"].split(" ")
    assert int(seconds) < 120
    assert unit == "[sec]"
    assert real.execute("version")["Server"].startswith("opensips-py (")
    assert real.execute("pwd") == wd(running)
    assert "-f" in real.execute("arg")


def test_which_and_help_know_every_command(real: OpenSIPSMI) -> None:
    commands = real.execute("which")
    assert {"uptime", "ps", "kill", "get_statistics", "log_level", "async_list"} <= set(commands)
    assert real.execute("which", {"command": "log_level"}) == [[], ["level"], ["level", "pid"]]
    for command in commands:
        assert real.execute("help", [command])["Help"], f"{command} has no help"
    with pytest.raises(OpenSIPSMIException, match="404"):
        real.execute("which", ["no_such"])


def test_statistics_of_all_processes_are_summed_and_reset(
    running: Server, real: OpenSIPSMI, client: Callable[..., SipClient]
) -> None:
    real.execute("reset_statistics", {"statistics": ["core:", "dynamic:", "method:"]})
    options(running, client, 20)
    got = real.execute("get_statistics", {"statistics": ["rcv_requests", "dynamic:requests-OPTIONS", "method:"]})
    assert got == {"core:rcv_requests": 20, "dynamic:requests-OPTIONS": 20, "method:OPTIONS": 40}
    assert real.execute("get_statistics", [["nosuchstat"]]) == {}
    assert real.execute("reset_statistics", {"statistics": ["method:OPTIONS"]}) == "OK"
    assert real.execute("get_statistics", [["method:OPTIONS"]]) == {"method:OPTIONS": 0}
    with pytest.raises(OpenSIPSMIException, match="404"):
        real.execute("reset_statistics", [["nosuchstat"]])


def test_all_statistics_are_listed_with_their_kind(real: OpenSIPSMI) -> None:
    kinds = real.execute("list_statistics")
    values = real.execute("get_statistics", [["all"]])
    assert kinds.keys() == values.keys()
    assert kinds["core:rcv_requests"] == "incremental"
    assert kinds["core:timestamp"] == kinds["shmem:used_size"] == kinds["load:load"] == "non-incremental"
    assert values["load:processes_number"] == 5
    assert values["net:waiting_udp"] == values["net:dropped_udp"] == 0
    assert 0 < values["shmem:used_size"] <= values["shmem:max_used_size"] < values["shmem:total_size"]
    assert set(real.execute("get_statistics", [["load:"]])) == {k for k in values if k.startswith("load:")}


def test_datagrams_that_the_kernel_drops_are_counted(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server('maxbuffer=65536\nloadmodule "sl.so"\nroute { sl_send_reply(200, "OK"); }')
    sender = client(running.address)
    receivers = running.pids("SIP receiver")
    for pid in receivers:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(20_000):
            sender.send_raw(b"x" * 1000)
        assert running.mi("get_statistics", [["net:dropped_udp"]])["net:dropped_udp"] > 0
    finally:
        for pid in receivers:
            os.kill(pid, signal.SIGCONT)


def test_log_levels_change_in_every_process(running: Server, real: OpenSIPSMI) -> None:
    receiver = running.pids("SIP receiver")[0]
    assert real.execute("log_level", {"level": 3}) == {"New global log level": 3}
    assert {p["Log level"] for p in real.execute("log_level")["Processes"]} == {3}
    assert real.execute("log_level", {"level": 4, "pid": receiver}) == {"Log level": 4}
    levels = {p["PID"]: p["Log level"] for p in real.execute("log_level")["Processes"]}
    assert levels.pop(receiver) == 4
    assert set(levels.values()) == {3}
    with pytest.raises(OpenSIPSMIException, match="404"):
        real.execute("log_level", {"level": 4, "pid": 1})
    assert real.execute("log_level", {"level": 2}) == {"New global log level": 2}
    assert real.execute("xlog_level", [1]) == {"New xLog level": 1}
    assert real.execute("xlog_level") == {"xLog Level": 1}
    real.execute("xlog_level", [2])


def test_parked_operations_are_listed(running: Server, real: OpenSIPSMI, client: Callable[..., SipClient]) -> None:
    assert real.execute("async_list") == {"Count": 0, "Operations": []}
    phone = client(running.address)
    phone.request("MESSAGE")
    deadline = this.clock.now() + 20
    while not (listed := real.execute("async_list"))["Count"]:
        assert this.clock.now() < deadline
        time.sleep(0.02)
    [operation] = listed["Operations"]
    assert (operation["Function"], operation["Route"], operation["Mode"]) == ("sleep", "resume", "async")
    assert 0 <= operation["Age"] < 5
    assert operation["PID"] in running.pids("SIP receiver")
    line = running.config.read_text().splitlines().index('    if ($rm == "MESSAGE") async(sleep(4), resume);') + 1
    assert operation["Where"] == f"{running.config}:{line}"
    assert 0 < operation["Deadline"] <= 5 or operation["Deadline"] is None


def test_the_command_line_client_of_the_package(running: Server) -> None:
    arguments = [str(BIN / "opensips-mi"), "-t", "fifo", "-f", str(running.fifo), "-fd", f"{running.tmp}/"]
    done = subprocess.run([*arguments, "ps"], capture_output=True, text=True, timeout=20, cwd=running.tmp)
    assert done.returncode == 0, done.stdout
    assert len(json.loads(done.stdout)["Processes"]) == 5
    done = subprocess.run([*arguments, "-s", "core:"], capture_output=True, text=True, timeout=20, cwd=running.tmp)
    assert "core:rcv_requests" in json.loads(done.stdout)


# --- our own client -------------------------------------------------------------------------------------------------


def own(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "opensips-py-mi"), "-f", str(server.fifo), "-r", f"{server.tmp}/", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_our_client_prints_json_and_takes_parameters_as_people_type_them(running: Server) -> None:
    assert len(json.loads(own(running, "ps").stdout)["Processes"]) == 5
    assert "load:load" in json.loads(own(running, "get_statistics", "statistics=[load:,core:]").stdout)
    assert "load:load" in json.loads(own(running, "get_statistics", 'statistics=["load:"]').stdout)
    assert json.loads(own(running, "which", "log_level").stdout) == [[], ["level"], ["level", "pid"]]
    assert own(running, "ps").returncode == 0


def test_our_client_says_what_is_wrong(running: Server) -> None:
    done = own(running, "no_such")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Method not found (-32601)" in done.stderr
    assert "which" in done.stderr
    done = own(running, "log_level", "level=loud")
    assert done.returncode == 1
    assert "Failed to handle parameter" in done.stderr
    assert "write log_level, or log_level level=…, or log_level level=… pid=…" in done.stderr
    done = own(running, "get_statistics", "statistics=tm:")
    assert "write get_statistics statistics=…; a list is written in brackets: statistics=[tm:]" in done.stderr
    assert "statistics=[tm:]" in own(running, "get_statistics", "tm:").stderr
    done = own(running, "log_level", "level=1", "5")
    assert done.returncode == 2
    assert "either all parameters have a name" in done.stderr
    assert own(running).returncode == 2
    assert list(running.tmp.glob("opensips_py_mi_*")) == []


def test_our_client_ends_quietly_when_nobody_reads_its_output(running: Server) -> None:
    command = [str(BIN / "opensips-py-mi"), "-f", str(running.fifo), "-r", f"{running.tmp}/", "which"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=20)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_our_client_without_a_server_names_the_fifo_it_tried(tmp_path: Path) -> None:
    command = [str(BIN / "opensips-py-mi"), "-f", str(tmp_path / "f"), "-r", f"{tmp_path}/", "ps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 3
    assert f"there is no FIFO {tmp_path}/f" in done.stderr
    os.mkfifo(tmp_path / "f")
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 3
    assert f"nobody reads {tmp_path}/f" in done.stderr


# --- the transport --------------------------------------------------------------------------------------------------


def test_the_fifo_is_for_its_owner_and_group(running: Server) -> None:
    found = os.stat(running.fifo)
    assert stat.S_ISFIFO(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660


def test_requests_larger_than_a_page_work(running: Server, real: OpenSIPSMI) -> None:
    names = [f"nosuch{n}" for n in range(5000)]
    assert real.execute("get_statistics", [[*names, "rcv_requests"]]).keys() == {"core:rcv_requests"}


def test_a_client_that_opens_its_reply_late_still_gets_it_and_one_too_late_holds_up_nobody(
    running: Server, real: OpenSIPSMI
) -> None:
    waiting = sum(OPEN_AFTER)
    for name in ("late", "never"):
        os.mkfifo(running.tmp / name)
    for _ in range(20):  # on a busy machine "late" may come out too late
        began = this.clock.now()
        write(running, b':never:{"jsonrpc":"2.0","id":1,"method":"pwd"}:late:{"jsonrpc":"2.0","id":2,"method":"pwd"}')
        assert real.execute("pwd") == wd(running)
        served = this.clock.now() - began
        time.sleep(max(0.0, waiting / 2 - served))
        reader = os.open(running.tmp / "late", os.O_RDONLY | os.O_NONBLOCK)
        if this.clock.now() - began < waiting:
            break
        os.close(reader)
    assert served < waiting, "it was held up by those that do not open theirs"
    deadline = this.clock.now() + 20
    while not (data := _read(reader)):
        assert this.clock.now() < deadline
        time.sleep(0.005)
    os.close(reader)
    assert json.loads(data)["id"] == 2
    for name in ("late", "never"):
        (running.tmp / name).unlink()


def test_hostile_requests_leave_the_process_alive_and_small(running: Server, real: OpenSIPSMI) -> None:
    process = mi_process(running)
    real.execute("ps")
    before = process.memory_info().rss
    good = b'{"jsonrpc":"2.0","id":1,"method":"ps"}'
    write(running, b"\x00\xff" * 40_000)
    write(running, b':r:{"a":"' + b"x" * (4 << 20))
    write(running, b":" * 100_000)
    write(running, b":r:" + b"{" * 200_000)
    write(running, b":r:" + b'{"a":' * 50_000 + b"}" * 50_000)
    write(running, b":" + b"n" * 100_000 + b":" + good)
    for name in (b"../x", b"a.b", b"a/b", b"a\\b", b"..", b"%n%s", b"x" * 250):
        write(running, b":" + name + b":" + good)
    write(running, b"".join(b":gone%d:" % n + good for n in range(3000)))
    write(running, b':r:{"jsonrpc":"2.0","id":1,"method":"get_stati')
    assert real.execute("pwd") == wd(running)
    assert process.is_running()
    assert process.memory_info().rss < before + (32 << 20)
    assert process.num_fds() < 100


def test_a_thousand_clients_at_once_all_get_their_answer(running: Server) -> None:
    failed: list[Exception] = []

    def work() -> None:
        try:
            mi = connect(running)
            for _ in range(50):
                assert mi.execute("pwd") == wd(running)
        except Exception as error:
            failed.append(error)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # the package names its reply FIFO by time: answers to many at once are asked for by hand
    names = [f"many{n}" for n in range(1000)]
    readers = {}
    for name in names:
        os.mkfifo(running.tmp / name)
        readers[name] = os.open(running.tmp / name, os.O_RDONLY | os.O_NONBLOCK)
    threads = [threading.Thread(target=work)]
    threads[0].start()
    write(running, b"".join(b':%s:{"jsonrpc":"2.0","id":"%s","method":"ps"}' % (n.encode(), n.encode()) for n in names))
    deadline = this.clock.now() + 20
    for name, reader in readers.items():
        while not (data := _read(reader)):
            assert this.clock.now() < deadline, name
            time.sleep(0.005)
        assert json.loads(data)["id"] == name
        os.close(reader)
        (running.tmp / name).unlink()
    for thread in threads:
        thread.join()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed == []


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""


def test_a_client_that_does_not_read_its_answer_holds_up_nobody(running: Server, real: OpenSIPSMI) -> None:
    os.mkfifo(running.tmp / "slow")
    reader = os.open(running.tmp / "slow", os.O_RDONLY | os.O_NONBLOCK)
    names = json.dumps(["all"])
    request = b'{"jsonrpc":"2.0","id":1,"method":"get_statistics","params":[%s]}' % names.encode()
    write(running, b"".join(b":slow:" + request for _ in range(100)))
    assert real.execute("pwd") == wd(running)
    os.close(reader)
    os.unlink(running.tmp / "slow")
    assert real.execute("pwd") == wd(running)


def test_an_answer_never_goes_to_something_else_than_a_fifo(running: Server, real: OpenSIPSMI) -> None:
    (running.tmp / "file").write_text("untouched")
    (running.tmp / "link").symlink_to(running.tmp / "file")
    for name in (b"file", b"link"):
        write(running, b":" + name + b':{"jsonrpc":"2.0","id":1,"method":"pwd"}')
    real.execute("pwd")
    assert (running.tmp / "file").read_text() == "untouched"


# --- life of the FIFO -----------------------------------------------------------------------------------------------

QUIET = 'loadmodule "sl.so"\nroute { sl_send_reply(200, "OK"); }\n'


def test_a_removed_fifo_is_made_again_on_sighup(server: Callable[..., Server]) -> None:
    one = server(QUIET, workers=1)
    one.fifo.unlink()
    os.kill(one.pids("MI FIFO")[0], signal.SIGHUP)
    one.wait_log("was removed or replaced: making it again")
    deadline = this.clock.now() + 20
    while not one.fifo.exists():
        assert this.clock.now() < deadline
        time.sleep(0.01)
    assert connect(one).execute("pwd") == wd(one)


def test_the_fifo_of_a_killed_server_is_replaced_at_the_next_start(server: Callable[..., Server]) -> None:
    first = server(QUIET, workers=1)
    first.kill()
    assert first.fifo.exists()
    script = first.config.read_text()
    second = server(script, workers=1, port=first.port)
    second.fifo, second.tmp = first.fifo, first.tmp
    assert len(connect(second).execute("ps")["Processes"]) == 4


def test_a_file_in_the_fifos_place_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("precious")
    script = 'loadmodule "proto_udp.so"\nsocket=udp:127.0.0.1:{port}\nloadmodule "mi_fifo.so"\n'
    script += f'modparam("mi_fifo", "fifo_name", "{tmp_path}/f")\nmodparam("mi_fifo", "reply_dir", "{tmp_path}/")\n'
    one = Server(script + "route { exit; }\n", workers=1, wait=False)
    assert one.process.wait(20) != 0
    assert "exists and is not a FIFO" in one.log
    assert (tmp_path / "f").read_text() == "precious"
    one.remove()


def test_a_killed_mi_process_is_replaced_and_serves_again(server: Callable[..., Server]) -> None:
    one = server(QUIET, workers=1)
    os.kill(one.pids("MI FIFO")[0], signal.SIGKILL)
    one.wait_log("is back")
    assert len(connect(one).execute("ps")["Processes"]) == 4


def test_kill_answers_ok_and_stops_the_server(server: Callable[..., Server]) -> None:
    one = server(QUIET, workers=1)
    assert connect(one).execute("kill") == "OK"
    assert one.process.wait(15) == 0
    assert not one.fifo.exists()


def test_pretty_printing_is_a_parameter(server: Callable[..., Server]) -> None:
    one = server('modparam("mi_fifo", "pretty_printing", 1)\n' + QUIET, workers=1)
    os.mkfifo(one.tmp / "r")
    reader = os.open(one.tmp / "r", os.O_RDONLY | os.O_NONBLOCK)
    write(one, b':r:{"jsonrpc":"2.0","id":1,"method":"pwd"}')
    deadline = this.clock.now() + 20
    while not (data := _read(reader)):
        assert this.clock.now() < deadline
        time.sleep(0.005)
    os.close(reader)
    assert data.count(b"\n    ") >= 2
    answer: dict[str, Any] = json.loads(data)
    assert answer["result"] == wd(one)
