"""What a suspension keeps, when another worker resumes: the whole state of message and transaction, but no $var.

The worker that has parked is killed, so that everything comes from the shared store.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, assert_nothing_is_left, wait_parked
from tests.support.sip_client import Message, SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

HEAD = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
loadmodule "rr.so"
loadmodule "textops.so"
"""
)

SCRIPT = (
    HEAD
    + """
route {
    if (is_method("ACK")) { t_relay(); exit; }
    if ($rU == "pid") { $var(secret) = "of another message"; sl_send_reply(200, "$pp"); exit; }
    $var(secret) = "mine";
    $avp(number) = 42;
    $avp(stack) = "old";
    $avp(stack) = "new";
    $avp(bytes) = "\\xff\\x80";
    setflag("first");
    setflag("second");
    resetflag("first");
    setbflag("branchy");
    append_hf("X-Appended: here\\r\\n");
    remove_hf("X-Remove");
    subst("/X-Subst: original/X-Subst: changed/");
    record_route();
    $ru = "sip:changed@127.0.0.1:CALLEE;p=1";
    append_branch("sip:second@127.0.0.1:CALLEE2");
    $du = "sip:127.0.0.1:CALLEE";
    append_to_reply("X-In-Reply: yes\\r\\n");
    t_on_failure("failed");
    t_on_reply("replied");
    t_on_branch("branched");
    $T_fr_timeout = 2;
    xlog("@@parking $pp\\n");
    async(exec("sleep 1.2; echo real", , $avp(result)), resume);
}
route[resume] {
    xlog("@@resumed $pp rc=$rc result=$avp(result) number=$avp(number)\\n");
    xlog("@@values stack=$(avp(stack)[*]) bytes=$(avp(bytes){s.encode.hexa})\\n");
    xlog("@@destination $du $ru\\n");
    xlog("@@message hdr=$hdr(X-Remove) si=$si sp=$sp var=$var(secret)\\n");
    if (isflagset("first")) xlog("@@first is set\\n");
    if (isflagset("second")) xlog("@@second is set\\n");
    if (isbflagset("branchy")) xlog("@@branchy is set\\n");
    append_hf("X-Late: $avp(result)\\r\\n");
    if (!t_relay()) t_reply(500, "Relay failed");
}
branch_route[branched] { append_hf("X-Branch: $T_branch_idx\\r\\n"); }
onreply_route[replied] { xlog("@@reply $rs in the armed route\\n"); }
failure_route[failed] {
    xlog("@@failure $T_reply_code number=$avp(number)\\n");
    t_reply(480, "All failed");
}
"""
)


def _kill_parker(running: Server) -> int:
    wait_parked(running)
    pid = int(running.wait_log("@@parking")[0].split("@@parking ")[1].split()[0])
    os.kill(pid, signal.SIGKILL)
    return pid


def _two(first: SipClient, second: SipClient) -> tuple[Message, Message]:
    return first.receive(), second.receive()


def test_everything_is_kept_when_another_worker_resumes(server: StartServer, client: MakeClient) -> None:
    callee, other = client(), client()
    script = SCRIPT.replace("CALLEE2", str(other.port)).replace("CALLEE", str(callee.port))
    running = server(script, workers=2)
    caller = client(running.address)
    caller.request("INVITE", f"sip:bob@127.0.0.1:{running.port}", headers="X-Remove: me\nX-Subst: original\nX-Stay: s")
    assert caller.receive().status == 100
    killed = _kill_parker(running)
    one, two = _two(callee, other)
    assert one.ruri == f"sip:changed@127.0.0.1:{callee.port};p=1"
    assert two.ruri == f"sip:second@127.0.0.1:{other.port}"
    for number, got in enumerate((one, two)):
        assert got.header("X-Appended") == "here"
        assert got.header("X-Late") == "real"
        assert got.header("X-Subst") == "changed"
        assert got.header("X-Stay") == "s"
        assert got.header("X-Branch") == str(number)
        assert got.all("X-Remove") == []
        assert len(got.all("Record-Route")) == 1
        assert len(got.all("Via")) == 2
    [line] = running.wait_log("@@resumed")
    assert f"@@resumed {killed}" not in line
    assert "rc=1 result=real number=42" in line
    assert "stack=new, old bytes=ff80" in running.lines("@@values")[0]
    assert running.lines(f"@@destination sip:127.0.0.1:{callee.port} sip:changed@127.0.0.1:{callee.port};p=1")
    [line] = running.lines("@@message")
    assert f"hdr=me si=127.0.0.1 sp={caller.port}" in line
    assert "var=mine" not in line
    assert not running.lines("@@first is set")
    assert running.lines("@@second is set") and running.lines("@@branchy is set")
    callee.reply(one, 404, "Not Found")
    other.reply(two, 486, "Busy Here")
    answer = caller.final()
    assert (answer.status, answer.reason) == (480, "All failed")
    assert answer.header("X-In-Reply") == "yes"
    running.wait_log("@@failure 404 number=42")
    running.wait_log("@@reply 404 in the armed route")
    caller.in_transaction("ACK", to=answer.header("To"))


def test_final_timeout_after_another_worker_has_resumed(server: StartServer, client: MakeClient) -> None:
    callee, other = client(), client()
    script = SCRIPT.replace("CALLEE2", str(other.port)).replace("CALLEE", str(callee.port))
    running = server(script, workers=2)
    caller = client(running.address)
    caller.request("INVITE", f"sip:bob@127.0.0.1:{running.port}")
    _kill_parker(running)
    relayed, _ = _two(callee, other)
    answer = caller.final()
    assert (answer.status, answer.reason) == (480, "All failed")
    assert 1.8 <= answer.at - relayed.at < 10, "$T_fr_timeout was set before the suspension"
    running.wait_log("@@failure 408 number=42")
    caller.in_transaction("ACK", to=answer.header("To"))
    running.wait_log("is back")
    assert_nothing_is_left(running, None, seconds=12)


def test_variables_of_the_process_are_not_kept(server: StartServer, client: MakeClient) -> None:
    callee, other = client(), client()
    script = SCRIPT.replace("CALLEE2", str(other.port)).replace("CALLEE", str(callee.port))
    running = server(script, workers=1)
    caller, third = client(running.address), client(running.address)
    caller.request("INVITE", f"sip:bob@127.0.0.1:{running.port}")
    wait_parked(running)
    third.request("OPTIONS", f"sip:pid@127.0.0.1:{running.port}")
    third.final()
    assert "var=of another message" in running.wait_log("@@message")[0]


PARKED = (
    HEAD
    + """
route {
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    xlog("@@script $rm\\n");
    xlog("@@parking $pp\\n");
    async(exec("sleep 1.5; echo real", , $avp(result)), resume);
}
route[resume] {
    if (t_was_cancelled()) xlog("@@cancelled\\n");
    $du = "sip:127.0.0.1:CALLEE";
    t_relay();
    xlog("@@relay $rc\\n");
}
"""
)


def test_retransmissions_while_parked(server: StartServer, client: MakeClient) -> None:
    """Golden async-retrans-invite, -noninvite; here with a dead owner."""
    callee = client()
    running = server(PARKED.replace("CALLEE", str(callee.port)), workers=2)
    caller, quiet = client(running.address), client(running.address)
    invite = caller.request("INVITE")
    assert caller.receive().status == 100
    options = quiet.request("OPTIONS")
    wait_parked(running, 2)
    for line in running.lines("@@parking")[:1]:
        os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)
    for _ in range(3):
        time.sleep(0.3)  # a stored reply is repeated once in T1/2
        caller.send_raw(invite)
        assert caller.receive().status == 100
        quiet.send_raw(options)
    quiet.nothing(0.1)
    got = [callee.receive(), callee.receive()]
    assert sorted(message.method for message in got) == ["INVITE", "OPTIONS"]
    for message in got:
        callee.reply(message, 200)
    assert caller.final().status == quiet.final().status == 200
    assert len(running.lines("@@relay 1")) == 2


def test_cancel_while_parked_with_a_dead_owner(server: StartServer, client: MakeClient) -> None:
    """Golden async-cancel-parked: 200 at once, 487 only when the resume route relays, nothing goes out."""
    callee = client()
    running = server(PARKED.replace("CALLEE", str(callee.port)), workers=2)
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    _kill_parker(running)
    caller.in_transaction("CANCEL")
    began = this.clock.now()
    answer = caller.receive()
    assert (answer.status, answer.reason, answer.method) == (200, "canceling", "CANCEL")
    answer = caller.final()
    assert (answer.status, answer.reason, answer.method) == (487, "Request Terminated", "INVITE")
    assert answer.at - began > 0.3
    running.wait_log("@@relay -3")
    assert running.lines("@@cancelled")
    callee.nothing(0.2)
    caller.in_transaction("ACK", to=answer.header("To"))
