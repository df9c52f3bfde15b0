"""A CANCEL for an INVITE whose script is suspended, with the parameter cancel_parked and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, assert_nothing_is_left, descriptors, wait_parked
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES
    + """
PARAMETER
route {
    if (is_method("CANCEL|ACK")) {
        t_relay();
        exit;
    }
    if ($rU == "program") async(exec("sleep 60 & sleep 61", , $avp(out)), resume);
    if ($rU == "pause") async(sleep(62), resume);
    if ($rU == "await") {
        await(sleep(63));
        route(resume);
        exit;
    }
    if ($rU == "short") async(sleep(2), resume);
    t_newtran();
    async(usleep(1000), resume);
}
route[resume] {
    $avp(rc) = $rc;
    t_was_cancelled();
    $avp(cancelled) = $rc;
    $du = "sip:127.0.0.1:9";
    t_relay();
    xlog("@@resumed $rU rc=$avp(rc) cancelled=$avp(cancelled) relay=$rc\\n");
    t_reply(500, "Never sent");
}
"""
)


@pytest.mark.parametrize("workers", [1, 3])
def test_487_at_once_and_the_operation_is_dropped(server: StartServer, client: MakeClient, workers: int) -> None:
    running = server(SCRIPT.replace("PARAMETER", 'modparam("tm", "cancel_parked", 1)'), workers=workers)
    before = descriptors(running)
    callers = [(kind, client(running.address)) for kind in ("program", "pause", "await") for _ in range(workers * 2)]
    for kind, caller in callers:
        caller.request("INVITE", f"sip:{kind}@127.0.0.1:{running.port}")
    wait_parked(running, len(callers))
    for n, (_, caller) in enumerate(callers):
        began = this.clock.now()
        assert caller.receive().status == 100
        caller.in_transaction("CANCEL")
        answers = [caller.receive(), caller.receive()]
        assert {(a.method, a.status) for a in answers} == {("CANCEL", 200), ("INVITE", 487)}
        assert max(a.at for a in answers) - began < 5
        (final,) = [a for a in answers if a.status == 487]
        caller.in_transaction("ACK", to=final.header("To"))
        wait_parked(running, len(callers) - n - 1)
        caller.nothing(0.05)
    for kind in ("program", "pause", "await"):
        lines = running.wait_log(f"@@resumed {kind}", count=workers * 2)
        assert len(lines) == workers * 2, "each route runs once"
        assert all("rc=-5 cancelled=1 relay=-3" in line for line in lines), lines
    assert_nothing_is_left(running, before, 15)


def test_without_it_487_comes_with_the_resume_route(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT.replace("PARAMETER", ""))
    caller = client(running.address)
    caller.request("INVITE", f"sip:short@127.0.0.1:{running.port}")
    wait_parked(running, 1)
    assert caller.receive().status == 100
    caller.in_transaction("CANCEL")
    assert caller.receive().status == 200
    caller.nothing(0.3)
    final = caller.final()
    assert final.status == 487
    caller.in_transaction("ACK", to=final.header("To"))
    assert "rc=1 cancelled=1 relay=-3" in running.wait_log("@@resumed short")[0]
