"""User agents that register over TCP: their connection stays, and calls to them take it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient
from tests.support.sip_stream import SipStream
from tests.tcp.test_sending import connections, wait_connections

Start = Callable[..., Server]
Stream = Callable[..., SipStream]
Client = Callable[..., SipClient]

REGISTRAR = """
tcp_connection_lifetime=1
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "nathelper.so"
modparam("registrar|nathelper", "received_avp", "$avp(received)")
modparam("registrar", "tcp_persistent_flag", "TCP_PERSISTENT")
modparam("nathelper", "sipping_bflag", "SIP_PING")
modparam("nathelper", "sipping_from", "sip:pinger@127.0.0.1")
modparam("nathelper", "natping_interval", INTERVAL)
modparam("nathelper", "natping_tcp", TCP)
route {
    if (is_method("REGISTER")) {
        if ($socket_in(proto) != "udp") setflag("TCP_PERSISTENT");
        setbflag("SIP_PING");
        fix_nated_register();
        save("location");
        exit;
    }
    if (!lookup("location")) { sl_send_reply(404, "Not Found"); exit; }
    t_relay();
}
"""


def script(interval: int = 0, tcp: int = 0) -> str:
    return REGISTRAR.replace("INTERVAL", str(interval)).replace("TCP)", f"{tcp})")


def register(sip: SipStream, expires: int = 60, parameter: str = ";transport=tcp") -> None:
    sip.send(
        "REGISTER sip:{server} SIP/2.0\nVia: SIP/2.0/TCP 10.1.1.1:5060;branch={branch}\nFrom: <sip:bob@b>;tag=1\n"
        "To: <sip:bob@b>\nCall-ID: {call_id}\nCSeq: 1 REGISTER\n"
        f"Contact: <sip:bob@10.1.1.1:5060{parameter}>;expires={expires}\n\n"
    )
    assert sip.final().status == 200


def call(caller: SipClient, phone: SipStream, parameter: str = ";transport=tcp") -> None:
    caller.request("MESSAGE", "sip:bob@{server}")
    received = phone.receive()
    assert received.ruri == f"sip:bob@10.1.1.1:5060{parameter}"
    phone.reply(received, 200)
    assert caller.final().status == 200


def test_a_registration_keeps_its_connection_also_in_another_process(tcp_server: Start, stream: Stream, client: Client) -> None:
    running = tcp_server(script())
    phone, other, caller = stream(running.address), stream(running.address), client(running.address)
    register(phone)
    other.closed()  # after its lifetime
    call(caller, phone)
    pids = {process["ID"]: process["PID"] for process in running.mi("ps")["Processes"]}
    os.kill(pids[connections(running)[0]["Process"]], signal.SIGKILL)
    running.wait_log("connections go on in another process")
    time.sleep(1.6)
    call(caller, phone)


@pytest.mark.parametrize("parameter", ["", ";transport=udp", ";transport=TCP"])
def test_a_phone_is_reached_over_what_it_registered_with(
    tcp_server: Start, stream: Stream, client: Client, parameter: str
) -> None:  # fmt: skip
    running = tcp_server(script())
    phone, caller = stream(running.address), client(running.address)
    register(phone, parameter=parameter)
    for _ in range(3):
        call(caller, phone, parameter)


def test_a_connection_ends_after_the_registration(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(script().replace("route {", 'modparam("registrar", "min_expires", 1)\nroute {', 1))
    phone = stream(running.address)
    register(phone, expires=2)
    began = this.clock.now()
    phone.closed()
    assert this.clock.now() - began > 1.8


def test_registered_phones_are_pinged_over_their_connection(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(script(interval=1, tcp=1))
    phone = stream(running.address)
    register(phone)
    assert phone.receive().method == "OPTIONS"
    phone.close()
    wait_connections(running, 0)


def test_without_natping_tcp_they_are_not(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(script(interval=1))
    phone = stream(running.address)
    register(phone)
    phone.nothing(2.2)
