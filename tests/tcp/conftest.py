"""Fixtures: servers with UDP and TCP sockets, and partners over TCP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.conftest import StartServer
from tests.support.sip_stream import SipStream, StreamListener

PREAMBLE = """\
log_level=3
log_stderror=yes
udp_workers={workers}
tcp_workers={workers}
socket=udp:127.0.0.1:{port}
socket=tcp:127.0.0.1:{port}
maxbuffer=4194304
loadmodule "proto_udp.so"
loadmodule "proto_tcp.so"
loadmodule "mi_fifo.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "sipmsgops.so"
modparam("mi_fifo", "fifo_name", "{tmp}/fifo")
modparam("mi_fifo", "reply_dir", "{tmp}/")
"""


def both_free() -> int:
    """A port that is free for UDP and for TCP."""
    while True:
        port = free_port(socket.SOCK_STREAM)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@pytest.fixture
def tcp_server(server: StartServer) -> Callable[..., Server]:
    """``tcp_server(script, workers=2)``: a server that listens on one port over UDP and TCP."""

    def start(script: str, workers: int = 2, **arguments: Any) -> Server:
        return server(PREAMBLE + script, workers, port=both_free(), **arguments)

    return start


@pytest.fixture
def stream() -> Iterator[Callable[..., SipStream]]:
    """Make connections: ``stream(server.address)``; closed at the end."""
    made: list[SipStream] = []

    def make(*arguments: Any, **named: Any) -> SipStream:
        made.append(SipStream(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def listener() -> Iterator[Callable[..., StreamListener]]:
    """Make TCP callees: ``listener()``; closed at the end."""
    made: list[StreamListener] = []

    def make(*arguments: Any, **named: Any) -> StreamListener:
        made.append(StreamListener(*arguments, **named))
        return made[-1]

    yield make
    for one in made:
        one.close()
