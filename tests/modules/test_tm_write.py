"""t_write_req() and t_write_unix(): a program outside is told of a request, and answers it."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from opensips_py.modules.tm import declared, write_request
from opensips_py.script.declarations import ConfigError
from opensips_py.script.variables import Registry
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = r"""
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
modparam("tm", "fr_timeout", 2)
modparam("tm", "tw_append", "More: ua=$hdr(User-Agent) ;avp=$avp(x);none=$avp(none);$rb")
route {
    if (is_method("ACK"))
        exit;
    t_newtran();
    $avp(x) = "one";
    setflag("F");
    if (is_method("INVITE"))
        t_write_req("voicemail", "{tmp}/program");
    else
        t_write_unix("log/more", "{tmp}/socket");
    $var(rc) = $rc;
    xlog("written $var(rc)\n");
    if ($var(rc) < 0)
        t_reply(500, "Nobody there");
}
"""

Start = Callable[..., Server]
Client = Callable[..., SipClient]


def _lines(data: bytes) -> list[str]:
    return data.decode("latin-1").split("\n")


def test_a_program_on_a_fifo_answers_a_call(server: Start, client: Client) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    os.mkfifo(running.tmp / "program")
    reader = os.open(running.tmp / "program", os.O_RDONLY | os.O_NONBLOCK)
    try:
        record = "Record-Route: <sip:p1;lr>\nRecord-Route: <sip:p2;lr>\nContent-Type: application/sdp"
        caller.request("INVITE", "sip:bob@example.com", record, body="v=0\n")
        assert select.select([reader], [], [], 5)[0]
        lines = _lines(os.read(reader, 65536))
    finally:
        os.close(reader)
    assert lines[:8] == [
        "0.3",
        "sip_request.voicemail",
        "INVITE",
        "bob",
        "example.com",
        "127.0.0.1",
        str(running.port),
        "sip:bob@example.com",
    ]
    assert lines[8] == f"sip:alice@{caller.ip}:{caller.port}"
    assert lines[9] == f"<sip:alice@{caller.ip}>;tag={caller.sent['tag']}"
    assert lines[11:15] == [caller.sent["call_id"], caller.sent["tag"], "", "1"]
    entry, label = lines[15].split(":")
    assert int(entry) < 65536 and label.isdigit()
    assert lines[16:18] == ["<sip:p1;lr>,<sip:p2;lr>", "sip:p1;lr"]
    assert lines[18].startswith("P-MsgFlags: ") and lines[19] == "."
    assert lines[20].rstrip("\r") == "v=0"
    running.wait_log("written 1")
    answer = {"code": 200, "reason": "Recording", "trans_id": lines[15], "to_tag": "vm", "body": "v=0\r\n"}
    assert running.mi("t_reply", answer | {"new_headers": "Content-Type: application/sdp\r\n"}) == "OK"
    final = caller.final()
    assert (final.status, final.reason, final.body) == (200, "Recording", "v=0\r\n")


def test_a_call_that_the_program_does_not_answer_ends_with_408(server: Start, client: Client) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    os.mkfifo(running.tmp / "program")
    reader = os.open(running.tmp / "program", os.O_RDONLY | os.O_NONBLOCK)
    try:
        caller.request("INVITE")
        assert caller.final().status == 408
    finally:
        os.close(reader)


def test_a_datagram_carries_what_tw_append_adds(server: Start, client: Client) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        program.bind(str(running.tmp / "socket"))
        program.settimeout(5)
        caller.request("MESSAGE", headers="User-Agent: tester\nContent-Type: text/plain", body="hello")
        lines = _lines(program.recv(65536))
    assert lines[1] == "sip_request.log"
    at = next(i for i, line in enumerate(lines) if line.startswith("P-MsgFlags"))
    assert lines[at + 1 : at + 5] == ["ua: tester", "avp: one", ".", "hello"]
    assert caller.final().status == 408


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_without_a_program_the_script_goes_on(server: Start, client: Client, method: str) -> None:
    running = server(SCRIPT)
    caller = client(running.address)
    caller.request(method)
    assert (caller.final().reason) == "Nobody there"
    running.wait_log("written -1")


def test_a_full_socket_is_waited_for_no_longer_than_unix_tx_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared.unix_tx_timeout, "value", 0)
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        program.bind(path)
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                write_request._to_socket(path, b"x" * 1000)
    with pytest.raises(OSError, match="cannot be the path of a socket"):
        write_request._to_socket("/" + "x" * 200, b"")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no colon", "does not begin with a name and a colon"),
        ("a: x", "a variable is expected"),
        ("a: $ua", "only \\$rb needs no title"),
        ("a: t=$nothing", "unknown variable"),
        ("a: t=$ua x=$ru", "a semicolon is expected"),
    ],
)
def test_a_bad_tw_append_is_refused(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        write_request._parse(text, Registry())


def test_an_unknown_append_is_refused_when_the_script_is_checked() -> None:
    assert write_request._fault("action/append", None) is not None
    assert write_request._fault("/append", None) is not None
    assert write_request._fault("action", None) is None
