"""RFC 4475: whatever is valid leaves as it came, byte for byte, after a Via of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opensips_py.script.context import Context
from opensips_py.sip.message import ParseError, SipMessage, parse
from opensips_py.tm import relay
from opensips_py.tm.receive import receive_message
from tests.tm.world import UAC, UAS1, World

FOLDER = Path(__file__).parent.parent / "sip" / "testdata"


def requests() -> dict[str, tuple[bytes, SipMessage]]:
    found = {}
    for path in sorted(FOLDER.glob("*.dat")):
        raw = path.read_bytes()
        try:
            msg = parse(raw)
        except ParseError:
            continue
        if msg.is_request:
            found[path.stem] = (raw, msg)
    return found


REQUESTS = requests()


def test_most_of_the_messages_are_requests_that_can_be_read() -> None:
    assert len(REQUESTS) > 30


OUR_VIA = re.compile(rb"Via: SIP/2\.0/UDP 127\.0\.0\.1:15060;branch=z9hG4bK[\w.]+\r\n")
SEEN = re.compile(rb";received=127\.0\.1\.1|(?<=;rport)=15061")
"""What a server adds to the Via below its own (RFC 3261 18.2.1, RFC 3581 4)."""


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_it_leaves_byte_for_byte_as_it_came(world: World, name: str, stateful: bool) -> None:
    raw, msg = REQUESTS[name]
    codes = []

    def main(ctx: Context) -> int:
        ctx.dst_uri = f"sip:{UAS1[0]}:{UAS1[1]}"
        codes.append(relay.relay(ctx) if stateful else relay.forward(ctx))
        return 1

    world.script(main)
    world.sent.clear()
    receive_message(raw, UAC, world.socket)
    sent = [data for address, data in world.sent if address == UAS1]
    if stateful and codes == [-2]:
        assert name in WITHOUT_TRANSACTION
        return
    [data] = sent
    [via] = OUR_VIA.findall(data)
    at = data.index(via)
    assert re.match(rb"(?i)v(ia)?[ \t]*:", data[at + len(via) :]), "ours stands right before the first one"
    expected = raw[: msg.body_end]
    if name == "trws":  # blanks after the version, which RFC 4475 3.1.2.16 wants to be repaired
        expected = expected.replace(b"SIP/2.0  \r\n", b"SIP/2.0\r\n", 1)
    assert SEEN.sub(b"", data[:at] + data[at + len(via) :]) == expected


WITHOUT_TRANSACTION = {"insuf"}
"""It lacks To, From and Call-ID: only forward() takes it."""
