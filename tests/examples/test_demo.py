"""The demonstration that ``make run`` starts answers as its text says."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opensips_py.server.process import this
from scripts.testbed.ports import free_port, wait_tcp
from scripts.testbed.server import Server
from tests.support.sip_client import Message, SipClient

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def demo(server: Callable[..., Server]) -> Iterator[Server]:
    port = free_port(socket.SOCK_STREAM)
    web = subprocess.Popen([sys.executable, str(EXAMPLES / "http_server.py"), str(port)])
    assert wait_tcp(port, 10)
    text = (EXAMPLES / "demo.cfg").read_text()
    text = text.replace("socket=udp:127.0.0.1:5060", "socket=udp:127.0.0.1:{port}").replace("127.0.0.1:8088", f"127.0.0.1:{port}")
    text = text.replace("/tmp/opensips_fifo", "{tmp}/fifo").replace(
        'loadmodule "sl.so"', 'modparam("mi_fifo", "reply_dir", "{tmp}/")\nloadmodule "sl.so"'
    )
    text = text.replace('launch(exec("sleep 1")', 'launch(exec("sleep 3")')
    yield server(text)
    web.kill()
    web.wait()


@pytest.fixture
def ask(demo: Server, client: Callable[..., SipClient]) -> Callable[[str], tuple[Message, float]]:
    def one(name: str) -> tuple[Message, float]:
        sip = client(demo.address)
        begun = this.clock.now()
        sip.request("OPTIONS", f"sip:{name}@{demo.address[0]}:{demo.port}")
        reply = sip.final()
        return reply, reply.at - begun

    return one


def test_each_kind_of_wait_is_answered_when_it_is_over(ask: Callable[[str], tuple[Message, float]]) -> None:
    reply, seconds = ask("sleep")
    assert reply.start == "SIP/2.0 200 Slept" and seconds >= 0.5
    reply, seconds = ask("exec")
    assert reply.start == "SIP/2.0 200 Program ended" and seconds >= 0.3
    assert reply.header("X-Output").count(":") == 2
    reply, seconds = ask("http")
    assert reply.start == "SIP/2.0 200 Web server answered" and seconds >= 0.2
    assert reply.header("X-Body") == "hello alice"
    reply, seconds = ask("credit")
    assert reply.start == "SIP/2.0 200 Credit known" and seconds >= 0.4
    assert (reply.header("X-Credit"), reply.header("X-Tariff")) == ("42", "gold")


def test_launch_does_not_delay_the_answer_and_reports_later(demo: Server, ask: Callable[[str], tuple[Message, float]]) -> None:
    reply, seconds = ask("launch")
    assert reply.start == "SIP/2.0 200 Program started" and seconds < 2.5
    demo.wait_log("program ended with rc 1")
    assert next(iter(demo.statistics("programs-ended").values())) == 1


def test_waiting_requests_do_not_hold_up_others(demo: Server, client: Callable[..., SipClient]) -> None:
    slow = client(demo.address)
    for _ in range(50):  # 50 half seconds on two workers would be 12 seconds in a row
        slow.request("OPTIONS", f"sip:sleep@127.0.0.1:{demo.port}")
    quick = client(demo.address)
    begun = this.clock.now()
    quick.request("OPTIONS", f"sip:ping@127.0.0.1:{demo.port}")
    assert quick.final().at - begun < 6, "12 seconds, if it waited behind them"
    for _ in range(50):
        assert slow.final().reason == "Slept"
    assert this.clock.now() - begun < 10
