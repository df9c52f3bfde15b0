"""A worker that dies is replaced, and what it had under way for others goes on: no transaction is its own."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.faults.observing import MODULES
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
loadmodule "rr.so"
modparam("tm", "fr_timeout", 2)
route {
    if ($rU == "pid") { sl_send_reply(200, "$pp"); exit; }
    if (has_totag()) { loose_route(); t_relay(); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    xlog("@@relaying by $pp\\n");
    record_route();
    t_on_reply("replied");
    t_on_failure("failed");
    $avp(kept) = "kept";
    $du = "sip:127.0.0.1:CALLEE";
    t_relay();
}
onreply_route[replied] { xlog("@@reply $rs by $pp\\n"); }
failure_route[failed] { xlog("@@failed $T_reply_code $avp(kept)\\n"); }
"""
)


def _relayer(running: Server) -> int:
    return int(running.wait_log("@@relaying by")[0].rsplit(" ", 1)[1])


def test_a_call_outlives_the_worker_that_relayed_it(server: StartServer, client: MakeClient) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)), workers=2)
    caller = client(running.address)
    invite = caller.request("INVITE")
    assert caller.receive().status == 100
    got = callee.receive()
    callee.reply(got, 180, "Ringing")
    assert caller.receive().status == 180
    killed = _relayer(running)
    os.kill(killed, signal.SIGKILL)
    time.sleep(0.3)  # a stored reply goes out again once in T1/2
    caller.send_raw(invite)
    assert caller.receive().status == 180, "the last reply, to the retransmission"
    callee.reply(got, 200)
    answer = caller.final()
    assert answer.status == 200
    [line] = running.wait_log("@@reply 200")
    assert not line.endswith(f"by {killed}")
    route = answer.header("Record-Route")
    for method in ("ACK", "BYE"):
        caller.send(
            f"{method} sip:callee@127.0.0.1:{callee.port} SIP/2.0\nVia: SIP/2.0/UDP {{ip}}:{{port}};branch={{branch}}\n"
            f"Max-Forwards: 70\nRoute: {route}\nFrom: <sip:alice@{{ip}}>;tag={{tag}}\nTo: {answer.header('To')}\n"
            f"Call-ID: {answer.header('Call-ID')}\nCSeq: 2 {method}\n\n"
        )
        request = callee.receive()
        assert request.method == method
    callee.reply(request, 200)
    assert caller.final().status == 200


def test_timers_of_a_dead_worker_s_call_go_on(server: StartServer, client: MakeClient) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)), workers=2)
    caller = client(running.address)
    caller.request("INVITE")
    first = callee.receive()
    os.kill(_relayer(running), signal.SIGKILL)
    again = callee.receive()
    assert again.raw == first.raw and again.at - first.at > 0.4
    answer = caller.final()
    assert answer.status == 408
    running.wait_log("@@failed 408 kept")


def test_cancel_of_a_dead_worker_s_call(server: StartServer, client: MakeClient) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)), workers=2)
    caller = client(running.address)
    caller.request("INVITE")
    assert caller.receive().status == 100
    got = callee.receive()
    callee.reply(got, 180, "Ringing")
    assert caller.receive().status == 180
    os.kill(_relayer(running), signal.SIGKILL)
    caller.in_transaction("CANCEL")
    assert caller.receive().reason == "canceling"
    cancel = callee.receive()
    assert cancel.method == "CANCEL"
    callee.reply(cancel, 200)
    callee.reply(got, 487, "Request Terminated")
    assert caller.final().status == 487
    assert callee.receive().method == "ACK"


@pytest.mark.parametrize("kind", ["SIP receiver", "timer", "MI FIFO"])
def test_a_dead_process_is_replaced(server: StartServer, client: MakeClient, kind: str) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)), workers=2)
    [*_, pid] = before = running.pids(kind)
    os.kill(pid, signal.SIGKILL)
    [line] = running.wait_log("was killed by signal 9")
    assert f"pid {pid}" in line
    running.wait_log("is back")
    assert len(running.pids(kind)) == len(before) and pid not in running.pids(kind)
    caller = client(running.address)
    caller.request("INVITE")  # retransmission, final timeout and management need timer and MI process
    assert caller.final().status == 408
    assert running.mi("uptime")


def test_all_receivers_at_once(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT.replace("CALLEE", "9"), workers=3)
    for pid in running.pids("SIP receiver"):
        os.kill(pid, signal.SIGKILL)
    running.wait_log("is back", count=3)
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:pid@127.0.0.1:{running.port}")
    assert int(caller.final().reason) in running.pids("SIP receiver")


# --- sockets --------------------------------------------------------------------------------------------------------

SOCKETS = """
log_level=2
log_stderror=yes
udp_workers=1
socket=udp:127.0.0.1:{port}
socket=udp:127.0.0.1:SECOND use_workers 3
socket=udp:[::1]:{port} use_workers 2
loadmodule "proto_udp.so"
loadmodule "mi_fifo.so"
modparam("mi_fifo", "fifo_name", "{tmp}/fifo")
modparam("mi_fifo", "reply_dir", "{tmp}/")
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
loadmodule "sipmsgops.so"
route {
    if ($rU == "relay") { $du = "sip:[::1]:CALLEE"; t_relay(); exit; }
    if (is_method("INVITE")) async(usleep(50000), resume);
    sl_send_reply(200, "$si $sp $Ri $Rp $pp");
}
route[resume] { t_reply(200, "$si $sp $Ri $Rp $pp"); }
"""


def test_several_sockets_each_with_its_workers_and_ipv6(server: StartServer, client: MakeClient) -> None:
    second = free_port()
    callee = client(ip="::1")
    running = server(SOCKETS.replace("SECOND", str(second)).replace("CALLEE", str(callee.port)))
    pids = {
        place: running.pids(f"SIP receiver udp:{place}")
        for place in (f"127.0.0.1:{running.port}", f"127.0.0.1:{second}", f"[::1]:{running.port}")
    }
    assert [len(found) for found in pids.values()] == [1, 3, 2]
    for address, place, shown in (
        (("127.0.0.1", running.port), f"127.0.0.1:{running.port}", f"127.0.0.1 {running.port}"),
        (("127.0.0.1", second), f"127.0.0.1:{second}", f"127.0.0.1 {second}"),
        (("::1", running.port), f"[::1]:{running.port}", f"::1 {running.port}"),
    ):
        six = address[0] == "::1"
        caller = client(address, ip=address[0])
        for method in ("OPTIONS", "INVITE"):
            host = f"[{caller.ip}]" if six else caller.ip
            caller.request(method, f"sip:x@{'[::1]' if six else '127.0.0.1'}:{address[1]}", ip=host)
            answer = caller.final()
            assert answer.source == address
            *words, pid = answer.reason.split()
            source, port, own = words[0].strip("[]"), words[1], " ".join(words[2:]).replace("[", "").replace("]", "")
            assert (source, port, own) == (caller.ip, str(caller.port), shown)
            assert int(pid) in pids[place]
            if method == "INVITE":
                caller.in_transaction("ACK", to=answer.header("To"))


def test_from_ipv4_to_ipv6_and_back(server: StartServer, client: MakeClient) -> None:
    callee = client(ip="::1")
    running = server(SOCKETS.replace("SECOND", str(free_port())).replace("CALLEE", str(callee.port)))
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:relay@127.0.0.1:{running.port}")
    got = callee.receive()
    assert got.source == ("::1", running.port)
    assert got.all("Via")[0].startswith(f"SIP/2.0/UDP [::1]:{running.port};branch=z9hG4bK")
    callee.reply(got, 200)
    assert caller.final().status == 200


def test_a_socket_that_gets_icmp_errors_goes_on(server: StartServer, client: MakeClient) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = unused.getsockname()[1]
    running = server(SCRIPT.replace("CALLEE", str(nobody)), workers=1)
    callers = [client(running.address) for _ in range(5)]
    for caller in callers:
        caller.request("MESSAGE")
    time.sleep(0.2)
    caller = client(running.address)
    for _ in range(5):
        caller.request("OPTIONS", f"sip:pid@127.0.0.1:{running.port}")
        assert caller.final().status == 200
    for caller in callers:
        assert caller.final().status == 408
