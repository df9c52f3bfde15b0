"""Names that lead to TCP (RFC 3263): the transport of NAPTR and SRV, and the next server when a connection is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable

from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.conftest import StartDns
from tests.support.sip_client import SipClient
from tests.support.sip_stream import StreamListener

Start = Callable[..., Server]
Listener = Callable[..., StreamListener]
Client = Callable[..., SipClient]


SCRIPT = 'dns_servers="{dns}"\ndns_use_search_list=no\nroute { t_relay(); }\n'


def zone_of(tcp: list[int], udp: int) -> str:
    lines = [
        'example.test. 60 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.example.test.',
        'example.test. 60 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.test.',
        f"_sip._udp.example.test. 60 IN SRV 10 0 {udp} gw.example.test.",
        "gw.example.test. 60 IN A 127.0.0.1",
    ]
    lines += [f"_sip._tcp.example.test. 60 IN SRV {10 + n} 0 {port} gw.example.test." for n, port in enumerate(tcp)]
    return "\n".join(lines)


def test_a_name_that_prefers_tcp_is_reached_over_tcp(
    tcp_server: Start, dns: StartDns, listener: Listener, client: Client
) -> None:
    callee = listener()
    running = tcp_server(SCRIPT.replace("{dns}", dns(zone_of([callee.port], 9)).address))
    caller = client(running.address)
    caller.request("INVITE", "sip:bob@example.test")
    leg = callee.accept()
    received = leg.receive()
    assert received.header("Via").startswith("SIP/2.0/TCP ")
    leg.reply(received, 200)
    assert caller.final().status == 200


def test_a_refused_connection_leads_to_the_next_server_and_the_next_transport(
    tcp_server: Start, dns: StartDns, listener: Listener, client: Client
) -> None:
    dead = free_port(socket.SOCK_STREAM, 2)
    callee, last = listener(), client()
    zone = dns(zone_of([dead, dead + 1, callee.port], last.port))
    running = tcp_server(SCRIPT.replace("{dns}", zone.address))
    caller = client(running.address)
    caller.request("INVITE", "sip:bob@example.test")
    leg = callee.accept()
    leg.reply(leg.receive(), 200)
    assert caller.final().status == 200
    leg.close()
    callee.close()
    caller.request("MESSAGE", "sip:bob@example.test")
    received = last.receive()
    assert received.header("Via").startswith("SIP/2.0/UDP ")
    last.reply(received, 200)
    assert caller.final().status == 200


def test_503_over_udp_leads_to_a_server_over_tcp_with_a_length(
    tcp_server: Start, dns: StartDns, listener: Listener, client: Client
) -> None:
    first, callee = client(), listener()
    zone = dns(zone_of([callee.port], first.port).replace("NAPTR 10 10", "NAPTR 30 10"))
    running = tcp_server(SCRIPT.replace("{dns}", zone.address))
    caller = client(running.address)
    data = caller.render(
        "MESSAGE sip:bob@example.test SIP/2.0\nVia: SIP/2.0/UDP {ip}:{port};branch={branch}\nFrom: <sip:a@b>;tag=1\n"
        "To: <sip:a@b>\nCall-ID: {call_id}\nCSeq: 1 MESSAGE\n\nhello"
    )
    caller.send_raw(data.replace(b"Content-Length: 5\r\n", b""))
    received = first.receive()
    assert "Content-Length" not in received.raw
    first.reply(received, 503, "Full")
    leg = callee.accept()
    again = leg.receive()
    assert (again.header("Content-Length"), again.body) == ("5", "hello")
    assert again.header("Via").startswith(f"SIP/2.0/TCP 127.0.0.1:{running.port};branch=")
    leg.reply(again, 200)
    assert caller.final().status == 200
