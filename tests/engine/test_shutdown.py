"""SIGTERM: what is parked may end within the deadline, new requests are refused, the rest is answered 503."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
route {
    if ($rU == "short")
        async(sleep(1), resume);
    if ($rU == "long")
        async(sleep(60), resume);
    if ($rU == "program")
        async(exec("exec sleep 61", , $avp(x)), resume);
    sl_send_reply(200, "OK");
}
route[resume] {
    t_reply(200, "Resumed");
}
"""

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]


def _parked(running: Server, count: int) -> None:
    end = this.clock.now() + 20
    while running.mi("async_list")["Count"] < count:
        assert this.clock.now() < end, "never parked"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_parked_ends_and_new_requests_are_refused_meanwhile(
    server: StartServer, client: MakeClient, number: signal.Signals
) -> None:
    running = server(SCRIPT.replace("sleep(1)", "sleep(3)"))
    waiting, late = client(running.address), client(running.address)
    waiting.request("OPTIONS", f"sip:short@127.0.0.1:{running.port}")
    _parked(running, 1)
    running.process.send_signal(number)
    running.wait_log("terminating")
    end = this.clock.now() + 20
    status = 0
    while status != 503:  # until each receiver has heard of it
        assert this.clock.now() < end, "new requests are still served"
        late.request("OPTIONS", f"sip:now@127.0.0.1:{running.port}")
        status = late.final().status
    answer = waiting.final()
    assert (answer.status, answer.reason) == (200, "Resumed")
    assert running.process.wait(20) == 0


def test_what_does_not_end_in_time_is_answered_503_and_leaves_no_program_behind(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    sleeper, program = client(running.address), client(running.address)
    sleeper.request("INVITE", f"sip:long@127.0.0.1:{running.port}")
    program.request("OPTIONS", f"sip:program@127.0.0.1:{running.port}")
    _parked(running, 2)
    children = [p for p in running.processes() if p.name() == "sleep"]
    assert len(children) == 1
    running.process.send_signal(signal.SIGTERM)
    assert sleeper.final().status == 503
    assert program.final().status == 503
    assert running.process.wait(20) == 0
    assert not psutil.pid_exists(children[0].pid)


def test_a_worker_that_is_stuck_does_not_keep_the_server_from_ending(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT.replace("async(sleep(60), resume)", 'xlog("@@stuck\\n"); sleep(60)'), workers=1)
    client(running.address).request("OPTIONS", f"sip:long@127.0.0.1:{running.port}")
    running.wait_log("@@stuck")
    began = this.clock.now()
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(40)
    assert this.clock.now() - began < 30
    assert not [pid for pid in running.pids() if os.path.exists(f"/proc/{pid}")]


def test_async_drain_timeout_says_how_long(server: StartServer, client: MakeClient) -> None:
    for seconds, status in ((0, 503), (10, 200)):
        running = server(f"async_drain_timeout = {seconds}\n" + SCRIPT.replace("sleep(1)", "sleep(4)"))
        caller = client(running.address)
        caller.request("INVITE", f"sip:short@127.0.0.1:{running.port}")
        _parked(running, 1)
        began = this.clock.now()
        running.process.send_signal(signal.SIGTERM)
        answer = caller.final()
        assert answer.status == status
        assert (this.clock.now() - began < 3) == (status == 503)
        assert running.process.wait(20) == 0


@pytest.mark.parametrize("first", [True, False], ids=["before", "meanwhile"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_what_is_parked_in_a_worker_that_goes_while_the_server_ends_is_answered(
    server: StartServer, client: MakeClient, blow: signal.Signals, first: bool
) -> None:
    running = server("async_drain_timeout=2\n" + SCRIPT, workers=3)
    callers = [client(running.address) for _ in range(12)]
    for caller in callers:
        caller.request("OPTIONS", f"sip:long@127.0.0.1:{running.port}")
    _parked(running, 12)
    victim = int(str(running.mi("async_list")["Operations"][0]["PID"]))
    if first:
        os.kill(victim, blow)
    running.process.send_signal(signal.SIGTERM)
    if not first:
        running.wait_log("terminating")
        os.kill(victim, blow)
    for caller in callers:
        assert caller.final().status == 503
        caller.nothing(0.01)
    assert running.process.wait(20) == 0
    assert not running.lines("are lost")
    assert not running.fifo.exists()


def test_what_nobody_is_left_to_answer_is_told(server: StartServer, client: MakeClient) -> None:
    running = server("async_drain_timeout=1\n" + SCRIPT, workers=2)
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:long@127.0.0.1:{running.port}")
    _parked(running, 1)
    for pid in running.pids("SIP receiver"):
        os.kill(pid, signal.SIGSTOP)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert running.lines("1 parked operations are lost")
    assert len(running.lines("killing what does not end")) == 1
    assert not running.fifo.exists(), "only those that hang are killed"
