"""Malformed datagrams sent to a running server: 400 or silence, one log line, and it lives."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.faults.observing import MODULES
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

TORTURE = sorted((Path(__file__).parent.parent / "sip" / "testdata").glob("*.dat"))

SCRIPT = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
route {
    mf_process_maxfwd_header(10);
    if (has_totag()) loose_route();
    record_route();
    append_hf("X-New: $fu $tu $ct $ua $cs $rb\\r\\n");
    $avp(all) = $ru + $rU + $rd + $fU + $tU + $ci;
    if ($rm == "OPTIONS") async(usleep(1000), resume);
    if (t_newtran()) t_reply(200, "OK");
    else sl_send_reply(200, "OK");
}
route[resume] {
    t_reply(200, "Resumed");
}
onreply_route {
    xlog("L_DBG", "$rs $rr $ct\\n");
}
"""
)

BAD = {
    "not SIP at all": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None),
    "half a first line": (b"INVITE sip:x@y", None),
    "no Via": (b"OPTIONS sip:x@y SIP/2.0\r\nTo: <sip:x@y>\r\n\r\n", None),
    "zeros": (b"\0" * 600, None),
    "no end": (b"OPTIONS sip:x@y SIP/2.0\r\n" + b"Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n" * 1500, None),
    "a reply without Via": (b"SIP/2.0 200 OK\r\nTo: <sip:x@y>\r\n\r\n", None),
    "a reply that says nonsense": (b"SIP/2.0 abc OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\r\n", None),
}


def _alive(running: Server, client: MakeClient, pids: list[int]) -> None:
    caller = client(running.address)
    for _ in range(6):  # whichever worker gets it
        caller.request("OPTIONS", f"sip:ok@127.0.0.1:{running.port}")
        assert caller.final().status == 200
    assert running.pids() == pids
    assert not running.lines("CRITICAL"), running.lines("CRITICAL")


@pytest.fixture
def running(server: StartServer) -> Server:
    return server(SCRIPT)


def test_torture_messages(running: Server, client: MakeClient) -> None:
    pids = running.pids()
    sender = client(running.address)
    for path in TORTURE:
        lines = len(running.lines("bad message"))
        sender.send_raw(path.read_bytes())
        time.sleep(0.01)
        assert len(running.lines("bad message")) <= lines + 1, path.name
    assert len(TORTURE) == 49
    _alive(running, client, pids)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_answered_costs_one_log_line(running: Server, client: MakeClient, name: str) -> None:
    pids = running.pids()
    sender = client(running.address)
    data, _ = BAD[name]
    sender.send_raw(data)
    sender.nothing(0.2)
    assert len(running.lines("bad message from 127.0.0.1")) == 1, running.log
    _alive(running, client, pids)


def test_what_can_be_answered_gets_400(running: Server, client: MakeClient) -> None:
    pids = running.pids()
    caller = client(running.address)
    caller.send(
        "OPTIONS sip:x@y SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nFrom: <sip:a@b>;tag=1\nTo: <sip:x@y>\n"
        "Call-ID: {call_id}\nCSeq: 1 OPTIONS\nthis line is not a header\n\n"
    )
    answer = caller.final()
    assert answer.status == 400
    assert answer.header("CSeq") == "1 OPTIONS"
    assert len(running.lines("bad message")) == 1
    _alive(running, client, pids)


def test_damaged_and_random_datagrams(running: Server, client: MakeClient) -> None:
    pids = running.pids()
    chance = random.Random(4475)
    sender = client(running.address)
    originals = [path.read_bytes() for path in TORTURE]
    for _ in range(1500):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 40)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randint(1, 20))
                case _:
                    data[at:at] = data[at : at + chance.randint(1, 60)]
            data = data or bytearray(b"\n")
        try:
            sender.socket.sendto(bytes(data[:60000]), running.address)
        except BlockingIOError:
            time.sleep(0.01)
    for _ in range(200):
        sender.send_raw(chance.randbytes(chance.randint(0, 2000)))
    end = this.clock.now() + 20
    while running.statistics("net:waiting_udp")["net:waiting_udp"]:
        assert this.clock.now() < end
        time.sleep(0.05)
    _alive(running, client, pids)


def test_oversized_and_empty_datagrams(running: Server, client: MakeClient) -> None:
    pids = running.pids()
    caller = client(running.address)
    caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    for data in (b"", b"\r\n\r\n", b"\0\0\0\0", b"\r\n"):
        caller.send_raw(data)
    caller.nothing(0.2)
    assert not running.lines("bad message"), "these are keep-alives of phones behind NAT"
    caller.request("MESSAGE", headers="X-Long: " + "x" * 16000)
    assert caller.final().status == 200
    caller.request("MESSAGE", headers="X-Long: " + "x" * 60000)
    assert caller.final().status == 400
    caller.request("MESSAGE", headers="\n".join(f"X-{n}: {n}" for n in range(500)))
    assert caller.final().status == 200
    caller.request("MESSAGE", headers="\n".join(f"X-{n}: {n}" for n in range(4000)))
    assert caller.final().status == 400
    _alive(running, client, pids)
