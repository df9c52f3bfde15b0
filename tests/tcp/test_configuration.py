"""What scripts may say about TCP, and what is said about mistakes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.script.diagnostics import ScriptErrors
from opensips_py.script.program import load
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from tests.conftest import StartServer
from tests.support.sip_stream import SipStream
from tests.tcp.conftest import PREAMBLE

Stream = Callable[..., SipStream]

END = "\nroute { exit; }\n"


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "test.cfg"
        path.write_text(text + END)
        return str(path)

    return write


Script = Callable[[str], str]


def test_a_socket_without_port_gets_that_of_the_module(script: Script) -> None:
    program = load(script('socket=tcp:127.0.0.1\nloadmodule "proto_tcp.so"\nmodparam("proto_tcp", "tcp_port", 5070)'))
    assert [(s.proto, s.host, s.port) for s in program.sockets] == [("tcp", "127.0.0.1", 5070)]


def test_a_socket_needs_its_module(script: Script) -> None:
    with pytest.raises(ScriptErrors) as caught:
        load(script('socket=udp:127.0.0.1:5060\nsocket=tcp:127.0.0.1:5060\nloadmodule "proto_udp.so"'))
    [error] = caught.value.errors
    assert (error.line, error.message) == (2, "listeners found for protocol tcp, but no module can handle it")
    assert error.hint == 'add loadmodule "proto_tcp.so"'


def test_without_sockets_each_transport_listens_everywhere(script: Script) -> None:
    program = load(script('loadmodule "proto_udp.so"\nloadmodule "proto_tcp.so"'))
    hosts = {(s.proto, s.host) for s in program.sockets}
    assert {("udp", "127.0.0.1"), ("tcp", "127.0.0.1")} <= hosts


def test_what_has_no_effect_is_said(script: Script) -> None:
    text = "socket=tcp:127.0.0.1:5060 use_workers 4\n" + 'loadmodule "proto_tcp.so"\nmodparam("proto_tcp", "tcp_crlf_drop", 1)'
    told = [str(warning) for warning in load(script(text)).warnings]
    assert any("use_workers has no effect" in line for line in told)
    assert any("tcp_crlf_drop" in line and "RFC 3261 7.5" in line for line in told)


def test_other_transports_are_refused(script: Script) -> None:
    with pytest.raises(ScriptErrors) as caught:
        load(script('socket=tls:127.0.0.1:5061\nloadmodule "proto_tcp.so"'))
    assert "not supported yet: sockets of protocol tls" in str(caught.value.errors[0])


def test_the_older_name_of_the_backlog_is_taken(script: Script) -> None:
    program = load(script('tcp_listen_backlog=7\nsocket=tcp:127.0.0.1:5060\nloadmodule "proto_tcp.so"'))
    assert program.settings.tcp_socket_backlog == 7


def test_the_command_line_says_how_many_receivers(server: StartServer, stream: Stream) -> None:
    port = free_port(socket.SOCK_STREAM)
    only_tcp = PREAMBLE.replace("socket=udp:127.0.0.1:{port}\n", "").replace('loadmodule "proto_udp.so"\n', "")
    running: Server = server(
        only_tcp + 'startup_route { xlog("begun\\n"); }\nroute { sl_send_reply(200, "OK"); }', port=port, options=["-N", "3"]
    )
    assert [process["Type"] for process in running.mi("ps")["Processes"]].count("TCP receiver") == 3
    assert running.lines("begun")
    sip = stream(("127.0.0.1", port))
    sip.request("OPTIONS")
    assert sip.final().status == 200


def test_keep_alive_options_reach_the_kernel(server: StartServer, stream: Stream) -> None:
    port = free_port(socket.SOCK_STREAM)
    text = "tcp_keepidle=37\ntcp_keepinterval=11\ntcp_keepcount=3\n"
    running: Server = server(PREAMBLE + text + 'route { sl_send_reply(200, "OK"); }', port=port)
    sip = stream(running.address)
    sip.request("OPTIONS")
    assert sip.final().status == 200
    # timer 2 is the keep-alive's; it fires in (about) tcp_keepidle seconds
    local = f":{port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [row.split() for row in table if row.split()[1].endswith(local) and row.split()[3] == "01"]
    timer, _, left = rows[0][5].partition(":")
    assert timer == "02"
    assert 30 < int(left, 16) / 100 <= 37
