"""Whatever kind of route waits in a worker that dies or is stuck, another one does what is left to do, once."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.engine.parking import BLOCK, BLOCKED, block, wait_free, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

WAIT = 'exec("sleep 1.5; echo result", , $avp(result))'

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
route {
BLOCK
    if (is_method("ACK") && $rU != "ack") {
        t_relay();
        exit;
    }
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    $avp(caller) = $fU;
    if ($rU == "onreply")
        t_on_reply("r");
    if ($rU == "failure" || $rU == "again")
        t_on_failure("f");
    if ($rU == "branch") {
        t_on_branch("b");
        $branch = "sip:second@127.0.0.1:" + $hdr(X-Callee);
    }
    if ($rU == "local") {
        t_new_request("MESSAGE", "sip:made@127.0.0.1:$hdr(X-Callee)", "sip:a@x", "sip:b@x");
        exit;
    }
    if ($rU == "event") {
        raise_event("E_X");
        exit;
    }
    if ($rU == "ack") {
        xlog("@@waiting $pp\\n");
        async(WAIT, after);
    }
    t_relay();
}
onreply_route[r] {
    if ($rs < 200)
        exit;
    append_hf("X-Before: yes\\r\\n");
    $avp(caller) = "reply";
    xlog("@@waiting $pp\\n");
    async(WAIT, after);
}
failure_route[f] {
    xlog("@@waiting $pp\\n");
    async(WAIT, after);
}
branch_route[b] {
    append_hf("X-Before: $rU\\r\\n");
    if ($rU == "branch") {
        xlog("@@waiting $pp\\n");
        async(WAIT, after);
    }
}
local_route {
    $avp(caller) = "local";
    xlog("@@waiting $pp\\n");
    async(WAIT, after);
}
event_route[E_X] {
    $avp(caller) = "event";
    xlog("@@waiting $pp\\n");
    async(WAIT, after);
}
route[after] {
    xlog("@@resumed by $pp rc=$rc $avp(caller) $avp(result) $rT\\n");
    append_hf("X-Result: $avp(result)\\r\\n");
    if ($rU == "failure")
        t_reply(480, "$avp(caller) $avp(result) $T_reply_code");
    if ($rU == "again") {
        $ru = "sip:second@127.0.0.1:" + $hdr(X-Callee);
        t_relay();
    }
    if ($rU == "ack")
        t_relay();
}
""".replace("BLOCK", BLOCK).replace("WAIT", WAIT)

KINDS = ["onreply", "failure", "again", "branch", "local", "event", "ack"]


class Case:
    """One call whose worker fails while a route of it waits."""

    def __init__(self, server: Server, client: MakeClient, kind: str) -> None:
        self.server, self.kind = server, kind
        self.answer = b""
        self.caller, self.callee, self.blocker = client(server.address), client(server.address), client(server.address)

    def begin(self) -> int:
        """Up to the wait; the pid of the worker in which it is."""
        kind = self.kind
        method = {"ack": "ACK", "local": "MESSAGE", "event": "MESSAGE"}.get(kind, "INVITE")
        self.caller.request(method, f"sip:{kind}@127.0.0.1:{self.server.port}", headers=f"X-Callee: {self.callee.port}")
        if kind in ("onreply", "failure", "again"):
            invite = self.callee.receive()
            if kind == "onreply":
                self.answer = self.callee.reply(invite, 200)
            else:
                self.callee.reply(invite, 486, "Busy")
                assert self.callee.receive().method == "ACK"
        (line,) = self.server.wait_log("@@waiting")
        wait_parked(self.server, "exec")
        return int(line.rsplit(" ", 1)[1])

    def finish(self) -> None:
        """What must come, whoever does it."""
        getattr(self, f"_{self.kind}")()

    def _onreply(self) -> None:
        answer = self.caller.final()
        assert answer.status == 200
        assert (answer.header("X-Before"), answer.header("X-Result")) == ("yes", "result")

    def _failure(self) -> None:
        assert self.caller.final().start == "SIP/2.0 480 alice result 486"
        self.caller.in_transaction("ACK")

    def _again(self) -> None:
        second = self.callee.receive()
        assert "second" in second.ruri
        assert second.header("X-Result") == "result"
        self.callee.reply(second, 200)
        assert self.caller.final().status == 200

    def _branch(self) -> None:
        first, second = self.callee.receive(), self.callee.receive()
        assert (first.header("X-Before"), first.header("X-Result")) == ("branch", "result")
        assert second.header("X-Before") == "second"
        assert second.all("X-Result") == []
        self.callee.reply(second, 200)
        assert self.caller.final().status == 200
        assert self.callee.receive().method == "INVITE"  # not answered provisionally: it cannot be cancelled yet

    def _local(self) -> None:
        request = self.callee.receive()
        assert (request.method, request.header("X-Result")) == ("MESSAGE", "result")
        self.callee.reply(request, 200)

    def _event(self) -> None:
        self.server.wait_log("@@resumed")

    def _ack(self) -> None:
        ack = self.callee.receive()
        assert (ack.method, ack.header("X-Result")) == ("ACK", "result")

    def assert_resumed_elsewhere(self, pid: int) -> None:
        (line,) = self.server.lines("@@resumed")
        match = re.search(r"by (\d+) rc=(-?\d+)", line)
        assert match is not None
        assert int(match[1]) != pid
        assert match[2] == "1"


@pytest.fixture
def case(server: StartServer, client: MakeClient, kind: str) -> Case:
    return Case(server(SCRIPT, workers=3), client, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_when_its_worker_is_killed(case: Case) -> None:
    pid = case.begin()
    os.kill(pid, signal.SIGKILL)
    case.finish()
    case.assert_resumed_elsewhere(pid)
    case.caller.nothing(0.3)
    case.server.wait_log("is back")
    _assert_nothing_left(case)


@pytest.mark.parametrize("kind", KINDS)
def test_when_its_worker_is_stuck(case: Case) -> None:
    pid = case.begin()
    block(case.server, case.blocker, pid)
    began = this.clock.now()
    case.finish()
    assert this.clock.now() - began < BLOCKED - 0.4, "only after the worker was free again"
    case.assert_resumed_elsewhere(pid)
    wait_free(case.server)  # it must not resume a second time
    case.assert_resumed_elsewhere(pid)
    case.caller.nothing(0.2)
    _assert_nothing_left(case)


def _assert_nothing_left(case: Case) -> None:
    assert case.server.mi("async_list")["Operations"] == []


@pytest.mark.parametrize("kind", ["failure"])
def test_a_failure_route_that_dies_after_its_wait_lets_the_best_reply_through(
    server: StartServer, client: MakeClient, kind: str
) -> None:
    script = SCRIPT.replace("t_reply(480,", 'xlog("@@stuck $pp\\n"); sleep(30); t_reply(480,')
    case = Case(server(script, workers=2), client, kind)
    case.begin()
    (line,) = case.server.wait_log("@@stuck")
    os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
    assert case.caller.final().status == 486


@pytest.mark.parametrize("kind", ["onreply"])
def test_a_reply_whose_resume_route_dies_is_taken_when_it_comes_again(server: StartServer, client: MakeClient, kind: str) -> None:
    script = SCRIPT.replace(
        'xlog("@@resumed', 'if ($shv(once) == 0) { $shv(once) = 1; xlog("@@stuck $pp\\n"); sleep(30); } xlog("@@resumed'
    )
    case = Case(server(script, workers=2), client, kind)
    case.begin()
    (line,) = case.server.wait_log("@@stuck")
    os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
    end = this.clock.now() + 20
    while not case.server.lines("@@resumed"):
        assert this.clock.now() < end
        case.callee.send_raw(case.answer, case.server.address)
        time.sleep(0.2)
    case.finish()
