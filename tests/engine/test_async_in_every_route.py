"""``async()`` suspends in every kind of route: the process serves others meanwhile, and afterwards all goes its usual way."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import Message, SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

WAIT = 1.2
"""Seconds that the scripts below wait."""

HEAD = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
modparam("tm", "fr_timeout", 2)
"""

PING = """
    if (is_method("OPTIONS") && $rU == "ping") {
        sl_send_reply(200, "Pong");
        exit;
    }
    if (is_method("ACK"))
        exit;
"""

RELAY = """
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
"""


class Call:
    """A caller, a callee, and a third party that asks whether the only worker is free."""

    def __init__(self, server: Server, client: MakeClient) -> None:
        self.server = server
        self.caller, self.callee, self.other = client(server.address), client(server.address), client(server.address)

    def invite(self, method: str = "INVITE", headers: str = "") -> bytes:
        return self.caller.request(
            method, f"sip:bob@127.0.0.1:{self.server.port}", headers=f"X-Callee: {self.callee.port}\n{headers}"
        )

    def ring(self, method: str = "INVITE", headers: str = "") -> Message:
        """Call; what reaches the callee."""
        self.invite(method, headers)
        return self.callee.receive()

    def assert_free(self) -> None:
        """The worker answers at once."""
        began = this.clock.now()
        self.other.request("OPTIONS", f"sip:ping@127.0.0.1:{self.server.port}")
        assert self.other.receive().status == 200
        assert this.clock.now() - began < WAIT * 0.75, "the worker was held up"

    def waiting(self, function: str = "usleep") -> None:
        """Until an operation is parked, and then the worker is free."""
        end = this.clock.now() + 20
        while not any(row["Function"] == function for row in self.server.mi("async_list")["Operations"]):
            assert this.clock.now() < end, f"never parked:\n{self.server.log}"
            time.sleep(0.01)
        self.assert_free()

    def acknowledge(self) -> None:
        self.caller.in_transaction("ACK")


@pytest.fixture
def call(server: StartServer, client: MakeClient) -> Callable[[str], Call]:
    def start(script: str) -> Call:
        script = script.replace("PING", PING).replace("RELAY", RELAY).replace("WAIT", f"usleep({int(WAIT * 1e6)})")
        return Call(server(HEAD + script, workers=1), client)

    return start


ONREPLY = """
route {
    PING RELAY
    $avp(a) = "kept";
    t_on_reply("r");
    t_relay();
}
onreply_route[r] {
    if ($rs < LEAST)
        exit;
    $avp(b) = $rs;
    append_hf("X-Before: yes\\r\\n");
    xlog("@@route $rs\\n");
    async(WAIT, after);
}
route[after] {
    xlog("@@after $rs $rT $avp(b) rc=$rc\\n");
    append_hf("X-After: $rs\\r\\n");
}
"""


def test_a_final_reply_is_held_back_by_its_onreply_route(call: Callable[[str], Call]) -> None:
    now = call(ONREPLY.replace("LEAST", "200"))
    request = now.ring()
    assert now.caller.receive().status == 100
    now.callee.reply(request, 180, "Ringing")
    assert now.caller.receive().status == 180
    data = now.callee.reply(request, 200)
    now.waiting()
    now.callee.send_raw(data, request.source)  # retransmissions are absorbed while the reply is held back
    now.callee.send_raw(data, request.source)
    answer = now.caller.receive()
    assert answer.status == 200
    assert answer.header("X-Before") == "yes"
    assert answer.header("X-After") == "200"
    assert len(now.server.lines("@@route 200")) == 1
    (line,) = now.server.lines("@@after")
    assert "after 200 onreply_route 200 rc=1" in line.replace("route[after]", "onreply_route"), line
    now.caller.nothing(0.2)


def test_a_negative_reply_held_back_leads_to_the_failure_route(call: Callable[[str], Call]) -> None:
    now = call(
        ONREPLY.replace("LEAST", "300").replace('t_on_reply("r");', 't_on_reply("r"); t_on_failure("f");')
        + 'failure_route[f] { xlog("@@failed $T_reply_code\\n"); t_reply(480, "Away"); }'
    )
    request = now.ring()
    now.callee.reply(request, 486, "Busy")
    now.waiting()
    time.sleep(2.2 - WAIT)  # the final reply has come: fr_timeout does not count any more
    assert now.caller.final().status == 480
    assert len(now.server.lines("@@failed 486")) == 1
    assert now.callee.receive().method == "ACK"
    now.acknowledge()


def test_a_provisional_reply_held_back_is_overtaken_by_the_final_one(call: Callable[[str], Call]) -> None:
    now = call(ONREPLY.replace("if ($rs < LEAST)", "if ($rs != 180)"))
    request = now.ring()
    assert now.caller.receive().status == 100
    now.callee.reply(request, 180, "Ringing")
    now.waiting()
    now.callee.reply(request, 200)
    assert now.caller.receive().status == 200
    now.server.wait_log("@@after 180")
    now.caller.nothing(0.3)


def test_the_global_onreply_route_suspends_too(call: Callable[[str], Call]) -> None:
    now = call(ONREPLY.replace('t_on_reply("r");', "").replace("onreply_route[r]", "onreply_route").replace("LEAST", "200"))
    request = now.ring()
    assert now.caller.receive().status == 100
    data = now.callee.reply(request, 200)
    now.waiting()
    now.callee.send_raw(data, request.source)
    assert now.caller.receive().header("X-After") == "200"
    assert len(now.server.lines("@@route 200")) == 1


def test_with_onreply_avp_mode_the_transaction_s_avps_are_there_before_and_after(call: Callable[[str], Call]) -> None:
    now = call(
        'modparam("tm", "onreply_avp_mode", 1)\n'
        + ONREPLY.replace("LEAST", "200")
        .replace('xlog("@@route $rs', '$avp(a) = "changed"; xlog("@@route $rs')
        .replace("@@after $rs", "@@after $avp(a)")
    )
    request = now.ring()
    now.callee.reply(request, 200)
    now.waiting()
    assert now.caller.final().header("X-Before") == "yes"
    now.server.wait_log("@@after changed")


FAILURE = """
route {
    PING RELAY
    if (is_method("CANCEL")) {
        t_relay();
        exit;
    }
    t_on_failure("f");
    $avp(a) = "kept";
    t_relay();
}
failure_route[f] {
    xlog("@@failed $T_reply_code\\n");
    async(WAIT, after);
}
route[after] {
    xlog("@@after $rT $T_reply_code $avp(a) rc=$rc\\n");
    THEN
}
"""


def test_a_failure_route_suspends_and_tries_another_destination(call: Callable[[str], Call]) -> None:
    now = call(FAILURE.replace("THEN", '$ru = "sip:second@127.0.0.1"; RELAY t_relay();'))
    first = now.ring()
    assert now.caller.receive().status == 100
    now.callee.reply(first, 486, "Busy")
    assert now.callee.receive().method == "ACK"
    now.waiting()
    second = now.callee.receive()
    assert "second" in second.ruri
    now.callee.reply(second, 200)
    assert now.caller.receive().status == 200
    (line,) = now.server.lines("@@after")
    assert "486 kept rc=1" in line
    assert len(now.server.lines("@@failed")) == 1


@pytest.mark.parametrize(("then", "status"), [("", 486), ('t_reply(404, "Gone");', 404)])
def test_a_suspended_failure_route_answers(call: Callable[[str], Call], then: str, status: int) -> None:
    now = call(FAILURE.replace("THEN", then))
    request = now.ring()
    assert now.caller.receive().status == 100
    data = now.callee.reply(request, 486, "Busy")
    now.waiting()
    now.callee.send_raw(data, request.source)  # a late copy decides nothing
    assert now.caller.receive().status == status
    now.acknowledge()
    now.caller.nothing(0.2)
    assert len(now.server.lines("@@failed")) == 1


def test_a_failure_route_of_the_timer_process_suspends(call: Callable[[str], Call]) -> None:
    now = call(FAILURE.replace("THEN", '$ru = "sip:second@127.0.0.1"; RELAY t_relay();'))
    now.ring()  # and no answer: fr_timeout ends it
    end = this.clock.now() + 20
    while not now.server.lines("@@failed 408"):
        assert this.clock.now() < end
        time.sleep(0.05)
    other = Call(now.server, lambda address: SipClient(address))  # its timers must not stand still meanwhile
    second_call = other.ring()
    end = this.clock.now() + 20
    while other.callee.receive().raw != second_call.raw:
        assert this.clock.now() < end
    while "second" not in (message := now.callee.receive()).ruri:
        assert message.method == "INVITE"
    now.callee.reply(message, 200)
    assert now.caller.final().status == 200
    other.callee.reply(second_call, 200)
    assert other.caller.final().status == 200


def test_a_cancel_during_a_failure_route_s_wait_is_honoured_after_it(call: Callable[[str], Call]) -> None:
    now = call(FAILURE.replace("THEN", '$ru = "sip:second@127.0.0.1"; RELAY t_relay(); xlog("@@relayed $rc\\n");'))
    request = now.ring()
    assert now.caller.receive().status == 100
    now.callee.reply(request, 486, "Busy")
    assert now.callee.receive().method == "ACK"
    now.waiting()
    now.caller.in_transaction("CANCEL", headers=f"X-Callee: {now.callee.port}")
    assert now.caller.receive().start == "SIP/2.0 200 canceling"
    final = now.caller.receive()
    assert final.status == 487
    now.server.wait_log("@@relayed -3")
    now.callee.nothing(0.2)


def test_chained_async_in_a_failure_route(call: Callable[[str], Call]) -> None:
    now = call(FAILURE.replace("THEN", "async(usleep(200000), last);") + 'route[last] { t_reply(499, "$rT $avp(a)"); }')
    request = now.ring()
    now.callee.reply(request, 503, "Down")
    assert now.caller.final().start.startswith("SIP/2.0 499 ")
    now.acknowledge()


BRANCH = """
route {
    PING RELAY
    t_on_branch("b");
    $branch = "sip:second@127.0.0.1:" + $hdr(X-Callee);
    $avp(a) = "before";
    t_relay();
    xlog("@@relayed $rc $rT $ru\\n");
}
branch_route[b] {
    append_hf("X-Branch: $T_branch_idx\\r\\n");
    async(WAIT, after);
}
route[after] {
    xlog("@@after $T_branch_idx $rT\\n");
    append_hf("X-After: $rU\\r\\n");
    THEN
}
"""


def test_a_branch_route_suspends_and_t_relay_waits_for_it(call: Callable[[str], Call]) -> None:
    now = call(BRANCH.replace("THEN", ""))
    now.invite()
    assert now.caller.receive().status == 100  # sent before the wait
    now.waiting()
    branches = [now.callee.receive(), now.callee.receive()]
    assert [b.header("X-Branch") for b in branches] == ["0", "1"]
    assert [b.header("X-After") for b in branches] == ["bob", "second"]
    assert [len(b.all("X-After")) for b in branches] == [1, 1]
    (line,) = now.server.wait_log("@@relayed")
    assert "relayed 1" in line
    assert "bob" in line
    now.callee.reply(branches[1], 200)
    assert now.caller.receive().status == 200


def test_a_suspended_branch_route_may_drop_its_branch(call: Callable[[str], Call]) -> None:
    now = call(BRANCH.replace("THEN", 'if ($rU == "bob") drop;'))
    now.invite()
    branch = now.callee.receive()
    assert branch.header("X-After") == "second"
    now.callee.nothing(0.2)
    now.callee.reply(branch, 200)
    assert now.caller.final().status == 200


def test_all_branches_dropped_after_a_wait_gives_the_usual_error(call: Callable[[str], Call]) -> None:
    now = call(BRANCH.replace("THEN", "drop;"))
    now.invite()
    assert now.caller.final().start == "SIP/2.0 500 Server error occurred (1/TM)"
    now.acknowledge()


def test_a_cancel_while_a_branch_route_waits(call: Callable[[str], Call]) -> None:
    now = call(BRANCH.replace("PING", 'PING if (is_method("CANCEL")) { t_relay(); exit; }').replace("THEN", ""))
    now.invite()
    assert now.caller.receive().status == 100
    now.waiting()
    now.caller.in_transaction("CANCEL", headers=f"X-Callee: {now.callee.port}")
    assert now.caller.receive().start == "SIP/2.0 200 canceling"
    assert now.caller.receive().start == "SIP/2.0 487 Request Terminated"
    now.callee.nothing(0.3)
    now.server.wait_log("@@relayed -3")


def test_a_branch_route_waits_within_a_failure_route_s_t_relay(call: Callable[[str], Call]) -> None:
    now = call(
        BRANCH.replace("THEN", "").replace('t_on_branch("b");', 't_on_failure("f");')
        + 'failure_route[f] { t_on_branch("b"); $ru = "sip:third@127.0.0.1"; RELAY t_relay(); xlog("@@again $rc $rT\\n"); }'
    )
    for branch in (now.ring(), now.callee.receive()):
        now.callee.reply(branch, 486, "Busy")
        assert now.callee.receive().method == "ACK"
    now.waiting()
    third = now.callee.receive()
    assert third.header("X-After") == "third"
    (line,) = now.server.wait_log("@@again")
    assert "again 1" in line
    now.callee.reply(third, 200)
    assert now.caller.final().status == 200
    assert len(now.server.lines("@@again")) == 1
    now.caller.nothing(0.2)


def test_timer_event_and_report_routes_suspend(call: Callable[[str], Call]) -> None:
    now = call(
        """
        startup_route { async(usleep(1000), started); }
        timer_route[t, 1] { $avp(n) = "timer"; async(WAIT, ended); }
        event_route[E_X] { $avp(n) = "event " + $param(who); async(WAIT, ended); }
        route {
            PING
            $avp(names) = "who"; $avp(values) = "bob";
            raise_event("E_X", $avp(names), $avp(values));
            launch(usleep(1000), report, "text");
            xlog("@@on\\n");
            sl_send_reply(200, "OK");
        }
        route[started] { xlog("@@started $rT rc=$rc\\n"); }
        route[report] { $avp(n) = "report " + $param(1); async(WAIT, ended); }
        route[ended] { xlog("@@ended $avp(n) rc=$rc\\n"); }
        """
    )
    now.server.wait_log("@@started")
    now.invite("MESSAGE")
    assert now.caller.receive().status == 200
    now.waiting()
    for who in ("timer", "event bob", "report text"):
        assert now.server.wait_log(f"@@ended {who} rc=1")
    time.sleep(0.3)
    assert len(now.server.lines("@@ended event")) == len(now.server.lines("@@ended report")) == 1


def test_an_error_route_suspends_and_the_caller_is_answered_afterwards(call: Callable[[str], Call]) -> None:
    now = call('route { PING } error_route { async(WAIT, after); } route[after] { xlog("@@after $rT $err.rcode\\n"); }')
    now.caller.request("OPTIONS", headers="no colon in this line")
    now.waiting()
    assert now.caller.receive().status == 400
    assert len(now.server.wait_log("@@after")) == 1


def test_an_ack_suspends_without_a_transaction(call: Callable[[str], Call]) -> None:
    now = call(
        'route { PING2 RELAY append_hf("X-Was: here\\r\\n"); async(WAIT, after); }'
        'route[after] { append_hf("X-After: $rc\\r\\n"); t_relay(); }'.replace(
            "PING2", 'if (is_method("OPTIONS") && $rU == "ping") { sl_send_reply(200, "Pong"); exit; }'
        )
    )
    now.invite("ACK")
    now.waiting()
    ack = now.callee.receive()
    assert (ack.method, ack.header("X-Was"), ack.header("X-After")) == ("ACK", "here", "1")
    now.callee.nothing(0.2)


def test_an_in_dialog_request_and_a_cancel_suspend(call: Callable[[str], Call]) -> None:
    now = call('route { PING RELAY async(WAIT, after); } route[after] { t_relay(); xlog("@@relayed $rm $rc\\n"); }')
    now.caller.request(
        "BYE", f"sip:bob@127.0.0.1:{now.server.port}", headers=f"X-Callee: {now.callee.port}\nTo: <sip:bob@x>;tag=there"
    )
    now.waiting()
    bye = now.callee.receive()
    now.callee.reply(bye, 200)
    assert now.caller.receive().status == 200
    invite = now.ring()
    assert now.caller.receive().status == 100
    now.callee.reply(invite, 180, "Ringing")
    assert now.caller.receive().status == 180
    cancel = now.caller.in_transaction("CANCEL", headers=f"X-Callee: {now.callee.port}")
    now.waiting()
    now.caller.send_raw(cancel)  # absorbed
    assert now.caller.receive().start == "SIP/2.0 200 canceling"
    assert now.callee.receive().method == "CANCEL"
    now.caller.nothing(0.2)
    assert len(now.server.lines("@@relayed CANCEL")) == 1


def test_a_branch_route_waits_in_the_timer_process_and_its_timers_go_on(call: Callable[[str], Call]) -> None:
    now = call(
        """
        route {
            PING RELAY
            if ($rU == "bob")
                t_on_failure("f");
            t_relay();
        }
        failure_route[f] {
            t_on_branch("b");
            $ru = "sip:second@127.0.0.1";
            RELAY
            t_relay();
            xlog("@@again $rc\\n");
        }
        branch_route[b] { async(sleep(3), after); }
        route[after] { append_hf("X-After: $rc\\r\\n"); }
        """
    )
    now.ring()  # and no answer
    now.waiting("sleep")
    other = Call(now.server, lambda address: SipClient(address))
    other.caller.request("INVITE", f"sip:x@127.0.0.1:{now.server.port}", headers=f"X-Callee: {other.callee.port}")
    first, again = other.callee.receive(), other.callee.receive(2.5)
    assert first.raw == again.raw, "retransmitted while the failure route waits"
    other.callee.reply(first, 200)
    assert other.caller.final().status == 200
    while "second" not in (second := now.callee.receive()).ruri:
        continue
    assert second.header("X-After") == "1"
    now.server.wait_log("@@again 1")
    now.callee.reply(second, 200)
    assert now.caller.final().status == 200
    assert len(now.server.lines("@@again")) == 1
