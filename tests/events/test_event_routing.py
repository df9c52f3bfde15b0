"""Events reach scripts that wait for them, whichever process raises them and whatever happens to the one that waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import MIError, Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "event_route.so"
loadmodule "event_routing.so"
route {
    if (is_method("REGISTER")) {
        save("location");
        exit;
    }
    if ($rU == "wait") {
        t_newtran();
        $avp(filter) = "group=" + $hdr(X-Group);
        xlog("@@waiting $hdr(X-Group) in $pp\\n");
        async(wait_for_event("E_GROUP", $avp(filter), 20), resumed);
    }
    if ($rU == "short") {
        async(wait_for_event("E_GROUP", $avp(filter), 1), resumed);
    }
    if ($rU == "cut") {
        async(wait_for_event("E_GROUP", $avp(filter), 20), resumed, 1);
    }
    if ($rU == "push") {
        $avp(filter) = "aor=" + $hdr(X-Callee);
        async(wait_for_event("E_UL_CONTACT_INSERT", $avp(filter), 20), registered);
    }
    if ($rU == "notify") {
        t_newtran();
        $avp(filter) = "group=*";
        notify_on_event("E_GROUP", $avp(filter), "notified", 20);
        t_reply(200, "rc $rc");
        exit;
    }
    if ($rU == "launch") {
        launch(wait_for_event("E_GROUP", $avp(none), 20), notified);
        sl_send_reply(200, "OK");
        exit;
    }
    if ($rU == "raise") {
        $avp(name) = "group";
        $avp(value) = $hdr(X-Group);
        $avp(name) = "picker";
        $avp(value) = $fU;
        raise_event("E_GROUP", $avp(name), $avp(value));
        $avp(only) = "one";
        $avp(only) = 2;
        raise_event("E_VALUES", $avp(only));
        raise_event("E_NONE");
        raise_event("E_SYNC");
        xlog("@@raised in $pp\\n");
        sl_send_reply(200, "rc $rc");
        exit;
    }
}
route[resumed] {
    xlog("@@resumed $hdr(X-Group) in $pp rc=$rc picker=$avp(picker)\\n");
    t_reply(200, "group $avp(group) picker $avp(picker)");
}
route[registered] {
    t_reply(200, "rc $rc $avp(uri) $avp(aor) $avp(domain) $avp(qval) $avp(cseq)");
}
route[notified] {
    xlog("@@notified $rm group=$avp(group) picker=$avp(picker) filter=$avp(filter)\\n");
}
event_route[E_VALUES] {
    xlog("@@values $param(1) $param(2) in $rT\\n");
}
event_route[E_NONE, async] {
    xlog("@@none $param(1)\\n");
}
event_route[E_SYNC, sync] {
    xlog("@@sync in $pp\\n");
}
"""


def _raise(client: SipClient, group: str) -> None:
    client.request("OPTIONS", "sip:raise@{server}", headers=f"X-Group: {group}")
    assert client.final().status == 200


def _parked(running: Server, count: int = 1) -> list[dict[str, object]]:
    """The parked operations, when there are ``count`` of them."""
    end = this.clock.now() + 20
    while len(rows := running.mi("async_list")["Operations"]) != count:
        assert this.clock.now() < end, rows
        time.sleep(0.01)
    return list(rows)


def test_an_event_resumes_the_scripts_whose_filters_it_passes(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=3)
    one, other, raiser = (client(running.address) for _ in range(3))
    one.request("INVITE", "sip:wait@{server}", headers="X-Group: 1")
    other.request("INVITE", "sip:wait@{server}", headers="X-Group: [3-5]*")
    _parked(running, 2)
    _raise(raiser, "1")
    assert one.final().reason == "group 1 picker alice"
    _parked(running, 1)
    _raise(raiser, "47")
    assert other.final().reason == "group 47 picker alice"
    _parked(running, 0)
    assert running.mi("subscribers_list", ["E_GROUP"])["Event"]["Subscribers"] == []


def test_a_wait_ends_with_minus_one_when_its_time_is_over(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    for user, code in (("short", -1), ("cut", -3)):
        began = this.clock.now()
        caller.request("OPTIONS", f"sip:{user}@{{server}}")
        assert caller.final().reason.endswith("group <null> picker <null>")
        assert this.clock.now() - began > 0.9
        running.wait_log(f" rc={code}")
    assert running.mi("subscribers_list", ["E_GROUP"])["Event"]["Subscribers"] == []


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_the_worker_that_waits_may_die_or_be_stuck(server: StartServer, client: MakeClient, blow: signal.Signals) -> None:
    running = server(SCRIPT, workers=3)
    caller = client(running.address)
    caller.request("INVITE", "sip:wait@{server}", headers="X-Group: 9")
    owner = int(str(_parked(running)[0]["PID"]))
    if blow == signal.SIGKILL:
        os.kill(owner, signal.SIGKILL)
        running.wait_log("go on in another process")
        running.mi("raise_event", ["E_GROUP", {"group": "9", "picker": "mi"}])
    else:
        # it is told while it cannot hear, and dies before it can
        os.kill(owner, signal.SIGSTOP)
        running.mi("raise_event", ["E_GROUP", {"group": "9", "picker": "mi"}])
        os.kill(owner, signal.SIGKILL)
    answer = caller.final()
    assert answer.reason == "group 9 picker mi"
    caller.nothing(0.3)
    (line,) = running.lines("@@resumed 9")
    assert line.endswith("rc=1 picker=mi")
    assert f" in {owner} " not in line


def test_a_wait_is_resumed_once_however_often_the_event_is_raised(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=4)
    callers = [client(running.address) for _ in range(10)]
    for caller in callers:
        caller.request("INVITE", "sip:wait@{server}", headers="X-Group: many")
    _parked(running, 10)
    raisers = [client(running.address) for _ in range(5)]
    for raiser in raisers:
        raiser.request("OPTIONS", "sip:raise@{server}", headers="X-Group: many")
    for caller in callers:
        assert caller.final().reason == "group many picker alice"
    for raiser in raisers:
        raiser.final()
    _parked(running, 0)
    assert len(running.lines("@@resumed many")) == 10


def test_a_call_waits_for_its_callee_to_register(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    caller, callee = client(running.address), client(running.address)
    caller.request("INVITE", "sip:push@{server}", headers="X-Callee: bob")
    _parked(running)
    callee.request("REGISTER", "sip:{server}", headers="To: <sip:carol@{server}>", cseq="7")  # (the first To counts)
    assert callee.final().status == 200
    answer = caller.final()
    assert answer.reason.startswith(f"rc 1 sip:alice@127.0.0.1:{callee.port} bob location ")
    assert answer.reason.endswith(" -1 7")


def test_notify_on_event_runs_its_route_each_time(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    caller.request("OPTIONS", "sip:notify@{server}")
    assert caller.final().reason == "rc 1"
    for group in ("5", "6"):
        _raise(caller, group)
        running.wait_log(f"@@notified DUMMY group={group} picker=alice filter=<null>")
    caller.request("OPTIONS", "sip:launch@{server}")
    assert caller.final().status == 200
    _parked(running)
    _raise(caller, "7")
    running.wait_log("@@notified DUMMY group=7", count=2)
    _raise(caller, "8")
    running.wait_log("@@notified DUMMY group=8", count=1)
    assert len(running.lines("@@notified")) == 5


def test_event_routes_run_after_the_script_that_raises_or_at_once(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    _raise(caller, "x")
    running.wait_log("@@none")
    texts = [line.split("@@")[1].split()[0] for line in running.lines("@@")]
    assert texts == ["sync", "raised", "values", "none"]
    running.wait_log("@@values 2 one in event_route")
    running.wait_log("@@none <null>")


def test_events_and_their_subscribers_are_listed(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    names = [event["name"] for event in running.mi("events_list")["Events"]]
    assert names[0] == "E_CORE_THRESHOLD"
    assert {"E_UL_CONTACT_INSERT", "E_UL_AOR_DELETE", "E_GROUP", "E_VALUES"} <= set(names)
    assert running.mi("events_list")["Events"][3]["id"] == 3
    caller.request("INVITE", "sip:wait@{server}", headers="X-Group: 1")
    _parked(running)
    listed = {event["name"]: event["Subscribers"] for event in running.mi("subscribers_list")["Events"]}
    assert listed["E_GROUP"] == [{"socket": "routing:E_GROUP", "expire": "never"}]
    assert listed["E_SYNC"] == [{"socket": "route:E_SYNC", "expire": "never"}]
    with pytest.raises(MIError, match="404 Event not published"):
        running.mi("subscribers_list", ["E_OTHER"])
    with pytest.raises(MIError, match="404"):
        running.mi("raise_event", ["E_OTHER"])
    running.mi("raise_event", {"event": "E_GROUP", "params": '{"group": 1, "picker": "text"}'})
    assert caller.final().reason == "group 1 picker text"


EVERYWHERE = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
loadmodule "event_route.so"
loadmodule "event_routing.so"
event_shm_threshold = 1
route {
    if ($rU == "raise") {
        $avp(name) = "k";
        $avp(value) = $hdr(X-K);
        raise_event("E_X", $avp(name), $avp(value));
        sl_send_reply(200, "OK");
        exit;
    }
    t_newtran();
    t_on_failure("fail");
    $du = "sip:127.0.0.1:" + $hdr(X-Port);
    t_relay();
}
failure_route[fail] {
    $avp(filter) = "k=1";
    async(wait_for_event("E_X", $avp(filter), 10), woken);
}
route[woken] {
    xlog("@@woken $rT\\n");
    t_reply(480, "woken $avp(k)");
}
event_route[E_X] {
    xlog("@@event $param(k)\\n");
    async(usleep(1000), later);
}
route[later] {
    xlog("@@later $rm $rT\\n");
}
"""


def test_waiting_in_failure_routes_and_in_event_routes(server: StartServer, client: MakeClient) -> None:
    running = server(EVERYWHERE)
    caller, callee, raiser = client(running.address), client(), client(running.address)
    caller.request("INVITE", headers=f"X-Port: {callee.port}")
    callee.reply(callee.receive(), 486, "Busy")
    _parked(running)
    _raise_k(raiser, "2")
    running.wait_log("@@later DUMMY event_route")
    _raise_k(raiser, "1")
    assert caller.final().reason == "woken 1"
    running.wait_log("@@woken failure_route")
    running.wait_log("@@later", count=2)


def _raise_k(client: SipClient, value: str) -> None:
    client.request("OPTIONS", "sip:raise@{server}", headers=f"X-K: {value}")
    assert client.final().status == 200
