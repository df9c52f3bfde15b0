"""A timer process that is stopped or stuck: another process fires the timers, and one that stays stopped is replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "cfgutils.so"
modparam("tm", "fr_timeout", 3)
route { $du = "sip:127.0.0.1:CALLEE"; t_relay(); }
timer_route[often, 1] { xlog("@@route $pp\\n"); }
"""
STUCK = """
timer_route[stuck, 2] { xlog("@@sleeps $pp\\n"); sleep(8); }
"""


def timer_pid(running: Server) -> int:
    [pid] = [process["PID"] for process in running.mi("ps")["Processes"] if process["Type"] == "timer"]
    return int(pid)


def assert_repeated_and_ended(caller: SipClient, callee: SipClient) -> None:
    """A request that nobody answers."""
    [call_id] = [line for line in caller.request("MESSAGE").decode().split("\r\n") if line.startswith("Call-ID")]
    seen = 0
    while seen < 2:  # what is left of an earlier one comes before
        seen += call_id in callee.receive(4).raw
    assert caller.final().status == 408


@pytest.mark.slow
def test_one_that_is_stopped(server: StartServer, client: MakeClient) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)), workers=2)
    caller = client(running.address)
    stopped = timer_pid(running)
    os.kill(stopped, signal.SIGSTOP)
    running.wait_log("stands in for the timer process")
    assert_repeated_and_ended(caller, callee)
    running.wait_log("is back")
    running.wait_log("stands in for the timer process no more")
    assert timer_pid(running) != stopped
    assert_repeated_and_ended(caller, callee)
    time.sleep(1.1)  # its routes run in one process again
    pids = {line.rsplit(" ", 1)[1] for line in running.wait_log("@@route")[-2:]}
    assert str(timer_pid(running)) in pids


@pytest.mark.slow
def test_one_that_is_stuck_in_a_script(server: StartServer, client: MakeClient) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)) + STUCK, workers=2)
    caller = client(running.address)
    running.wait_log("@@sleeps")
    pid = timer_pid(running)
    running.wait_log("stands in for the timer process")
    assert_repeated_and_ended(caller, callee)
    assert timer_pid(running) == pid
