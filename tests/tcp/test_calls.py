"""Calls made by sipp over TCP and UDP, in every combination; the torture messages of RFC 4475 on a stream."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from scripts.testbed.sipp import CONNECTION_PER_CALL, ONE_CONNECTION, UDP, callee, caller
from tests.support.sip_stream import Closed, SipStream
from tests.tcp.test_sending import connections

Start = Callable[..., Server]
Stream = Callable[..., SipStream]

MESSAGES = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parents[1] / "sip" / "testdata").glob("*.dat"))}

ROUTE = """
route {
    if (!loose_route()) {
        record_route();
        $ru = "sip:callee@127.0.0.1:CALLEE";
    }
    if (!t_relay()) sl_reply_error();
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("calling", "called"),
    [
        (ONE_CONNECTION, UDP),
        (CONNECTION_PER_CALL, UDP),
        (UDP, ONE_CONNECTION),
        (ONE_CONNECTION, ONE_CONNECTION),
        (CONNECTION_PER_CALL, ONE_CONNECTION),
    ],
)
def test_calls_complete_without_a_retransmission(tcp_server: Start, calling: str, called: str) -> None:
    port = free_port(socket.SOCK_STREAM)
    script = ROUTE.replace("CALLEE", f"{port};transport={'udp' if called == UDP else 'tcp'}")
    # sipp sends ACK and BYE at once; two workers may pass them on the other way round, which sipp over TCP does not take
    running = tcp_server(script, workers=1 if calling == UDP else 2)
    answering = callee(port, transport=called)
    try:
        client = caller(
            running.address, "caller", port=free_port(), calls=200, rate=100, arguments=["-max_socket", "2000"], transport=calling
        )
        try:
            assert client.wait(60) == 0, client.screen
            figures = client.figures()
        finally:
            client.remove()
    finally:
        answering.remove()
    assert (figures.completed, figures.failed) == (200, 0)
    if calling != UDP and called != UDP:
        assert figures.retransmissions == 0


# --- RFC 4475 -----------------------------------------------------------------------------------------------------------

HALF = {"clerr"}
"""Content-Length is beyond the end: on a stream the rest is waited for."""
ENDS = {"mcl01": 400, "ncl": 400}
"""No certain end: answered so, and the connection closed."""


@pytest.fixture(scope="module")
def answers() -> str:
    return 'route { sl_send_reply(200, "OK"); }'


def test_every_torture_message_leaves_the_server_well(tcp_server: Start, stream: Stream, answers: str) -> None:
    running = tcp_server("tcp_max_msg_time=1\n" + answers)
    pids = running.pids("TCP receiver")
    outcomes = {}
    for name, data in MESSAGES.items():
        sip = stream(running.address)
        sip.send_raw(data)
        sip.send_raw(b"\r\n\r\n\r\n")  # one of them may lack in the message
        try:
            sip.pong()  # what was in front of the ping has been processed
            outcomes[name] = "open"
        except Closed:
            outcomes[name] = "closed"
    assert running.pids("TCP receiver") == pids
    closed = {name for name, outcome in outcomes.items() if outcome == "closed"}
    assert HALF | set(ENDS) <= closed
    assert connections(running)
    other = stream(running.address)
    other.request("OPTIONS")
    assert other.final().status == 200


@pytest.mark.parametrize("name", ENDS)
def test_a_torture_message_without_certain_end_is_answered_and_ends_the_stream(
    tcp_server: Start, stream: Stream, answers: str, name: str
) -> None:
    running = tcp_server(answers)
    sip = stream(running.address)
    sip.send_raw(MESSAGES[name])
    assert sip.receive().status == ENDS[name]
    sip.closed()


def test_two_requests_of_a_torture_datagram_are_two_messages_on_a_stream(tcp_server: Start, stream: Stream, answers: str) -> None:
    running = tcp_server(answers)
    sip = stream(running.address)
    sip.send_raw(MESSAGES["dblreq"])
    assert [sip.receive().method for _ in range(2)] == ["REGISTER", "INVITE"]
