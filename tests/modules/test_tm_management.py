"""Module tm's management commands, and requests made by scripts, on a running server: whichever process gets the reply."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import MIError, Server
from tests.conftest import StartDns
from tests.support.sip_client import Message, SipClient

SCRIPT = r"""
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "signaling.so"
route {
    if (is_method("ACK"))
        exit;
    if (is_method("INVITE")) {
        t_newtran();
        xlog("id=$T_id\n");
        t_reply(180, "Ringing");
        exit;
    }
    if (is_method("PUBLISH")) {
        t_new_request("MESSAGE", "$hdr(X-To)", "Bob sip:from@x", "sip:to@y", "text/plain Hello you", "note");
        send_reply(200, "OK");
        exit;
    }
    send_reply(404, "Not Found");
}
local_route {
    xlog("local $rm $avp(uac_ctx)\n");
    append_hf("X-Local: $rm\r\n");
    if ($hdr(X-Drop) == "yes")
        drop;
}
"""
HEADERS = "From: <sip:a@x>\r\nTo: <sip:b@y>\r\n"

Start = Callable[..., Server]
Client = Callable[..., SipClient]


def dlg(server: Server, target: SipClient, method: str = "OPTIONS", **more: str) -> dict[str, str]:
    return {"method": method, "ruri": f"sip:b@{target.ip}:{target.port}", "headers": HEADERS} | more


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(4) as made:
        yield made


def ask(pool: ThreadPoolExecutor, server: Server, params: dict[str, str], seconds: float = 10) -> Future[Any]:
    return pool.submit(server.mi, "t_uac_dlg", params, seconds)


def test_t_uac_dlg_answers_with_the_final_reply(server: Start, client: Client, pool: ThreadPoolExecutor) -> None:
    running, callee = server(SCRIPT, workers=3), client()
    for _ in range(12):  # the kernel chooses which worker gets the reply
        answer = ask(pool, running, dlg(running, callee))
        request = callee.receive()
        assert (request.method, request.header("X-Local")) == ("OPTIONS", "OPTIONS")
        assert request.header("CSeq") == "10 OPTIONS"
        assert ";tag=" in request.header("From") and ";tag=" not in request.header("To")
        assert request.header("Call-ID").endswith("@127.0.0.1")
        callee.reply(request, 200, "Fine", headers="Record-Route: <sip:1.2.3.4;lr>\nRecord-Route: <sip:5.6.7.8;lr>")
        result = answer.result()
        assert result["Status"] == "200 Fine"
        assert result["RURI"] == f"sip:callee@{callee.ip}:{callee.port}"
        assert result["Next-hop"] == "sip:5.6.7.8;lr"
        assert result["Routes"] == ["<sip:5.6.7.8;lr>", "<sip:1.2.3.4;lr>"]
        assert result["Message"].startswith("Via: SIP/2.0/UDP") and result["Message"].endswith("\r\n\r\n")
    assert running.statistics("tm:UAC_transactions") == {"tm:UAC_transactions": 12}


def test_requests_of_several_clients_do_not_wait_for_each_other(server: Start, client: Client, pool: ThreadPoolExecutor) -> None:
    running, slow, fast = server(SCRIPT, workers=2), client(), client()
    first = ask(pool, running, dlg(running, slow))
    waiting = slow.receive()
    second = ask(pool, running, dlg(running, fast))
    fast.reply(fast.receive(), 486, "Busy Here")
    assert second.result()["Status"] == "486 Busy Here"
    slow.reply(waiting, 202, "Accepted")
    assert first.result()["Status"] == "202 Accepted"


def test_what_is_given_stays_and_what_is_missing_is_made(server: Start, client: Client, pool: ThreadPoolExecutor) -> None:
    running, callee = server(SCRIPT), client()
    given = dlg(
        running,
        callee,
        "MESSAGE",
        headers="From: Me <sip:a@x>;tag=mine\\r\\nTo: sip:b@y\\r\\nCall-ID: c1\\r\\nCSeq: 7 MESSAGE\\r\\n"
        "Content-Type: text/plain\\r\\nContact: <sip:me@!!>\\r\\n",
        body="hello",
        socket=f"udp:127.0.0.1:{running.port}",
        next_hop=f"sip:{callee.ip}:{callee.port}",
        ruri="sip:b@elsewhere.invalid",
    )
    answer = ask(pool, running, given)
    request = callee.receive()
    assert request.ruri == "sip:b@elsewhere.invalid"
    assert request.header("From") == "Me <sip:a@x>;tag=mine"
    assert request.header("To") == "sip:b@y"
    assert (request.header("Call-ID"), request.header("CSeq"), request.body) == ("c1", "7 MESSAGE", "hello")
    assert request.header("Contact") == f"<sip:me@127.0.0.1:{running.port}>"
    callee.reply(request, 200)
    answer.result()


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"ruri": "nothing"}, 400, "Invalid ruri"),
        ({"next_hop": "x"}, 400, "Invalid next_hop"),
        ({"socket": "udp:127.0.0.9:1"}, 404, "Local socket not found"),
        ({"headers": "no header\r\n"}, 400, "Bad headers"),
        ({"headers": "From: <sip:a@x>\r\n"}, 400, "To missing"),
        ({"headers": "To: <sip:a@x>\r\n"}, 400, "From missing"),
        ({"headers": HEADERS + "CSeq: x OPTIONS\r\n"}, 400, "Bad CSeq number"),
        ({"headers": HEADERS + "CSeq: 1 INVITE\r\n"}, 400, "CSeq method mismatch"),
        ({"body": "x"}, 400, "Content-Type missing"),
        (
            {"body": "x", "headers": HEADERS + "Content-Type: a/b\r\nContent-Length: 1\r\n"},
            400,
            "Content-Length disallowed",
        ),
        ({"headers": HEADERS + "X-Drop: yes\r\n"}, 500, "MI/UAC failed"),
        ({"ruri": "sip:b@127.0.0.1;transport=carrierpigeon"}, 476, "Unresolvable destination (476/MI/UAC)"),
    ],
)
def test_t_uac_dlg_says_what_is_wrong(shared: tuple[Server, SipClient], change: dict[str, str], code: int, text: str) -> None:
    running, callee = shared
    with pytest.raises(MIError, match=f"{code} ") as raised:
        running.mi("t_uac_dlg", dlg(running, callee) | change)
    assert text in str(raised.value)


@pytest.fixture(scope="module")
def shared() -> Any:
    running, callee = Server(SCRIPT), SipClient()
    yield running, callee
    running.stop()
    running.remove()
    callee.close()


def test_other_commands_are_served_while_a_name_is_looked_up(
    server: Start, client: Client, pool: ThreadPoolExecutor, dns: StartDns
) -> None:
    names, callee = dns("slow.test. 60 IN A 127.0.0.1"), client()
    names.fail("slow.test.", delay=3)
    running = server(f'dns_servers="{names.address}"\ndns_use_search_list=no\ndns_retr_time=8\n' + SCRIPT)
    answer = ask(pool, running, dlg(running, callee) | {"ruri": f"sip:b@slow.test:{callee.port};transport=udp"}, 20)
    end = this.clock.now() + 20
    while not names.asked:
        assert this.clock.now() < end
        time.sleep(0.01)
    running.mi("version")
    assert not select.select([callee.socket], [], [], 0)[0], "the request has been sent before"
    callee.reply(callee.receive(15), 200)
    assert answer.result()["Status"] == "200 OK"


def test_a_silent_peer_gives_408(server: Start, client: Client, pool: ThreadPoolExecutor) -> None:
    running, callee = server(SCRIPT + 'modparam("tm", "fr_timeout", 1)\n'), client()
    assert ask(pool, running, dlg(running, callee)).result() == {"Status": "408 Request Timeout"}


def test_an_invite_is_acknowledged_and_can_be_cancelled(server: Start, client: Client, pool: ThreadPoolExecutor) -> None:
    running, callee = server(SCRIPT, workers=2), client()
    answer = ask(pool, running, dlg(running, callee, "INVITE"))
    invite = callee.receive()
    callee.reply(invite, 180, "Ringing")
    with pytest.raises(MIError, match="481 No such transaction"):
        running.mi("t_uac_cancel", ["unknown", "10 INVITE"])
    end = this.clock.now() + 20
    cancel: Message | None = None
    while cancel is None and this.clock.now() < end:  # the 180 may still be on its way through a worker
        running.mi("t_uac_cancel", [invite.header("Call-ID"), "10 INVITE"])
        message = callee.receive()
        cancel = message if message.method == "CANCEL" else None
    assert cancel is not None and cancel.header("CSeq") == "10 CANCEL"
    callee.reply(cancel, 200)
    callee.reply(invite, 487, "Request Terminated")
    assert answer.result()["Status"] == "487 Request Terminated"
    assert callee.receive().method == "ACK"

    answer = ask(pool, running, dlg(running, callee, "INVITE"))
    callee.reply(callee.receive(), 200)
    assert callee.receive().method == "ACK"
    assert answer.result()["Status"] == "200 OK"


def test_every_provisional_reply_is_an_answer_if_wanted(server: Start, client: Client) -> None:
    running, callee = server(SCRIPT + 'modparam("tm", "pass_provisional_replies", 1)\n'), client()
    reply = running.tmp / "all"
    os.mkfifo(reply)
    descriptor = os.open(reply, os.O_RDWR | os.O_NONBLOCK)  # stays open over all answers
    request = {"jsonrpc": "2.0", "id": 1, "method": "t_uac_dlg", "params": dlg(running, callee, "INVITE")}
    try:
        with open(running.fifo, "wb", buffering=0) as fifo:
            fifo.write(f":all:{json.dumps(request)}".encode())
        invite = callee.receive()
        seen = []
        for code in (100, 180, 200):
            callee.reply(invite, code, "So")
            if code > 100:
                assert select.select([descriptor], [], [], 5)[0]
                seen.append(json.loads(os.read(descriptor, 65536))["result"]["Status"])
    finally:
        os.close(descriptor)
    assert seen == ["180 So", "200 So"]


def _is_read(fifo: Path) -> bool:
    """Whether a process has the FIFO open for reading: a command would wait for one."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_an_asker_that_dies_leaves_nothing_behind(server: Start, client: Client, pool: ThreadPoolExecutor) -> None:
    running, callee = server(SCRIPT, workers=2), client()
    ask(pool, running, dlg(running, callee), 1)
    request = callee.receive()
    [process] = running.pids("MI FIFO")
    os.kill(process, signal.SIGKILL)
    end = this.clock.now() + 20
    while running.pids("MI FIFO") in ([], [process]) or not _is_read(running.fifo):
        assert this.clock.now() < end
        time.sleep(0.02)
    callee.reply(request, 200)
    answer = ask(pool, running, dlg(running, callee))
    while (second := callee.receive()).header("Call-ID") == request.header("Call-ID"):
        pass  # repeated before it was answered
    callee.reply(second, 200)
    assert answer.result()["Status"] == "200 OK"


def test_t_new_request_sends_and_goes_on(server: Start, client: Client) -> None:
    running, callee = server(SCRIPT), client()
    caller = client(running.address)
    caller.request("PUBLISH", headers=f"X-To: sip:z@{callee.ip}:{callee.port}")
    assert caller.final().status == 200
    message = callee.receive()
    assert (message.method, message.body) == ("MESSAGE", "Hello you")
    assert message.header("From").startswith("Bob <sip:from@x>;tag=")
    assert message.header("To") == "<sip:to@y>"
    assert message.header("Content-Type") == "text/plain"
    callee.reply(message, 200)
    running.wait_log("local MESSAGE note")
    caller.request("PUBLISH", headers="X-To: nonsense")
    assert caller.final().status == 200
    running.wait_log("MESSAGE not sent")


def test_t_reply_answers_a_transaction_by_its_name(server: Start, client: Client) -> None:
    running = server(SCRIPT, workers=2)
    caller = client(running.address)
    caller.request("INVITE")
    while caller.receive().status != 180:
        pass
    [line] = running.wait_log("id=")
    name = line.split("id=")[1].strip()
    for wrong, error in (
        ("x", "400 Invalid trans_id"),
        ("x:1", "400 Invalid index in trans_id"),
        ("1:x", "400 Invalid label in trans_id"),
        ("1:2", "404 Transaction not found"),
    ):
        with pytest.raises(MIError, match=error):
            running.mi("t_reply", {"code": "486", "reason": "No", "trans_id": wrong, "to_tag": "t"})
    with pytest.raises(MIError, match="400 Invalid reply code"):
        running.mi("t_reply", {"code": "700", "reason": "No", "trans_id": name, "to_tag": "t"})
    by_name = {"code": 486, "reason": "Not Now", "trans_id": name, "to_tag": "mine", "new_headers": "X-Why: tired\r\n"}
    assert running.mi("t_reply", by_name) == "OK"
    final = caller.final()
    assert (final.status, final.reason, final.header("X-Why")) == (486, "Not Now", "tired")
    assert final.header("To").endswith(";tag=mine")
    with pytest.raises(MIError, match="500 Reply failed"):
        running.mi("t_reply", by_name)


def test_t_hash_counts_transactions_by_entry(server: Start, client: Client) -> None:
    running = server(SCRIPT, workers=2)
    caller = client(running.address)
    for _ in range(5):
        caller.request("INVITE")
        while caller.receive().status != 180:
            pass
    table = running.mi("t_hash")
    assert [entry["index"] for entry in table] == list(range(65536))
    assert sum(entry["Current"] for entry in table) == 5
    assert sum(entry["Total"] for entry in table) == 5
