"""A timer whose handler fails ends its transaction; one whose transaction is held, or that finds no room, is done later."""

from __future__ import annotations

import pytest

from ipc.store import StoreFull
from opensips_py.script.context import Context
from opensips_py.sip.message import reread
from opensips_py.tm import failure_route, machine, relay, rows, server_transaction, timers
from tests.tm.world import UAC, UAS1, World, find, reply_to, request, summary


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers._Pause, "until", 0.0)


def ringing(world: World, method: str = "INVITE") -> None:
    world.script(relay.relay)
    sent = find(world.receive(request(method), UAC), f"{method}.*")
    if method == "INVITE":
        world.receive(reply_to(sent, 180), UAS1)


def fail(*arguments: object) -> int:
    raise RuntimeError("a fault")


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_the_caller_gets_500_and_nothing_stays(world: World, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    ringing(world, method)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "timer_fired", fail)
        out = world.pass_time(0.6 if method == "MESSAGE" else 121)
    assert "500>UAC" in summary(out)
    assert ("CANCEL>UAS1" in summary(out)) == (method == "INVITE")
    world.pass_time(300)
    assert world.records() == []
    assert world.store.count(rows.PREFIX) == 0


def test_one_that_fails_behind_its_reply_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script(lambda ctx: server_transaction.reply(ctx, 486, "Busy"))
    world.receive(request("INVITE"), UAC)
    monkeypatch.setattr(machine, "timer_fired", fail)
    world.pass_time(1)
    assert world.entries() == 0


def test_one_that_cannot_even_be_answered_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ringing(world)
    monkeypatch.setattr(machine, "timer_fired", fail)
    monkeypatch.setattr(failure_route, "give_up", fail)
    world.pass_time(121)
    assert world.entries() == 0


def test_a_record_that_cannot_be_read_is_deleted(world: World) -> None:
    ringing(world, "MESSAGE")
    for key, data in world.store.scan(b"t"):
        world.store.put(key, data[:20])
    for key, data in ((b"tbad     ", b""), (b"tworse   ", b"\x01")):
        world.store.put(key, data)
        world.store.put(rows.row(world.now, key), rows.LOAD)
    world.pass_time(60)
    assert world.entries() == 0


def test_others_go_on_beside_one_that_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script(relay.relay)
    fired = machine.timer_fired
    monkeypatch.setattr(machine, "timer_fired", lambda rec, *rest: fail() if b"bad" in rec.raw else fired(rec, *rest))
    for branch in ("bad1", "good1", "bad2", "good2"):
        world.receive(request("MESSAGE", branch=branch), UAC)
    out = world.pass_time(0.5)
    assert summary(out).count("MESSAGE>UAS1") == 2
    assert summary(out).count("500>UAC") == 2


def test_a_quote_in_from_and_one_in_route_do_not_make_a_pair(world: World) -> None:
    world.script(relay.relay)
    odd = request("INVITE", extra='Route: <sip:127.0.0.1:15060;lr>;x="\r\n').replace(b"From: <", b'From: "Al <')
    assert summary(world.receive(odd, UAC)) == ["400>UAC"]


@pytest.mark.parametrize("line", ["no colon\r\n", 'Contact: "x\r\n', "Content-Length: x\r\n", 'Route: "\r\n', "\r\n"])
@pytest.mark.parametrize("code", [0, 180])
def test_a_request_that_a_script_has_spoilt_still_ends(world: World, line: str, code: int) -> None:
    """What is stored of it cannot be read as strictly as what is received."""

    def main(ctx: Context) -> int:
        ctx.msg.append_header(line)
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(main, failure_f=lambda ctx: 1)
    out = world.receive(request("INVITE"), UAC)
    if code:
        world.receive(reply_to(find(world.receive(request("INVITE", branch="b2"), UAC), "INVITE.*"), code), UAS1)
    assert "INVITE>UAS1" in summary(out)
    later = world.pass_time(1000)
    assert "408>UAC" in summary(later)
    assert ("CANCEL>UAS1" in summary(later)) == (code == 180)
    assert world.records() == []


@pytest.mark.parametrize("via", ["Via: nonsense\r\n", 'Via: "\r\n', ""])
def test_a_negative_reply_whose_other_vias_are_bad_still_decides(world: World, via: str) -> None:
    """After our own Via: what is kept of such a reply begins with a Via that cannot be read, or has none."""
    seen = []

    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    def failed(ctx: Context) -> int:
        assert ctx.reply is not None
        seen.append(ctx.reply.status)
        return server_transaction.reply(ctx, 480, "Gone")

    world.script(main, failure_f=failed)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    theirs = b"Via: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK-b1\r\n"
    out = world.receive(reply_to(invite, 486).replace(theirs, via.encode()), UAS1)
    assert seen == [486]
    assert "480>UAC" in summary(out)


def test_a_transaction_that_another_process_holds_does_not_hold_up_the_others(world: World) -> None:
    world.script(relay.relay)
    for branch in ("held", "free"):
        world.receive(request("MESSAGE", branch=branch), UAC)
    held = next(key for key, data in world.store.scan(b"t") if b"z9hG4bK-held" in data)
    real = world.store.try_lock
    world.store.try_lock = lambda key: False if key == held else real(key)
    assert summary(world.pass_time(0.52)) == ["MESSAGE>UAS1"]
    world.store.try_lock = real
    assert summary(world.pass_time(0.1)) == ["MESSAGE>UAS1"]


def test_rows_that_find_no_room_are_done_when_there_is_some(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ringing(world, "MESSAGE")

    def full(*arguments: object, **named: object) -> bool:
        raise StoreFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(timers, "commit", full)
        assert world.pass_time(5) == []
        assert len(world.records()) == 1
    out = world.pass_time(40)
    assert "408>UAC" in summary(out)
    world.pass_time(60)
    assert world.entries() == 0


def test_what_is_read_again_is_never_refused() -> None:
    for text in (
        b"",
        b"\r\n\r\n",
        b"SIP/2.0",
        b"SIP/2.0 abc x\r\n\r\n",
        b"INVITE",
        b"INVITE sip:a b c SIP/2.0\r\nVia: x\r\nno colon\r\n\r\n",
        b"ACK sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nContent-Length: x\r\n\r\n",
        b'SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nTo: "\r\n\r\n',
    ):
        msg = reread(text)
        assert msg.via.host
        assert msg.raw == text.lstrip(b"\r\n") or msg.raw == text
    assert reread(b"INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=b\r\nbad\r\nFrom: x\r\n\r\n").value("from") == "x"
