"""A worker that dies or is stuck loses nothing: the others resume what it had parked, with the real results, once."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.engine.parking import BLOCK, BLOCKED, block, wait_free, wait_parked
from tests.support.http_server import HttpServer
from tests.support.sip_client import Message, SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
loadmodule "db_mysql.so"
loadmodule "avpops.so"
loadmodule "rest_client.so"
modparam("avpops", "db_url", "DB_URL")
route {
    if ($rU == "dies") {
        t_newtran();
        xlog("@@stuck $pp\\n");
        sleep(30);
        exit;
    }
    if ($rU == "resumes")
        async(usleep(1000), dies);
BLOCK
    $avp(caller) = $fU;
    append_hf("X-Before: yes\\r\\n");
    t_newtran();
    xlog("@@parking $rU by $pp\\n");
    if ($rU == "exec")
        async(exec("echo first; sleep 1.5; echo $rU-result", , $avp(result)), resume);
    if ($rU == "mysql")
        async(avp_db_query("SELECT 'mysql-result', SLEEP(1.5)", "$avp(result)"), resume);
    if ($rU == "http")
        async(rest_get("HTTP_URL/delay/1500", $avp(body), , $avp(code)), resume);
    if ($rU == "sleep")
        async(sleep(2), resume);
}
route[dies] {
    xlog("@@stuck $pp\\n");
    sleep(30);
}
route[resume] {
    xlog("@@resumed $rU by $pp rc=$rc\\n");
    if ($rU == "http")
        $avp(result) = "http-" + $avp(code);
    append_to_reply("X-Result: $avp(result)\\r\\nX-Caller: $avp(caller)\\r\\n");
    t_reply(200, "OK");
}
"""

EXPECTED = {"exec": "exec-result", "mysql": "mysql-result", "http": "http-200", "sleep": "<null>"}
TAKES = 1.5
"""Seconds that the shortest of the operations takes."""
FUNCTIONS = {"exec": "exec", "mysql": "avp_db_query", "http": "rest_get", "sleep": "sleep"}

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]


@pytest.fixture
def script(mariadb: MariaDB, http_server: HttpServer) -> str:
    return SCRIPT.replace("BLOCK", BLOCK).replace("DB_URL", mariadb.url).replace("HTTP_URL", http_server.url)


def _park(running: Server, client: SipClient, kind: str) -> int:
    """Send the request; the pid of the worker that has parked it."""
    client.request("OPTIONS", f"sip:{kind}@127.0.0.1:{running.port}")
    line = running.wait_log(f"@@parking {kind} by")[0]
    wait_parked(running, FUNCTIONS[kind])
    return int(line.rsplit(" ", 1)[1])


def _parked(
    server: StartServer,
    client: MakeClient,
    script: str,
    kind: str,
    prepare: Callable[[Server, int], None] = lambda running, parker: None,
) -> tuple[Server, SipClient, int]:
    """A server with an operation under way, its caller, and the pid of the worker that has parked it.

    ``prepare`` gets that pid. The operation has still a while to go afterwards: where a busy machine was too slow for that,
    all is done again with another server.
    """
    for _ in range(10):
        running = server(script, workers=3)
        caller = client(running.address)
        began = this.clock.now()
        parker = _park(running, caller, kind)
        prepare(running, parker)
        if this.clock.now() - began < TAKES - 0.5:
            return running, caller, parker
    raise AssertionError(f"an operation of {TAKES} s was over before the test could begin, ten times")


def _assert_answered(running: Server, kind: str, answer: Message, parker: int) -> None:
    assert answer.status == 200
    assert answer.header("X-Result") == EXPECTED[kind]
    assert answer.header("X-Caller") == "alice"
    resumed = running.lines(f"@@resumed {kind} by")
    assert len(resumed) == 1, resumed
    match = re.search(r"by (\d+) rc=(-?\d+)", resumed[0])
    assert match is not None
    assert int(match[1]) != parker
    assert match[2] == "1"


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_a_killed_worker_s_operation_is_resumed_by_another(
    server: StartServer, client: MakeClient, script: str, kind: str
) -> None:
    running, caller, parker = _parked(server, client, script, kind)
    os.kill(parker, signal.SIGKILL)
    answer = caller.final()
    _assert_answered(running, kind, answer, parker)
    caller.nothing(0.5)
    running.wait_log("is back")
    assert len(running.pids("SIP receiver")) == 3


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_a_blocked_worker_s_operation_is_resumed_by_another(
    server: StartServer, client: MakeClient, script: str, kind: str
) -> None:
    running, caller, parker = _parked(
        server, client, script, kind, lambda running, parker: block(running, client(running.address), parker)
    )
    began = this.clock.now()
    answer = caller.final()
    assert this.clock.now() - began < BLOCKED - 0.4, "answered only after the worker was free again"
    _assert_answered(running, kind, answer, parker)
    wait_free(running)  # it must not resume a second time
    assert len(running.lines(f"@@resumed {kind} by")) == 1
    caller.nothing(0.2)


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_the_operation_of_a_worker_that_is_stopped_while_it_waits_is_resumed_by_another(
    server: StartServer, client: MakeClient, script: str, kind: str
) -> None:
    running, caller, parker = _parked(server, client, script, kind)
    os.kill(parker, signal.SIGSTOP)
    answer = caller.final()
    _assert_answered(running, kind, answer, parker)
    running.wait_log(f"pid {parker}) is stopped")
    os.kill(parker, signal.SIGCONT)
    time.sleep(0.3)  # it must not resume a second time
    assert len(running.lines(f"@@resumed {kind} by")) == 1
    caller.nothing(0.2)


def test_operations_of_a_killed_worker_do_not_go_to_a_stopped_one(server: StartServer, client: MakeClient, script: str) -> None:
    running, caller, parker = _parked(server, client, script, "sleep")
    stopped = next(pid for pid in running.pids("SIP receiver") if pid != parker)
    os.kill(stopped, signal.SIGSTOP)
    os.kill(parker, signal.SIGKILL)
    _assert_answered(running, "sleep", caller.final(), parker)
    assert len(running.lines("go on in another process")) == 1, "the stopped one was given the operation first"
    os.kill(stopped, signal.SIGCONT)


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_an_operation_given_to_a_worker_that_gets_stuck_is_given_to_the_next(
    server: StartServer, client: MakeClient, script: str, kind: str
) -> None:
    def block_another(running: Server, parker: int) -> None:
        block(running, client(running.address), next(pid for pid in running.pids("SIP receiver") if pid != parker))

    running, caller, parker = _parked(server, client, script, kind, block_another)
    os.kill(parker, signal.SIGKILL)  # nobody can know yet that the other one is stuck
    began = this.clock.now()
    answer = caller.final()
    assert this.clock.now() - began < BLOCKED - 0.4, "answered only after the worker was free again"
    _assert_answered(running, kind, answer, parker)
    wait_free(running)  # it must not resume a second time
    assert len(running.lines(f"@@resumed {kind} by")) == 1
    caller.nothing(0.2)


def test_all_kinds_at_once_survive_the_death_of_every_worker_but_one(
    server: StartServer, client: MakeClient, script: str
) -> None:
    running = server(script, workers=3)
    callers = {kind: client(running.address) for kind in EXPECTED}
    for kind, caller in callers.items():
        _park(running, caller, kind)
    for pid in running.pids("SIP receiver")[:2]:
        os.kill(pid, signal.SIGKILL)
    for kind, caller in callers.items():
        answer = caller.final()
        assert answer.status == 200
        assert answer.header("X-Result") == EXPECTED[kind]
        assert len(running.lines(f"@@resumed {kind} by")) == 1


def test_the_only_worker_s_operations_go_on_in_its_replacement(server: StartServer, client: MakeClient, script: str) -> None:
    running = server(script, workers=1)
    caller = client(running.address)
    parker = _park(running, caller, "exec")
    time.sleep(1.1)  # a process that dies right after its start is replaced with a pause
    os.kill(parker, signal.SIGKILL)
    answer = caller.final()
    _assert_answered(running, "exec", answer, parker)


@pytest.mark.parametrize("where", ["dies", "resumes"])
def test_a_transaction_whose_script_dies_with_its_worker_is_answered_500(
    server: StartServer, client: MakeClient, script: str, where: str
) -> None:
    running = server(script, workers=2)
    caller = client(running.address)
    caller.request("INVITE", f"sip:{where}@127.0.0.1:{running.port}")
    assert caller.receive().status == 100
    pid = int(running.wait_log("@@stuck")[0].rsplit(" ", 1)[1])
    time.sleep(0.1)  # it has begun to wait, and has stored the transaction before
    os.kill(pid, signal.SIGKILL)
    assert caller.final().status == 500
