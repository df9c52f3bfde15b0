"""Functions and parameters of tm, as the parties of a call see them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from tests.conftest import StartServer
from tests.support.sip_client import SipClient

MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
PARAMETERS
route {
    if (is_method("ACK")) {
        t_relay();
        exit;
    }
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    ROUTE
}
"""


def _script(route: str, parameters: str = "") -> str:
    return SCRIPT.replace("ROUTE", route).replace("PARAMETERS", parameters)


def test_a_reply_has_the_body_that_the_script_gives_it_each_time_it_is_sent(server: StartServer, client: MakeClient) -> None:
    route = 'append_to_reply("Content-Type: text/plain\\r\\n"); t_newtran(); t_reply_with_body(603, "No", "it is late");'
    running = server(_script(route))
    caller = client(running.address)
    data = caller.request("MESSAGE", headers="X-Callee: 1")
    answer = caller.receive()
    assert (answer.start, answer.body) == ("SIP/2.0 603 No", "it is late")
    assert (answer.header("Content-Type"), answer.header("Content-Length")) == ("text/plain", "10")
    caller.send_raw(data)
    assert caller.receive().raw == answer.raw


@pytest.mark.parametrize("reason", ['SIP;cause=200;text=\\"Elsewhere\\"', 'Reason: SIP;cause=200;text=\\"Elsewhere\\"'])
def test_the_script_says_why_it_cancels(server: StartServer, client: MakeClient, reason: str) -> None:
    running = server(_script(f'if (is_method("CANCEL")) t_add_cancel_reason("{reason}"); t_relay();'))
    caller, callee = client(running.address), client()
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    invite = callee.receive()
    callee.reply(invite, 180, "Ringing")
    while caller.receive().status != 180:
        continue
    caller.in_transaction("CANCEL", headers=f"X-Callee: {callee.port}")
    while (cancel := callee.receive()).method != "CANCEL":
        continue
    assert cancel.all("Reason") == ['SIP;cause=200;text="Elsewhere"']
    callee.reply(cancel, 200)
    callee.reply(invite, 487, "Request Terminated")
    assert {caller.final().status, caller.final().status} == {200, 487}
    caller.in_transaction("ACK")


def test_headers_of_the_transaction_go_with_all_that_is_sent_for_it(server: StartServer, client: MakeClient) -> None:
    running = server(_script('if (is_method("INVITE")) { t_newtran(); t_add_hdrs("X-More: yes\\r\\n"); } t_relay();'))
    caller, callee = client(running.address), client()
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    invite = callee.receive()
    assert invite.all("X-More") == ["yes"]
    callee.reply(invite, 486, "Busy")
    while (ack := callee.receive()).method != "ACK":
        continue
    assert ack.all("X-More") == ["yes"]
    assert caller.final().all("X-More") == []
    caller.in_transaction("ACK")


def test_flags_set_after_the_relay_are_flushed_to_the_failure_route(server: StartServer, client: MakeClient) -> None:
    route = 't_on_failure("failed"); t_relay(); setflag("LATE"); t_flush_flags(); xlog("@@flushed\\n");'
    failure = 'failure_route[failed] { if (isflagset("LATE")) t_reply(480, "yes"); else t_reply(480, "no"); }'
    running = server(_script(route) + failure)
    caller, callee = client(running.address), client()
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    invite = callee.receive()
    running.wait_log("@@flushed")
    callee.reply(invite, 486, "Busy")
    assert caller.final().reason == "yes"
    caller.in_transaction("ACK")


@pytest.mark.parametrize(("value", "statuses"), [(1, [100, 180]), (0, [180])])
def test_an_invite_is_answered_100_unless_the_script_does_not_want_it(
    server: StartServer, client: MakeClient, value: int, statuses: list[int]
) -> None:
    running = server(_script("t_relay();", f'modparam("tm", "auto_100trying", {value})'))
    caller, callee = client(running.address), client()
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    invite = callee.receive()
    callee.reply(invite, 180, "Ringing")
    assert [caller.receive().status for _ in statuses] == statuses
    callee.reply(invite, 486, "Busy")
    assert caller.final().status == 486
    caller.in_transaction("ACK")


def test_a_repeated_180_gives_the_callee_more_time_unless_told_otherwise(server: StartServer, client: MakeClient) -> None:
    """Three seconds to answer from the last, or from the first, of two 180 that are one and a half seconds apart."""
    calls = []
    for value in (0, 1):
        parameters = f'modparam("tm", "fr_inv_timeout", 3)\nmodparam("tm", "restart_fr_on_each_reply", {value})'
        running = server(_script("t_relay();", parameters))
        caller, callee = client(running.address), client()
        caller.request("INVITE", headers=f"X-Callee: {callee.port}")
        calls.append((caller, callee, callee.receive()))
    for _, callee, invite in calls:
        callee.reply(invite, 180, "Ringing")
    time.sleep(1.5)
    repeated = this.clock.now()
    for _, callee, invite in calls:
        callee.reply(invite, 180, "Ringing")
    finals = [caller.final() for caller, _, _ in calls]
    assert [final.status for final in finals] == [408, 408]
    first, last = (final.at - repeated for final in finals)
    assert first < 2.9 < last
