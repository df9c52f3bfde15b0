"""The timers may be fired by anybody, at any time, twice, or by a process that dies half-way."""

from __future__ import annotations

import pytest

from ipc.lmdb_store import LmdbHeadBatch
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.tm import relay, rows, timers
from opensips_py.tm.server_transaction import reply
from tests.tm.world import UAC, World, request, summary


class Killed(BaseException):
    """SIGKILL, as seen from inside."""


def test_rows_of_answered_requests_are_deleted_without_loading_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script(lambda ctx: reply(ctx, 200, "OK"))
    for n in range(2500):
        world.receive(request("OPTIONS", branch=f"b{n}"), UAC)
    monkeypatch.setattr(timers, "fire", None)
    world.pass_time(6)
    assert world.entries() == 0


def test_firing_again_does_nothing(world: World) -> None:
    world.script(lambda ctx: relay.relay(ctx))
    world.receive(request("OPTIONS"), UAC)
    ((name, _),) = world.store.scan(rows.PREFIX)
    world.now += 0.5
    world.sent.clear()
    timers.fire(name, world.now)
    timers.fire(name, world.now)  # a second timer process that has read the same row before
    assert summary(world.taken()) == ["OPTIONS>UAS1"]
    assert [at for at, _, _ in world.pass_time(3.2)] == [1.0, 3.0]


def test_a_timer_process_killed_before_its_effect_is_stored_did_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.script(lambda ctx: relay.relay(ctx))
    world.receive(request("OPTIONS"), UAC)

    def killed(*arguments: object, **named: object) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(timers, "commit", killed)
        with pytest.raises(Killed):
            timers.fire_due(world.now + 0.5)
    world.sent.clear()
    assert [at for at, _, _ in world.pass_time(1.6)] == [0.5, 1.5]


def test_a_408_is_sent_once_even_if_a_process_dies_before_sending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored but not sent is what a retransmission of the request gets."""
    world.script(lambda ctx: relay.relay(ctx))
    world.receive(request("OPTIONS"), UAC)
    world.pass_time(29.9)

    def killed(*arguments: object) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(this, "send", killed, raising=False)
        with pytest.raises(Killed):
            timers.fire_due(world.now + 0.2)
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["408>UAC"]
    assert summary(world.pass_time(20)) == []
    assert world.entries() == 0


def test_a_failing_transaction_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def main(ctx: Context) -> int:
        return relay.relay(ctx)

    world.script(main)
    world.receive(request("OPTIONS", branch="x"), UAC)
    ((name, _),) = world.store.scan(rows.PREFIX)
    world.store.put(rows.of_row(name)[1], b"\xdc\x00\x10\xcb" + bytes(8) + b"\xc2 not a record")
    world.receive(request("OPTIONS", branch="y"), UAC)
    assert "OPTIONS>UAS1" in summary(world.pass_time(0.6))
    assert "transaction timer" in capfd.readouterr().err


def test_no_whole_record_is_read_while_everybody_waits_for_the_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records may be as large as messages, and a thousand of them may be due at once."""
    world.script(lambda ctx: relay.relay(ctx))
    world.receive(request("OPTIONS"), UAC)
    read: list[int] = []
    head = LmdbHeadBatch.head

    def noted(batch: LmdbHeadBatch, key: bytes, size: int) -> bytes | None:
        found = head(batch, key, size)
        read.append(len(found or b""))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(LmdbHeadBatch, "head", noted)
        patch.setattr(timers, "_fire_one", lambda name, now: None)
        timers._fire_all(world.store.scan(rows.PREFIX), world.now + 0.5)
    assert read == [timers._PEEKED]
