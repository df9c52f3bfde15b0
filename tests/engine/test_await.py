"""``await(f(…))``: the script goes on after it with the result, the process serves others meanwhile."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.engine.parking import BLOCK, block, wait_free, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

HEAD = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
"""

PING = """
    if ($rU == "ping") {
        sl_send_reply(200, "Pong");
        exit;
    }
"""


def _ping(server: Server, client: SipClient) -> float:
    """Ask for a quick answer; how long it took."""
    began = this.clock.now()
    client.request("OPTIONS", f"sip:ping@127.0.0.1:{server.port}")
    assert client.final().status == 200
    return this.clock.now() - began


def test_a_loop_waits_in_each_of_its_turns_and_the_worker_is_free(server: StartServer, client: MakeClient) -> None:
    running = server(
        HEAD
        + "route {"
        + PING
        + """
    $avp(n) = 0;
    while ($avp(n) < 3) {
        $avp(n) := $avp(n) + 1;
        if (await(exec("sleep 0.3; echo turn-$avp(n)", , $avp(out))))
            append_to_reply("X-Turn: $avp(out)\\r\\n");
        xlog("@@turn $avp(n) rc=$rc\\n");
    }
    route(sub, "given");
    t_reply(200, "$rU $rc");
}
route[sub] {
    await(usleep(100000));
    append_to_reply("X-Param: $param(1)\\r\\n");
    return(7);
}
""",
        workers=1,
    )
    caller, other = client(running.address), client(running.address)
    data = caller.request("MESSAGE")
    for _ in range(3):
        wait_parked(running, "exec")
        assert _ping(running, other) < 0.25
    caller.send_raw(data)  # a retransmission is absorbed
    answer = caller.final()
    assert answer.start == "SIP/2.0 200 bob 7"
    assert answer.all("X-Turn") == ["turn-1", "turn-2", "turn-3"]
    assert answer.all("X-Param") == ["given"]
    caller.nothing(0.5)
    assert len(running.lines("@@turn 1")) == 1


def test_two_hundred_scripts_wait_at_once_in_one_worker(server: StartServer, client: MakeClient) -> None:
    running = server(HEAD + 'route { $avp(x) = $rU; await(usleep(500000)); t_reply(200, "$avp(x)"); }', workers=1)
    caller = client(running.address)
    began = this.clock.now()
    for n in range(200):
        caller.request("MESSAGE", f"sip:u{n}@127.0.0.1:{running.port}")
    answers = {caller.final().reason for _ in range(200)}
    assert answers == {f"u{n}" for n in range(200)}
    assert this.clock.now() - began < 30, "one after the other they take a hundred seconds"


@pytest.mark.parametrize(("limit", "rc"), [(", 0.2", "-3"), ("", "1")])
def test_its_time_limit(server: StartServer, client: MakeClient, limit: str, rc: str) -> None:
    running = server(HEAD + f'route {{ await(sleep(1){limit}); t_reply(200, "$rc"); }}', workers=1)
    caller = client(running.address)
    caller.request("MESSAGE")
    assert caller.final().reason == rc


EVERYWHERE = """
route {
    if (is_method("ACK")) {
        t_relay();
        exit;
    }
    if (is_method("CANCEL")) {
        await(usleep(100000));
        t_relay();
        exit;
    }
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    t_on_branch("b");
    t_on_reply("r");
    t_on_failure("f");
    await(usleep(100000));
    t_relay();
    xlog("@@relayed $rc\\n");
}
branch_route[b] { await(usleep(100000)); append_hf("X-Branch: $rc\\r\\n"); }
onreply_route[r] { await(usleep(100000)); append_hf("X-Reply: $rc $rs\\r\\n"); }
failure_route[f] {
    await(usleep(100000));
    if ($T_reply_code == 486) {
        t_on_branch("b");
        t_on_failure("f");
        $du = "sip:127.0.0.1:" + $hdr(X-Callee);
        t_relay();
        xlog("@@again $rc\\n");
    }
}
local_route { await(usleep(100000)); append_hf("X-Local: $rc\\r\\n"); }
event_route[E_X] { await(usleep(100000)); xlog("@@event $rc $rT\\n"); }
timer_route[t, 1] { await(usleep(100000)); xlog("@@timer $rc\\n"); }
startup_route { await(usleep(100000)); xlog("@@startup $rc\\n"); }
"""


def test_it_works_in_every_route(server: StartServer, client: MakeClient) -> None:
    running = server(HEAD + EVERYWHERE, workers=1)
    caller, callee = client(running.address), client(running.address)
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    first = callee.receive()
    assert first.header("X-Branch") == "1"
    callee.reply(first, 486, "Busy")
    assert callee.receive().method == "ACK"
    second = callee.receive()
    assert second.all("X-Branch") == ["1"]
    running.wait_log("@@again 1")
    callee.reply(second, 180, "Ringing")
    while (ringing := caller.receive()).status == 100:
        continue
    assert ringing.header("X-Reply") == "1 180"
    caller.in_transaction("CANCEL")
    assert caller.final().start == "SIP/2.0 200 canceling"
    cancel = callee.receive()
    assert cancel.method == "CANCEL"
    callee.reply(cancel, 200)
    callee.reply(second, 487, "Request Terminated")
    answer = caller.final()
    assert (answer.status, answer.header("X-Reply")) == (487, "1 487")
    caller.in_transaction("ACK")
    for line in ("@@relayed 1", "@@timer 1", "@@startup 1"):
        running.wait_log(line)


WITHIN = """
route {
    if (is_method("ACK")) {
        t_relay();
        exit;
    }
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    if (is_method("MESSAGE"))
        t_newtran();
    else {
        t_on_failure("f");
        t_relay();
        exit;
    }
    t_new_request("OPTIONS", "sip:made@127.0.0.1:$hdr(X-Callee)", "sip:a@x", "sip:b@x");
    t_reply(200, "$rc");
}
failure_route[f] {
    t_new_request("OPTIONS", "sip:made@127.0.0.1:$hdr(X-Callee)", "sip:a@x", "sip:b@x");
    t_reply(480, "$rc");
}
local_route { await(usleep(1500000)); append_hf("X-Local: $rc\\r\\n"); }
"""


def test_a_local_route_s_wait_is_one_of_the_script_that_asked(server: StartServer, client: MakeClient) -> None:
    running = server(HEAD + WITHIN, workers=2)
    caller, callee = client(running.address), client(running.address)
    data = caller.request("MESSAGE", headers=f"X-Callee: {callee.port}")
    wait_parked(running, "usleep")
    for _ in range(3):
        caller.send_raw(data)  # its transaction is known to all meanwhile
        time.sleep(0.05)
    assert callee.receive().header("X-Local") == "1"
    assert caller.final().reason == "1"
    callee.nothing(0.3)


def test_a_failure_route_is_not_held_while_a_local_route_inside_it_waits(server: StartServer, client: MakeClient) -> None:
    running = server(HEAD + WITHIN, workers=2)
    caller, callee = client(running.address), client(running.address)
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    invite = callee.receive()
    data = callee.reply(invite, 486, "Busy")
    assert callee.receive().method == "ACK"
    wait_parked(running, "usleep")
    for _ in range(4):
        callee.send_raw(data, running.address)  # would wait for the lock, in either worker
        time.sleep(0.02)
        assert callee.receive().method == "ACK"
    assert callee.receive().method == "OPTIONS"
    assert caller.final().start == "SIP/2.0 480 1"
    caller.in_transaction("ACK")


DYING = (
    HEAD
    + "route {"
    + BLOCK
    + """
    if (is_method("ACK")) {
        t_relay();
        exit;
    }
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    if ($rU == "request") {
        xlog("@@waiting $pp\\n");
        await(sleep(1));
        xlog("@@went on\\n");
        t_reply(200, "OK");
        exit;
    }
    t_on_failure("f");
    t_on_reply("r");
    t_relay();
}
failure_route[f] {
    xlog("@@waiting $pp\\n");
    await(sleep(1));
    xlog("@@went on\\n");
    t_reply(480, "No");
}
onreply_route[r] {
    if ($rs == 200) {
        append_hf("X-Before: yes\\r\\n");
        xlog("@@waiting $pp\\n");
        await(sleep(1));
        xlog("@@went on\\n");
    }
}
"""
)


@pytest.mark.parametrize("how", ["killed", "stuck"])
@pytest.mark.parametrize(("kind", "reply", "outcome"), [("request", 0, 500), ("failure", 486, 486), ("onreply", 200, 200)])
def test_the_rest_of_the_script_is_lost_with_its_worker(
    server: StartServer, client: MakeClient, kind: str, reply: int, outcome: int, how: str
) -> None:
    running = server(DYING, workers=3)
    caller, callee, blocker = client(running.address), client(running.address), client(running.address)
    caller.request("INVITE", f"sip:{kind}@127.0.0.1:{running.port}", headers=f"X-Callee: {callee.port}")
    if reply:
        callee.reply(callee.receive(), reply, "Answer")
    (line,) = running.wait_log("@@waiting")
    wait_parked(running, "sleep")
    pid = int(re.split(r" ", line)[-1])
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    else:
        block(running, blocker, pid)
    answer = caller.final()
    assert answer.status == outcome
    if kind == "onreply":
        assert answer.header("X-Before") == "yes"
    else:
        caller.in_transaction("ACK", to=answer.header("To"))
    lost = running.wait_log("scripts in await() are lost")
    assert "1 scripts in await() are lost, their requests are answered 500" in lost[0]
    if how == "stuck":
        wait_free(running)  # it must not go on
    assert running.lines("@@went on") == []
    caller.nothing(0.2)


def test_the_answer_does_not_wait_for_the_end_of_what_the_lost_script_waited_for(server: StartServer, client: MakeClient) -> None:
    script = 'route { xlog("@@waiting $pp\\n"); await(exec("sleep 600", , $avp(out))); t_reply(200, "OK"); }'
    running = server(HEAD + script, workers=2)
    caller = client(running.address)
    caller.request("MESSAGE")
    (line,) = running.wait_log("@@waiting")
    wait_parked(running, "exec")
    os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
    assert caller.final().status == 500
    assert running.mi("async_list")["Count"] == 0


def test_scripts_that_wait_when_the_server_stops_are_answered_503(server: StartServer, client: MakeClient) -> None:
    running = server(
        "async_drain_timeout = 1\n" + HEAD + 'route { await(sleep(20)); xlog("@@went on\\n"); t_reply(200, "OK"); }', workers=1
    )
    caller = client(running.address)
    caller.request("MESSAGE")
    wait_parked(running, "sleep")
    assert running.stop() == 0
    assert caller.final().status == 503
    assert running.lines("@@went on") == []


def test_routes_are_reloaded_while_a_script_waits(server: StartServer, client: MakeClient) -> None:
    running = server(
        HEAD + 'route { await(sleep(2)); route(answer, "old"); }\nroute[answer] { t_reply(200, "$param(1)"); }\n', workers=1
    )
    caller = client(running.address)
    caller.request("MESSAGE")
    wait_parked(running, "sleep")
    running.config.write_text(running.config.read_text().replace('"old"', '"new"'))
    running.mi("reload_routes")
    assert caller.final().reason == "old"
    caller.request("MESSAGE")
    assert caller.final().reason == "new"


def test_async_cancel_lets_the_script_go_on(server: StartServer, client: MakeClient) -> None:
    running = server(HEAD + 'route { await(sleep(20)); t_reply(200, "$rc"); }', workers=2)
    caller = client(running.address)
    caller.request("MESSAGE")
    wait_parked(running, "sleep")
    (row,) = running.mi("async_list")["Operations"]
    running.mi("async_cancel", {"token": row["Token"]})
    assert caller.final().reason == "-5"


@pytest.mark.parametrize(("statement", "sent"), [("await(usleep(1500000));", False), ("async(usleep(1500000), after);", True)])
def test_a_script_that_waits_for_a_local_route_is_answered_when_its_worker_dies(
    server: StartServer, client: MakeClient, statement: str, sent: bool
) -> None:
    script = WITHIN.replace("await(usleep(1500000));", 'xlog("@@waiting $pp\\n"); ' + statement)
    script += 'route[after] { append_hf("X-After: $rc\\r\\n"); }\n'
    running = server(HEAD + script, workers=2)
    caller, callee = client(running.address), client(running.address)
    caller.request("MESSAGE", headers=f"X-Callee: {callee.port}")
    (line,) = running.wait_log("@@waiting")
    wait_parked(running, "usleep")
    os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
    assert caller.final().status == 500
    if sent:
        assert callee.receive().header("X-After") == "1"
    callee.nothing(0.3)
