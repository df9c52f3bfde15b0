"""A call that waits for its callee to register: the branch comes from whichever worker takes the registration."""

from __future__ import annotations

from collections.abc import Callable

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = r"""
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
loadmodule "rr.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "event_routing.so"
route {
    if (is_method("REGISTER")) {
        save("location");
        exit;
    }
    if (is_method("INVITE")) {
        t_newtran();
        record_route();
        append_hf("X-Script: yes\r\n");
        $avp(filter) = "aor=" + $rU;
        notify_on_event("E_UL_CONTACT_INSERT", $avp(filter), "fork", 20);
        t_wait_for_new_branches();
        t_relay();
        exit;
    }
    if (is_method("CANCEL|BYE|ACK"))
        t_relay();
}
route[fork] {
    if (t_inject_branches("event"))
        xlog("injected $avp(uri)\n");
}
"""


def _register(client: SipClient, user: str) -> None:
    client.send(
        "REGISTER sip:{server} SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nFrom: <sip:{user}@x>;tag={tag}\n"
        "To: <sip:{user}@x>\nCall-ID: {call_id}\nCSeq: 1 REGISTER\nContact: <sip:{user}@{ip}:{port}>\nExpires: 60\n\n",
        user=user,
    )
    assert client.final().status == 200


def test_a_call_reaches_a_phone_that_registers_meanwhile(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=3)
    for n in range(6):  # the kernel chooses the workers
        caller, absent, phone = client(running.address), client(running.address), client(running.address)
        user = f"user{n}"
        caller.request("INVITE", f"sip:{user}@{absent.ip}:{absent.port}")
        first = absent.receive()
        absent.reply(first, 480, "Away")
        assert absent.receive().method == "ACK"
        _register(phone, user)
        invite = phone.receive()
        assert invite.ruri == f"sip:{user}@{phone.ip}:{phone.port}"
        assert invite.header("X-Script") == "yes"
        assert invite.header("Record-Route") == first.header("Record-Route")
        phone.reply(invite, 200)
        final = caller.final()
        assert (final.status, final.header("Contact")) == (200, f"<sip:callee@{phone.ip}:{phone.port}>")
    running.wait_log("injected", count=6)
