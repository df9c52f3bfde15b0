"""The sockets of a server: how what they send is marked."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from opensips_py.script.context import ListenSocket
from opensips_py.script.parameters import Settings
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient
from workers.sockets import open_sockets

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]


@pytest.mark.parametrize(("line", "mark"), [("", 0x10), ("tos=IPTOS_RELIABILITY\n", 0x04), ("tos=184\n", 184)])
def test_tos_marks_what_is_sent_over_udp(server: StartServer, client: MakeClient, line: str, mark: int) -> None:
    running = server(line + 'loadmodule "sl.so"\nroute { sl_send_reply(200, "OK"); }', workers=1)
    caller = client(running.address)
    caller.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    caller.request("OPTIONS")
    caller.socket.settimeout(10)
    _, [(_, kind, value)], _, _ = caller.socket.recvmsg(65535, 64)
    assert (kind, value[0]) == (socket.IP_TOS, mark)


@pytest.mark.parametrize(
    ("host", "level", "option"),
    [("127.0.0.1", socket.IPPROTO_IP, socket.IP_TOS), ("::1", socket.IPPROTO_IPV6, socket.IPV6_TCLASS)],
)
def test_tos_marks_accepted_connections_and_ipv6(host: str, level: int, option: int) -> None:
    settings = Settings()
    settings.tos = 0x28
    port = free_port(socket.SOCK_STREAM)
    udp, listener = open_sockets([ListenSocket(0, "udp", host, port), ListenSocket(1, "tcp", host, port)], settings)
    with udp, listener, socket.create_connection((host, port)):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert udp.getsockopt(level, option) == accepted.getsockopt(level, option) == 0x28
