"""Messages that come over TCP, whole, in pieces and broken; keep-alives; limits."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient
from tests.support.sip_stream import Closed, SipStream
from tests.tcp.conftest import PREAMBLE, both_free

ANSWER = 'route { sl_send_reply(200, "OK"); }'
Start = Callable[..., Server]
Stream = Callable[..., SipStream]


def request(sip: SipClient, headers: str = "", method: str = "OPTIONS") -> bytes:
    return sip.render(
        f"{method} sip:a@b SIP/2.0\nVia: SIP/2.0/UDP {{ip}}:{{port}};branch={{branch}}\nFrom: <sip:a@b>;tag=1\n"
        f"To: <sip:a@b>\nCall-ID: {{call_id}}\nCSeq: 1 {method}\n{headers}\n"
    )


def test_a_request_is_answered_over_its_connection(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('route { xlog("$proto $socket_in(proto) $si:$sp\\n"); sl_send_reply(200, "OK"); }')
    sip = stream(running.address)
    sip.request("OPTIONS")
    reply = sip.final()
    assert reply.status == 200
    assert reply.header("Via").startswith("SIP/2.0/TCP ")
    assert running.lines(f"tcp tcp 127.0.0.1:{sip.port}")


def test_processes_are_named_as_in_opensips(tcp_server: Start) -> None:
    running = tcp_server(ANSWER)
    kinds = [process["Type"] for process in running.mi("ps")["Processes"]]
    udp = f"SIP receiver udp:127.0.0.1:{running.port}"
    assert kinds == ["attendant", "MI FIFO", "timer", udp, udp, "TCP receiver", "TCP receiver"]


def test_messages_are_found_however_the_stream_is_cut(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('modparam("proto_tcp", "tcp_max_msg_chunks", 1000)\n' + ANSWER)
    sip = stream(running.address)
    data = b"".join(request(sip) for _ in range(5))
    for at in range(0, len(data), 37):
        sip.send_raw(data[at : at + 37])
        time.sleep(0.001)
    assert [sip.receive().status for _ in range(5)] == [200] * 5


def test_many_requests_in_one_piece_are_all_answered(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    sip.send_raw(b"".join(request(sip) for _ in range(100)))
    assert [sip.receive().status for _ in range(100)] == [200] * 100


def test_without_content_length_the_answer_is_400_and_the_connection_ends(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    sip.send_raw(request(sip).replace(b"Content-Length: 0", b"X: 0"))
    reply = sip.receive()
    assert (reply.status, reply.reason) == (400, "Bad Request (no Content-Length)")
    sip.closed()


def test_a_message_that_is_too_long_is_refused_before_it_has_come(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    sip.send_raw(request(sip).replace(b"Content-Length: 0", b"Content-Length: 70000"))
    reply = sip.receive()
    assert (reply.status, reply.reason) == (513, "Message Too Large")
    sip.closed()


def test_a_bad_message_of_known_length_is_answered_and_the_connection_stays(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    sip.send_raw(request(sip, headers='Contact: "x <sip:a@b>\n'))
    assert sip.receive().status == 400
    sip.request("OPTIONS")
    assert sip.receive().status == 200


def test_garbage_ends_its_connection_and_nothing_else(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    pids = running.pids("TCP receiver")
    other = stream(running.address)
    for garbage in (b"\0" * (1 << 20), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"x: y\r\n" * 200_000, bytes(range(256)) * 4096):
        sip = stream(running.address)
        try:
            sip.send_raw(garbage)
        except (BrokenPipeError, ConnectionResetError):
            continue
        sip.closed()
    other.request("OPTIONS")
    assert other.receive().status == 200
    assert running.pids("TCP receiver") == pids


def test_a_double_line_end_is_answered_with_one(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    sip.send_raw(b"\r\n\r\n")
    sip.pong()
    sip.send_raw(b"\r\n")
    sip.nothing()
    assert sip.pongs == 1


def test_pings_need_not_be_answered(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server('modparam("proto_tcp", "tcp_crlf_pingpong", 0)\n' + ANSWER)
    sip = stream(running.address)
    sip.send_raw(b"\r\n\r\n")
    sip.request("OPTIONS")
    assert sip.receive().status == 200
    assert sip.pongs == 0


def test_a_message_in_too_many_pieces_ends_the_connection(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER)
    sip = stream(running.address)
    data = request(sip)
    with pytest.raises((Closed, BrokenPipeError, ConnectionResetError)):
        for byte in data:
            sip.send_raw(bytes([byte]))
            time.sleep(0.005)
        sip.receive()
    running.wait_log("in more than 4 pieces")


def test_half_a_message_has_a_limit_in_time(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server("tcp_max_msg_time=1\n" + ANSWER)
    sip = stream(running.address)
    sip.send_raw(request(sip)[:40])
    began = this.clock.now()
    sip.closed()
    assert this.clock.now() - began > 0.9
    running.wait_log("not whole after 1 s")


def test_an_idle_connection_is_closed_after_its_lifetime(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server("tcp_connection_lifetime=2\n" + ANSWER)
    sip = stream(running.address)
    for _ in range(3):
        time.sleep(0.8)
        sip.send_raw(b"\r\n\r\n")
        sip.pong()
    sip.closed()


def test_there_is_a_limit_to_connections(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server("tcp_max_connections=5\ntcp_max_connections_per_source=0\n" + ANSWER)
    kept = []
    for _ in range(5):
        kept.append(stream(running.address))
        kept[-1].request("OPTIONS")
        assert kept[-1].receive().status == 200
    stream(running.address).closed()
    running.wait_log("maximum number of connections exceeded: 5")
    kept.pop().close()
    deadline = this.clock.now() + 5
    while True:
        sip = stream(running.address)
        try:
            sip.request("OPTIONS")
            assert sip.receive().status == 200
            break
        except (Closed, BrokenPipeError, ConnectionResetError):
            assert this.clock.now() < deadline


def test_one_address_cannot_have_all_connections(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server("tcp_max_connections=8\n" + ANSWER)
    kept = []
    for _ in range(4):
        kept.append(stream(running.address))
        kept[-1].request("OPTIONS")
        assert kept[-1].receive().status == 200
    stream(running.address).closed()
    running.wait_log("127.0.0.1 has 4 connections already")
    other = stream(running.address, ip="127.0.0.2")
    other.request("OPTIONS")
    assert other.receive().status == 200
    assert int(running.mi("get_statistics", {"statistics": ["refused_tcp"]})["net:refused_tcp"]) >= 1
    kept.pop().close()

    def served() -> bool:
        sip = stream(running.address)
        try:
            sip.request("OPTIONS")
            return sip.receive().status == 200
        except (Closed, BrokenPipeError, ConnectionResetError):
            return False

    deadline = this.clock.now() + 5
    while not served():
        assert this.clock.now() < deadline


def test_connections_are_spread_over_the_receivers(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(ANSWER, workers=3)
    for _ in range(30):
        sip = stream(running.address)
        sip.request("OPTIONS")
        sip.receive()
    owners = [one["Process"] for one in running.mi("list_tcp_conns")["Connections"]]
    assert sorted(owners.count(slot) for slot in set(owners)) == [10, 10, 10]


def test_ipv6(server: Start, stream: Stream) -> None:
    port = both_free()
    running = server(PREAMBLE.replace("socket=tcp:127.0.0.1:", "socket=tcp:[::1]:") + ANSWER, port=port)
    sip = stream(("::1", port), ip="::1")
    sip.send_raw(request(sip).replace(b"TCP ::1:", b"TCP [::1]:"))
    assert sip.receive().status == 200
    assert running.mi("list_tcp_conns")["Connections"][0]["Remote"] == f"[::1]:{sip.port}"


def test_a_port_is_said_to_be_in_use(server: Start, tcp_server: Start) -> None:
    running = tcp_server(ANSWER)
    script = PREAMBLE.replace("socket=udp:127.0.0.1:{port}\n", "") + ANSWER
    second = server(script, port=running.port, wait=False)
    assert second.process.wait(20) == 255
    assert f"tcp:127.0.0.1:{running.port}: address already in use" in second.log


def test_messages_in_one_piece_do_not_wait_for_the_script_of_the_first(tcp_server: Start, stream: Stream) -> None:
    running = tcp_server(
        'loadmodule "cfgutils.so"\nroute {\nif (is_method("MESSAGE")) await(usleep(2000000));\nt_reply(200, "$rm");\n}\n',
        workers=1,
    )
    sip = stream(running.address)
    slow, quick = (request(sip, method=method) for method in ("MESSAGE", "OPTIONS"))
    sip.send_raw(slow + quick + quick.replace(b"OPTIONS", b"INFO")[:-40])
    assert sip.receive().reason == "OPTIONS"
    sip.send_raw(quick.replace(b"OPTIONS", b"INFO")[-40:])
    assert [sip.receive().reason, sip.receive().reason] == ["INFO", "MESSAGE"]
