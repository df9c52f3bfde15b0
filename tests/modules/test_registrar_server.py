"""Registrations of a running server: seen by every worker and by management, and gone when they expire."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.testbed.server import MIError, Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "signaling.so"
loadmodule "sipmsgops.so"
loadmodule "usrloc.so"
modparam("usrloc", "timer_interval", 1)
loadmodule "registrar.so"
modparam("registrar", "min_expires", 1)
route {
    if (is_method("REGISTER")) {
        save("location");
        exit;
    }
    if (is_method("ACK"))
        exit;
    if (!lookup("location", "m")) {
        send_reply(404, "Not Found");
        exit;
    }
    t_relay();
}
"""


def _register(client: SipClient, user: str, contact: str, expires: int = 60) -> None:
    client.send(
        "REGISTER sip:{server} SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nFrom: <sip:{user}@x>;tag={tag}\n"
        "To: <sip:{user}@x>\nCall-ID: {call_id}\nCSeq: 1 REGISTER\nContact: {contact}\nExpires: {expires}\n\n",
        user=user,
        contact=contact,
        expires=str(expires),
    )
    reply = client.final()
    assert reply.status == 200, reply.raw


def test_every_worker_knows_every_user(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=2)
    caller, callee = client(running.address), client(running.address)
    users = [f"user{n}" for n in range(40)]
    for user in users:
        _register(callee, user, f"<sip:{user}@127.0.0.1:{callee.port}>")
    for user in users:
        caller.request("MESSAGE", f"sip:{user}@127.0.0.1:{running.port}")
        request = callee.receive()
        assert request.ruri == f"sip:{user}@127.0.0.1:{callee.port}"
        callee.reply(request, 200)
        assert caller.final().status == 200
    assert running.statistics("registered_users") == {"usrloc:registered_users": 40}
    assert running.statistics("registrar:accepted_regs") == {"registrar:accepted_regs": 40}


def test_contacts_registered_at_the_same_time_are_all_kept(
    server: Callable[..., Server], client: Callable[..., SipClient]
) -> None:
    running = server(SCRIPT, workers=2)
    phones = [client(running.address) for _ in range(8)]
    with ThreadPoolExecutor(len(phones)) as pool:
        list(pool.map(lambda phone: _register(phone, "alice", f"<sip:alice@127.0.0.1:{phone.port}>"), phones))
    contacts = running.mi("ul_show_contact", {"table_name": "location", "aor": "alice"})["Contacts"]
    assert {one["Contact"] for one in contacts} == {f"sip:alice@127.0.0.1:{phone.port}" for phone in phones}


def test_management_and_time_end_registrations(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=1)
    phone = client(running.address)
    _register(phone, "alice", "<sip:alice@127.0.0.1:9>")
    _register(phone, "bob", "<sip:bob@127.0.0.1:9>", expires=1)
    assert [one["AOR"] for one in running.mi("ul_dump", {"brief": "1"})["Domains"][0]["AORs"]] == ["alice", "bob"]
    assert running.mi("ul_rm", {"table_name": "location", "aor": "alice"}) == "OK"
    with pytest.raises(MIError, match="404 AOR not found"):
        running.mi("ul_show_contact", {"table_name": "location", "aor": "alice"})
    running.mi("ul_add", ["location", "carol", "sip:carol@127.0.0.1:9", "0", "1", "0", "0", "0"])
    phone.request("OPTIONS", f"sip:alice@127.0.0.1:{running.port}")
    assert phone.final().status == 404
    # bob's second is over, and the timer has removed him: carol alone is left in the store
    for _ in range(60):
        phone.nothing(0.05)
        if running.statistics("registered_users") == {"usrloc:registered_users": 1}:
            break
    assert running.statistics("registered_users") == {"usrloc:registered_users": 1}
