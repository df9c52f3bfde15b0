"""The torture messages of RFC 4475, byte for byte from its appendix."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opensips_py.sip.message import BadMessage, ParseError, parse
from opensips_py.sip.reply import build_reply

MESSAGES = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "testdata").glob("*.dat"))}

DROPPED = {"badinv01", "bigcode"}
"""Nothing can be answered: no Via that could be used, or a reply."""

ANSWERED = {"baddn": 400, "badvers": 505, "lwsruri": 400, "lwsstart": 400, "ncl": 400, "quotbal": 400}
"""Refused, and answered with this status."""

VALUES: dict[str, Callable[[Any], object]] = {
    "wsinv": lambda m: (m.cseq, m.to.tag, m.max_forwards, m.via.branch, len(m.vias), m.content_type),
    "intmeth": lambda m: (m.method, m.cseq.method, m.to.uri[:30]),
    "lwsdisp": lambda m: (m.from_.display, m.from_.uri),
    "multi01": lambda m: (m.from_.uri, m.call_id),
    "noreason": lambda m: (m.status, m.reason),
    "unreason": lambda m: (m.status, m.reason.encode("latin-1").decode()),
    "transports": lambda m: [via.transport for via in m.vias],
    "dblreq": lambda m: (m.method, len(m.body), m.content_length),
    "insuf": lambda m: (m.to, m.from_, m.call_id, m.cseq.number),
    "scalar02": lambda m: (m.cseq.number, m.max_forwards),
    "semiuri": lambda m: m.ruri,
}
EXPECTED = {
    "wsinv": ((9, "INVITE"), "1918181833n", 68, "390skdjuw", 3, "application/sdp"),
    "intmeth": (
        "!interesting-Method0123456789_*+`.%indeed'~",
        "!interesting-Method0123456789_*+`.%indeed'~",
        "sip:1_unusual.URI~(to-be!sure)",
    ),
    "lwsdisp": ("caller", "sip:caller@example.com"),
    "multi01": ("sip:caller@example.com", "multi01.98asdh@192.0.2.1"),
    "noreason": (100, ""),
    "unreason": (200, "= 2**3 * 5**2 но сто девяносто девять - простое"),
    "transports": ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"],
    "dblreq": ("REGISTER", 0, 0),
    "insuf": (None, None, None, 193942),
    "scalar02": (36893488147419103232, 300),
    "semiuri": "sip:user;par=u%40example.net@example.com",
}


def test_all_messages_are_here() -> None:
    assert len(MESSAGES) == 49


@pytest.mark.parametrize("name", MESSAGES)
def test_each_is_read_or_refused(name: str) -> None:
    try:
        msg = parse(MESSAGES[name])
    except ParseError as error:
        assert isinstance(error, BadMessage) == (name not in DROPPED)
        assert name in DROPPED or error.code == ANSWERED[name]
    else:
        assert name not in DROPPED and name not in ANSWERED
        assert msg.serialise() == MESSAGES[name]
        assert "".join(msg.text[h.start : h.end] for h in msg.headers) == msg.text[msg._first_end : msg.headers_end]


@pytest.mark.parametrize("name", MESSAGES)
def test_each_takes_less_than_10_ms(name: str) -> None:
    took = []
    for _ in range(5):  # one of them may include a garbage collection of all that the tests have left
        start = time.process_time()
        with contextlib.suppress(ParseError):
            parse(MESSAGES[name]).serialise()
        took.append(time.process_time() - start)
    assert min(took) < 0.01


@pytest.mark.parametrize("name", [name for name in MESSAGES if name not in DROPPED])
def test_each_request_can_be_answered(name: str) -> None:
    try:
        msg = parse(MESSAGES[name])
    except BadMessage as error:
        msg = error.message
    if msg.is_request:
        first, *lines = build_reply(msg, 400, "Bad Request", to_tag="t1").decode("latin-1").split("\r\n")
        assert first == "SIP/2.0 400 Bad Request"
        received = {line for header in msg.headers for line in msg.text[header.start : header.end].split("\r\n")}
        received |= {line + ";tag=t1" for line in received}
        assert lines[-4:] == ["Server: opensips-py", "Content-Length: 0", "", ""]
        assert set(lines[:-4]) <= received


@pytest.mark.parametrize("name", VALUES)
def test_values_are_read(name: str) -> None:
    assert VALUES[name](parse(MESSAGES[name])) == EXPECTED[name]
