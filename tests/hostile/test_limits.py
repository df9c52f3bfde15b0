"""Limits of messages are looked at before anything is done with them, answered as documented, and counted."""

from __future__ import annotations

from collections.abc import Callable

from scripts.hostile.messages import message
from scripts.testbed.server import PREAMBLE, Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
max_uri_length=100
max_headers=40
max_header_length=300
max_body_size=200
max_message_size=2000
loadmodule "sl.so"
route { xlog("L_ERR", "the script runs\\n"); sl_send_reply(200, "OK"); }
"""

LINES = "X: 1\r\n"
TOO_LARGE: dict[str, tuple[bytes, int]] = {
    "R-URI": (message(ruri="sip:" + "a" * 97), 414),
    "headers": (message(more=LINES * 40), 400),
    "header": (message({"X": "a" * 298}), 400),
    "folded header": (message({"X": "a\r\n " * 75}), 400),
    "body": (message(content="a" * 201), 413),
    "message": (message(more=("X: " + "a" * 200 + "\r\n") * 9), 513),
}
ALLOWED: dict[str, bytes] = {
    "R-URI": message(ruri="sip:" + "a" * 96),
    "headers": message(more=LINES * 32),
    "header": message({"X": "a" * 297}),
    "body": message(content="a" * 200),
    "message": message(more=("X: " + "a" * 200 + "\r\n") * 6),
}


def test_what_exceeds_a_limit_is_answered_and_counted(server: StartServer, client: MakeClient) -> None:
    running = server(PREAMBLE + SCRIPT)
    sip = client(running.address)
    here = b"127.0.0.1:%d" % sip.port
    for name, data in ALLOWED.items():
        sip.send_raw(data.replace(b"127.0.0.1:5070;branch", here + b";branch"))
        assert sip.receive().status == 200, name
    ran = len(running.lines("the script runs"))
    assert ran == len(ALLOWED)
    for name, (data, status) in TOO_LARGE.items():
        sip.send_raw(data.replace(b"127.0.0.1:5070;branch", here + b";branch"))
        assert sip.receive().status == status, name
    sip.send_raw(TOO_LARGE["header"][0].replace(b"INVITE", b"ACK"))
    sip.send_raw(TOO_LARGE["header"][0].replace(b"INVITE sip:c@d SIP/2.0", b"SIP/2.0 200 OK"))
    sip.nothing(0.2)
    assert running.statistics("large_msgs")["core:large_msgs"] == len(TOO_LARGE) + 2
    assert len(running.lines("the script runs")) == ran
