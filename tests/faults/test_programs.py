"""Programs of exec() that are not there, are killed, never end, or write what is no text."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, assert_nothing_is_left, descriptors, programs, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
modparam("exec", "time_to_kill", TIME_TO_KILL)
modparam("exec", "max_output_size", 1024)
route {
    if ($rU == "missing") async(exec("/no/such/program", , $avp(out), $avp(err)), resume);
    if ($rU == "long") async(exec("echo begun; exec sleep 60", , $avp(out)), resume);
    if ($rU == "binary") async(exec("printf '\\\\000\\\\377\\\\015A\\\\nB'", , $avp(out)), resume);
    if ($rU == "endless") async(exec("yes", , $avp(out)), resume);
    if ($rU == "fails") async(exec("echo out; exit 7", , $avp(out)), resume);
    if ($rU == "launch-missing") launch(exec("/no/such/program"), report, "missing");
    if ($rU == "launch-long") launch(exec("exec sleep 60"), report, "long");
    if ($rU == "launch-good") launch(exec("true"), report, "good");
    if ($rU == "launch-bad") launch(exec("exit 4"), report, "bad");
    t_reply(200, "OK");
}
route[resume] {
    append_to_reply("X-Result: $rc $(avp(out){s.encode.hexa}) $(avp(out)[1]{s.encode.hexa}) $(avp(err)[*])\\r\\n");
    t_reply(200, "OK");
}
route[report] {
    xlog("@@report $param(1) rc=$rc\\n");
}
"""
)


def _start(server: StartServer, time_to_kill: int = 0) -> Server:
    return server(SCRIPT.replace("TIME_TO_KILL", str(time_to_kill)))


def _ask(running: Server, client: MakeClient, name: str) -> SipClient:
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{name}@127.0.0.1:{running.port}")
    return caller


def test_not_found(server: StartServer, client: MakeClient) -> None:
    running = _start(server)
    result = _ask(running, client, "missing").final().header("X-Result")
    assert result.startswith("1 <null> <null> ")  # the shell was there, and says on its error output what was not
    assert "/no/such/program" in result and "not found" in result
    _ask(running, client, "launch-missing").final()
    running.wait_log("@@report missing rc=-1")


def test_exit_status(server: StartServer, client: MakeClient) -> None:
    running = _start(server)
    assert _ask(running, client, "fails").final().header("X-Result") == f"1 {b'out'.hex()} <null> <null>"
    _ask(running, client, "launch-good").final()
    running.wait_log("@@report good rc=1")
    _ask(running, client, "launch-bad").final()
    running.wait_log("@@report bad rc=-1")


def test_killed_by_somebody(server: StartServer, client: MakeClient) -> None:
    running = _start(server)
    before = descriptors(running)
    caller = _ask(running, client, "long")
    _ask(running, client, "launch-long").final()
    wait_parked(running, 2)
    for program in programs(running):
        os.kill(program.pid, signal.SIGKILL)
    assert caller.final().header("X-Result") == f"1 {b'begun'.hex()} <null> <null>"
    running.wait_log("@@report long rc=-1")
    assert_nothing_is_left(running, before)


def test_endless_programs_are_ended_by_time_to_kill(server: StartServer, client: MakeClient) -> None:
    running = _start(server, time_to_kill=1)
    before = descriptors(running)
    began = this.clock.now()
    caller = _ask(running, client, "long")
    _ask(running, client, "launch-long").final()
    answer = caller.final()
    assert answer.at - began >= 0.9
    assert answer.header("X-Result") == f"1 {b'begun'.hex()} <null> <null>"  # what it had written until then
    running.wait_log("@@report long rc=-1")
    assert_nothing_is_left(running, before)


def test_endless_output_is_bounded(server: StartServer, client: MakeClient) -> None:
    running = _start(server)
    before = descriptors(running)
    assert _ask(running, client, "endless").final().header("X-Result") == "-1 <null> <null> <null>"
    assert len(running.lines("more than 1048576 bytes of output")) == 1
    assert_nothing_is_left(running, before)


def test_binary_output_comes_byte_for_byte(server: StartServer, client: MakeClient) -> None:
    running = _start(server)
    assert _ask(running, client, "binary").final().header("X-Result") == f"1 {b'B'.hex()} 00ff0d41 <null>"


def test_rc_from_exit_status(server: StartServer, client: MakeClient) -> None:
    script = SCRIPT.replace("TIME_TO_KILL", "0").replace("route {", 'modparam("exec", "rc_from_exit_status", 1)\nroute {', 1)
    running = server(script)
    assert _ask(running, client, "fails").final().header("X-Result") == f"-1 {b'out'.hex()} <null> <null>"
    assert _ask(running, client, "binary").final().header("X-Result").startswith("1 ")


def test_a_program_that_closes_its_output_and_runs_on_makes_no_process_spin(server: StartServer, client: MakeClient) -> None:
    script = SCRIPT.replace("TIME_TO_KILL", "0")
    script = script.replace("exec sleep 60", "exec >&- 2>&-; exec sleep 60").replace('"yes"', '"echo x; exec >&- 2>&-; sleep 61"')
    running = server(script)
    assert _ask(running, client, "endless").final(2).header("X-Result") == f"1 {b'x'.hex()} <null> <null>"
    _ask(running, client, "launch-long").final()
    workers = [psutil.Process(pid) for pid in running.pids("SIP receiver")]
    before = [sum(worker.cpu_times()[:2]) for worker in workers]
    time.sleep(1)
    assert all(sum(worker.cpu_times()[:2]) - used < 0.5 for worker, used in zip(workers, before, strict=True))
    for process in programs(running):
        process.kill()
