"""Replies that belong to nothing here: dropped without a top Via of ours (RFC 3261 18.1.2), whatever stands in them."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.sip.message import parse
from opensips_py.tm import identity, msg_translator, relay
from tests.tm.world import UAC, UAS1, World, find, reply_to, request, summary


def stateless(world: World, main: object = None) -> None:
    """A script that forwards without state."""
    world.script(main or relay.forward)  # type: ignore[arg-type]
    this.program.called = frozenset({"forward"})


def stray(top: str, second: str = "SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1", code: int = 200) -> bytes:
    return (
        f"SIP/2.0 {code} OK\r\nVia: {top}\r\nVia: {second}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n"
        "Call-ID: call1@test\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
    ).encode()


OURS = "SIP/2.0/UDP 127.0.0.1:15060;branch=z9hG4bKs00112233"


def test_a_reply_to_what_was_forwarded_without_state_passes(world: World) -> None:
    stateless(world)
    sent = find(world.receive(request("MESSAGE"), UAC), "MESSAGE.*")
    assert summary(world.receive(reply_to(sent, 200), UAS1)) == ["200>UAC"]


def test_also_when_the_request_named_this_server_otherwise(world: World) -> None:
    def main(ctx: Context) -> int:
        ctx.slots[msg_translator.ADVERTISED] = ["public.example.net", 5070]
        return relay.forward(ctx)

    stateless(world, main)
    sent = find(world.receive(request("MESSAGE"), UAC), "MESSAGE.*")
    assert sent.via.host == "public.example.net"
    assert summary(world.receive(reply_to(sent, 200), UAS1)) == ["200>UAC"]


@pytest.mark.parametrize(
    "top",
    ["SIP/2.0/UDP 203.0.113.9:5060;branch=z9hG4bKx", "SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKs0", "SIP/2.0/UDP victim.example"],
)
def test_without_a_top_via_of_ours_it_is_dropped(world: World, top: str) -> None:
    stateless(world)
    assert world.receive(stray(top), UAS1) == []


@pytest.mark.parametrize("parameter", ["rport=99999", "rport=0", "rport=-1", "rport=", "rport=x", f"rport={'9' * 4300}"])
def test_an_rport_that_is_no_port_is_none(world: World, parameter: str) -> None:
    stateless(world)
    out = world.receive(stray(OURS, f"SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1;{parameter}"), UAS1)
    assert summary(out) == ["200>UAC"]


@pytest.mark.parametrize("parameter", ["received=x", "received=host.example", "received=", "received=1.2.3.4.5", "received=[::"])
def test_received_that_is_no_address_is_none(world: World, parameter: str) -> None:
    stateless(world)
    out = world.receive(stray(OURS, f"SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1;{parameter}"), UAS1)
    assert summary(out) == ["200>UAC"]


@pytest.mark.parametrize("parameter", ["i=-5", "i=0", "i=ffffff", "i=", "i=x", "i=" + "f" * 5000])
def test_a_connection_that_is_none(world: World, parameter: str) -> None:
    stateless(world)
    assert summary(world.receive(stray(f"{OURS};{parameter}"), UAS1)) == ["200>UAC"]


@pytest.mark.parametrize("number", ["-1", "+0", " 0", "0_0", "ff", "ffff", "10000", "", "x", ".1", "0.-1", "0.", "0" * 5000])
@pytest.mark.parametrize("named", [False, True])
def test_a_branch_number_that_is_none_reaches_no_branch(world: World, number: str, named: bool) -> None:
    """With and without onreply routes."""
    seen: list[int] = []

    def main(ctx: Context) -> int:
        ctx.armed_reply = "r" if named else None
        return relay.relay(ctx)

    def replied(ctx: Context) -> int:
        seen.append(ctx.msg.status)
        return 1

    world.script(main, onreply_r=replied)
    sent = find(world.receive(request("MESSAGE"), UAC), "MESSAGE.*")
    branch = sent.via.branch or ""
    forged = reply_to(sent, 200).replace(branch.encode(), f"{branch[:24]}{number}".encode(), 1)
    assert world.receive(forged, UAS1) == []
    assert world.records()[0].code == 0
    assert not seen
    assert summary(world.receive(reply_to(sent, 200), UAS1)) == ["200>UAC"]


@pytest.mark.parametrize("key", ["0011223344556677", "g" * 16, "00 11 22 33 44 5", "0" * 15, "A" * 16])
def test_a_key_that_is_none(world: World, key: str) -> None:
    world.script(relay.relay)
    assert world.receive(stray(f"SIP/2.0/UDP 127.0.0.1:15060;branch=z9hG4bK{key}.0"), UAS1) == []


def test_to_tags_say_nothing_about_keys() -> None:
    """The difference between the tags of two transactions is not that between their keys."""
    keys = [identity.new_key() for _ in range(50)]
    masks = {int(identity.to_tag(key), 16) ^ int.from_bytes(key[1:], "big") for key in keys}
    assert len(masks) == len(keys)
    assert all(identity.to_tag(key) == identity.to_tag(key) for key in keys)
    assert all(len(identity.to_tag(key)) == 16 for key in keys)


def test_a_via_without_a_comma_space_is_read_alike(world: World) -> None:
    stateless(world)
    both = f"{OURS},SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1"
    data = stray("x", "y").replace(b"Via: x\r\nVia: y", f"Via: {both}".encode())
    assert parse(data).vias[1].port == 15061
    assert summary(world.receive(data, UAS1)) == ["200>UAC"]
