"""The shared store runs full: what begins is refused with 503 and Retry-After, what is under way ends, and all is as before."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("tm", "fr_timeout", 2)
modparam("tm", "wt_timer", 1)
modparam("usrloc", "max_aor_size", 1000000)
route {
    if ($rm == "REGISTER") { save("location"); exit; }
    if ($rm == "OPTIONS") { sl_send_reply(200, "OK"); exit; }
    $du = "sip:127.0.0.1:%d";
    t_relay();
}
"""
CALLS = 400


class Replies(dict[str, list[str]]):
    """What has come, by Call-ID."""

    def read(self, sip: SipClient) -> None:
        """Wait for one more, not for long."""
        try:
            raw = sip.socket.recv(65536).decode("latin-1")
        except TimeoutError:
            return
        call = re.search(r"Call-ID: (\S+)", raw)
        assert call is not None
        self.setdefault(call[1], []).append(raw)

    @property
    def final(self) -> dict[str, str]:
        """The final ones."""
        return {call: replies[-1] for call, replies in self.items() if replies[-1][8] != "1"}


def _figures(running: Server) -> dict[str, int]:
    told = running.mi("get_statistics", {"statistics": ["shmem:", "refused_requests"]})
    return {name.partition(":")[2]: int(value) for name, value in told.items()}


def test_a_store_that_runs_full_refuses_what_begins_and_recovers(server: StartServer, client: MakeClient) -> None:
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    running = server(SCRIPT % silent.getsockname()[1], options=["-m", "16"])
    sip = client(running.address)
    sip.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    sip.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sip.socket.settimeout(0.5)
    before = _figures(running)
    found = Replies()
    for n in range(CALLS):
        body = "x" * 58_000
        sip.socket.sendto(
            (
                f"INVITE sip:u{n}@d SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{sip.port};branch=z9hG4bKfull{n}\r\n"
                f"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: full-{n}\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode(),
            running.address,
        )
        while f"full-{n}" not in found:
            found.read(sip)
    end = this.clock.now() + 60
    while len(found.final) < CALLS and this.clock.now() < end:
        found.read(sip)
    assert len(found.final) == CALLS, "every call has an answer"
    assert {reply.split()[1] for reply in found.final.values()} == {"408", "503"}
    refused = [reply for reply in found.final.values() if reply.startswith("SIP/2.0 503")]
    assert all("Retry-After: " in reply for reply in refused)
    assert _figures(running)["refused_requests"] >= len(refused) // 2

    def is_as_before() -> bool:
        now = _figures(running)
        return now["used_size"] <= before["used_size"] + 100_000 and now["fragments"] <= before["fragments"] + 2

    end = this.clock.now() + 60
    while not is_as_before():
        assert this.clock.now() < end, _figures(running)
        time.sleep(0.2)
    assert len(running.log) < 100_000
    another = client(running.address)
    another.request("INVITE")
    assert another.receive().status == 100
    silent.close()


def test_contacts_are_refused_before_calls_are(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT % 9, options=["-m", "16"])
    sip = client(running.address)
    sip.socket.settimeout(5)
    statuses = []
    for n in range(300):
        sip.socket.sendto(
            (
                f"REGISTER sip:d SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{sip.port};branch=z9hG4bKreg{n}\r\n"
                f"From: <sip:u{n}@d>;tag=1\r\nTo: <sip:u{n}@d>\r\nCall-ID: {n}-{'z' * 15_000}\r\nCSeq: 1 REGISTER\r\n"
                f"Contact: {','.join(f'<sip:u@127.0.0.{i}>' for i in range(1, 5))}\r\nContent-Length: 0\r\n\r\n"
            ).encode(),
            running.address,
        )
        statuses.append(sip.socket.recv(65536).decode("latin-1"))
    assert statuses[0].startswith("SIP/2.0 200")
    last = statuses[-1]
    assert last.startswith("SIP/2.0 503") and "Retry-After: " in last
    sip.request("OPTIONS")
    assert sip.final().status == 200, "requests that store nothing are served as before"
    figures = _figures(running)
    assert figures["refused_requests"] == 0 and figures["used_size"] < 0.8 * figures["total_size"]
