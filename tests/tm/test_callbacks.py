"""Modules take part in transactions: callbacks, data on the record, what is to be done once a change is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ipc.lmdb_store import LmdbStore
from ipc.store import StoreFull
from opensips_py.engine import outbox
from opensips_py.engine.operation import Done, Operation
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.tm import callbacks, failure_route, relay, rows, server_transaction, timers, transaction, uac
from opensips_py.tm.callbacks import Moment, When
from opensips_py.tm.transaction import Transaction
from opensips_py.tm.uac import LocalRequest
from tests.tm import watching
from tests.tm.watching import Line, Watch, watches, written
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    written.clear()
    monkeypatch.setattr(outbox._Place, "start", outbox.PREFIX)
    status = SimpleNamespace(status=lambda slot: SimpleNamespace(incarnation=this.incarnation))
    monkeypatch.setattr(this, "counters", status, raising=False)
    yield
    written.clear()


def watched(ctx: Context) -> int:
    """A script: watch_transaction("gold") and t_relay()."""
    watching.watch(ctx, "gold")
    return relay.relay(ctx)


def proxied(world: World, method: str = "INVITE", script: Callable[[Context], int] = watched) -> Any:
    world.script(script)
    return find(world.receive(request(method), UAC), f"{method}>UAS1")


def kept(world: World) -> Watch:
    (record,) = world.records()
    assert record.kept is not None
    return watches.decode(record.kept["watching"])  # type: ignore[no-any-return]


def test_a_module_counts_tags_and_times_transactions(world: World) -> None:
    before = watching.counted.cells[watching.counted.index]
    sent = proxied(world)
    assert sent.value("x-tag") == "gold.0"
    ringing = find(world.receive(reply_to(sent, 180), UAS1), "180>UAC")
    assert ringing.value("x-tag") == "gold"
    assert find(world.receive(reply_to(sent, 200), UAS1), "200>UAC").value("x-tag") == "gold"
    assert written == [Line("INVITE", 200, "gold", ["reply_in 180", "reply_in 200", "completed 200"])]
    assert watching.counted.cells[watching.counted.index] == before + 1
    world.receive(reply_to(sent, 200), UAS1)  # repeated
    assert len(written) == 1
    world.pass_time(300)
    assert world.entries() == 0


def test_a_transaction_that_nobody_watches_runs_no_callback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nobody has asked for it")

    for name in ("run", "wanted", "tell", "reply_out", "begin"):
        monkeypatch.setattr(callbacks, name, never)
    sent = proxied(world, script=relay.relay)
    assert summary(world.receive(reply_to(sent, 180), UAS1)) == ["180>UAC"]
    assert summary(world.receive(reply_to(sent, 404), UAS1)) == ["ACK>UAS1", "404>UAC"]
    world.pass_time(300)
    assert world.entries() == 0


def test_data_are_given_before_there_is_a_transaction_and_become_its_own(world: World) -> None:
    def script(ctx: Context) -> int:
        watching.watch(ctx, "early")
        assert ctx.tx is None
        assert watches.get(ctx) == Watch("early")
        server_transaction.new_transaction(ctx)
        assert watches.get(ctx) == Watch("early")
        assert callbacks.KEPT not in ctx.slots
        return server_transaction.reply(ctx, 486, "Busy")

    world.script(script)
    assert find(world.receive(request("INVITE"), UAC), "486>UAC").value("x-tag") == "early"
    assert kept(world).seen == ["completed 486"]


def test_every_process_reads_and_changes_the_data(world: World) -> None:
    proxied(world)
    (key,) = [key for key, _ in world.store.scan(b"t")]
    elsewhere = SimpleNamespace(tx=Transaction(key), slots={})
    with watches.change(elsewhere) as data:  # type: ignore[arg-type]
        data.tag = "changed"
    other: Any = SimpleNamespace(tx=Transaction(key), slots={})
    assert watches.get(other) == Watch("changed")
    watches.drop(other)
    assert world.records()[0].kept is None


def test_who_looks_at_data_of_a_transaction_that_is_gone_gets_none(world: World) -> None:
    gone: Any = SimpleNamespace(tx=Transaction(b"t" + bytes(8)), slots={})
    assert watches.get(gone) is None
    assert watches.set(gone, Watch()) is False
    with watches.change(gone) as data:
        data.tag = "for nobody"
    assert world.entries() == 0


def test_edits_of_a_branch_are_those_of_this_branch(world: World) -> None:
    def forks(ctx: Context) -> int:
        from opensips_py.script.context import Branch

        watching.watch(ctx, "b")
        ctx.branches = [Branch("sip:bob@127.0.1.3:15063")]
        code = relay.relay(ctx)
        assert ctx.msg.edits == []
        return code

    world.script(forks)
    out = world.receive(request("INVITE"), UAC)
    assert [find(out, f"INVITE>{to}").values("x-tag") for to in ("UAS1", "UAS2")] == [["b.0"], ["b.1"]]


def test_a_failure_is_told_of_before_its_route_and_the_reply_of_the_next_branch_completes(world: World) -> None:
    def armed(ctx: Context) -> int:
        ctx.armed_failure = "again"
        return watched(ctx)

    def again(ctx: Context) -> int:
        data = watches.get(ctx)
        assert data is not None and data.seen == ["reply_in 486", "failure 486"]
        ctx.new_uri = "sip:bob@127.0.1.3:15063"
        return relay.relay(ctx)

    world.script(armed, failure_again=again)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    second = find(world.receive(reply_to(first, 486), UAS1), "INVITE>UAS2")
    assert second.value("x-tag") == "gold.1"
    world.receive(reply_to(second, 200), UAS2)
    assert [(line.code, line.seen[1:]) for line in written] == [(200, ["failure 486", "reply_in 200", "completed 200"])]


def test_a_timeout_a_cancel_and_an_ack_are_told_of(world: World) -> None:
    sent = proxied(world)
    world.receive(reply_to(sent, 180), UAS1)
    world.receive(request("CANCEL"), UAC)
    out = world.receive(reply_to(sent, 487), UAS1)
    assert find(out, "487>UAC").value("x-tag") == "gold"
    world.receive(request("ACK", to_tag="uas"), UAC)
    assert kept(world).seen[1:] == ["cancelled 0", "reply_in 487", "failure 487", "completed 487", "ack_in 0"]


def test_a_reply_made_here_by_a_timer_is_told_of(world: World) -> None:
    proxied(world, "MESSAGE")
    out = world.pass_time(31)
    assert find([item for item in out if item[1] == UAC], "408>UAC").value("x-tag") == "gold"
    assert written == [Line("MESSAGE", 408, "gold", ["failure 408", "completed 408"])]


def test_the_last_moment_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[tuple[str, int]] = []
    monkeypatch.setitem(watches.callbacks, When.DELETED, [lambda moment, data: ends.append((data.tag, moment.code))])
    sent = proxied(world)
    world.receive(reply_to(sent, 200), UAS1)
    assert ends == []
    world.pass_time(300)
    assert ends == [("gold", 200)]
    assert world.entries() == 0


def test_what_was_sent_is_told_of_and_what_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def note(moment: Moment, data: Watch) -> None:
        told.append(f"{moment.data.split(b' ')[0].decode()} {moment.destination[0]}")

    monkeypatch.setitem(watches.callbacks, When.SENT, [note])
    sent = proxied(world)
    assert told == ["SIP/2.0 127.0.1.1", "INVITE 127.0.1.2"]
    world.pass_time(0.6)
    assert told[2:] == ["INVITE 127.0.1.2"]
    world.receive(reply_to(sent, 486), UAS1)
    assert told[3:] == ["ACK 127.0.1.2", "SIP/2.0 127.0.1.1"]


def test_a_callback_that_raises_is_logged_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def bad(moment: Moment, data: Watch) -> None:
        data.tag = "broken"
        if moment.message is not None:
            moment.message.append_header("X-Broken: yes\r\n")
        moment.post(watching.lines, Line("?", 0, "", []))
        raise RuntimeError("a fault")

    for when in When:
        monkeypatch.setitem(watches.callbacks, when, [bad, *watches.callbacks.get(when, [])])
    sent = proxied(world)
    assert (sent.value("x-tag"), sent.value("x-broken")) == ("gold.0", None)
    answer = find(world.receive(reply_to(sent, 200), UAS1), "200>UAC")
    assert (answer.value("x-tag"), answer.value("x-broken")) == ("gold", None)
    assert [line.tag for line in written] == ["gold"]
    assert "watching, reply_out of a transaction: RuntimeError: a fault" in capfd.readouterr().err
    world.pass_time(300)
    assert world.entries() == 0


def test_data_for_every_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "begin", lambda ctx: Watch(f"all {ctx.msg.method}"))
    assert proxied(world, script=relay.relay).value("x-tag") is None  # the script has not loaded the module
    world.script(relay.relay)
    this.program.modules["watching"] = watching.module
    assert find(world.receive(request("MESSAGE", branch="b2"), UAC), "MESSAGE>UAS1").value("x-tag") == "all MESSAGE.0"


# --- exactly once -----------------------------------------------------------------------------------------------------


def test_what_could_not_be_stored_was_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = proxied(world)

    def full(*_: object) -> None:
        raise StoreFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(LmdbStore, "batch", full)
        assert world.receive(reply_to(sent, 200), UAS1) == []
    assert written == []
    assert kept(world).seen == []
    assert summary(world.receive(reply_to(sent, 200), UAS1)) == ["200>UAC"]  # the callee repeats it
    assert len(written) == 1


def test_a_request_that_was_a_retransmission_after_all_is_told_of_once(world: World) -> None:
    """Two processes get a request and its retransmission at the same time, and both answer it."""

    def twice(ctx: Context) -> int:
        watching.watch(ctx, "gold")
        server_transaction.new_transaction(ctx)
        if ctx.msg.header("x-again") is None:
            world.script(twice)
            other = request("MESSAGE", extra="X-Again: 1\r\n")
            from opensips_py.tm.receive import receive_message

            receive_message(other, UAC, world.socket)
        return server_transaction.reply(ctx, 480, "Gone")

    world.script(twice)
    assert summary(world.receive(request("MESSAGE"), UAC))[:1] == ["480>UAC"]
    assert [(line.code, line.seen) for line in written] == [(480, ["completed 480"])]
    assert world.store.count(outbox.PREFIX) == 0


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before the delivery", "in the delivery", "after the delivery"])
def test_what_was_posted_is_delivered_once_whenever_the_process_dies(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    sent = proxied(world)
    with monkeypatch.context() as patch:
        if when == "before the delivery":
            patch.setitem(transaction.tellers, outbox.PREFIX, _dies)
        elif when == "in the delivery":
            patch.setattr(watching.lines, "_deliver", _dies)
        else:
            patch.setattr(outbox, "_delivered", _dies)
        with pytest.raises(KeyboardInterrupt):
            world.receive(reply_to(sent, 200), UAS1)
    assert world.store.count(outbox.PREFIX) == 1
    outbox.sweep()  # its process lives, as far as anybody knows
    assert len(written) == (when == "after the delivery")
    monkeypatch.setattr(this, "incarnation", this.incarnation + 1)
    outbox.sweep()
    assert [line.code for line in written] == [200]
    outbox.sweep()
    assert world.store.count(outbox.PREFIX) == 0


def test_a_delivery_that_fails_is_tried_again_and_given_up_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tried: list[tuple[float, bool]] = []

    def refuse(line: Line, again: bool) -> int:
        tried.append((world.now - 1000, again))
        return -1

    monkeypatch.setattr(watching.lines, "_deliver", refuse)
    monkeypatch.setattr(watching.lines, "patience", 100.0)
    watching.lines.post(Line("INVITE", 200, "", []))
    for _ in range(1000):
        world.now += 1
        outbox.sweep()
    assert [at for at, _ in tried] == [0, 1, 3, 7, 15, 31, 63, 123]
    assert [again for _, again in tried] == [False] + [True] * 7
    assert world.store.count(outbox.PREFIX) == 0
    assert "given up after 8 tries, and lost: watching" in capfd.readouterr().err


class Silent(Operation):
    """A server that never answers."""

    name = "silent"

    def start(self) -> Done | None:
        return None

    def fileno(self) -> int:
        return -1

    def advance(self) -> Done | None:
        return None

    def expire(self) -> Done:
        return Done(-1)


def test_a_delivery_that_never_ends_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    timers_: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(this.reactor, "call_at", lambda when, call: timers_.append((when, call)), raising=False)
    monkeypatch.setattr(this.reactor, "cancel", lambda handle: None, raising=False)
    tried: list[bool] = []

    def ask(line: Line, again: bool) -> Operation:
        tried.append(again)
        return Silent()

    monkeypatch.setattr(watching.lines, "_deliver", ask)
    watching.lines.post(Line("INVITE", 200, "", []))
    assert len(outbox.under_way) == 1
    ((when, late),) = timers_
    assert when == world.now + outbox.TRY_SECONDS
    late()
    assert not outbox.under_way
    world.now += 2
    outbox.sweep()
    assert tried == [False, True]
    timers_[-1][1]()


def test_a_sweep_gets_to_every_item(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SWEEP_AT_ONCE", 3)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "deliver", lambda *_: None)
        for n in range(8):
            watching.lines.post(Line("INVITE", n, "", []))
    monkeypatch.setattr(this, "incarnation", this.incarnation + 1)
    for _ in range(3):
        outbox.sweep()
    assert [line.code for line in written] == list(range(8))


# --- timers -----------------------------------------------------------------------------------------------------------

PREFIX = b"mwatching:"


def _timer(world: World, key: bytes, seconds: float) -> None:
    with world.store.batch() as batch:
        batch.put(key, b"entry")
        batch.put(rows.row(world.now + seconds, key), rows.LOAD)


def test_an_entry_of_a_module_has_a_timer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fired: list[tuple[bytes, float]] = []

    def due(entry: timers.Due) -> float | None:
        fired.append((entry.key, entry.now - 1000))
        return entry.now + 5 if len(fired) < 3 else None

    monkeypatch.setattr(timers, "handlers", {})
    timers.handler(PREFIX)(due)
    world.script(relay.relay)
    _timer(world, PREFIX + b"1", 2)
    world.pass_time(60)
    assert fired == [(PREFIX + b"1", 2), (PREFIX + b"1", 7), (PREFIX + b"1", 12)]
    assert world.store.count(rows.PREFIX) == 0
    assert world.store.get(PREFIX + b"1") == b"entry"


def test_a_timer_that_always_fails_ends_its_entry_and_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fired: list[float] = []

    def due(entry: timers.Due) -> float | None:
        if entry.key.endswith(b"good"):
            return None
        fired.append(entry.now - 1000)
        raise RuntimeError("a fault")

    monkeypatch.setattr(timers, "handlers", {PREFIX: due})
    world.script(relay.relay)
    _timer(world, PREFIX + b"bad", 1)
    _timer(world, PREFIX + b"good", 1)
    world.pass_time(100)
    assert fired == [1, 3, 7, 15, 31]
    assert world.store.count(rows.PREFIX) == 0
    assert [key for key, _ in world.store.scan(PREFIX)] == [PREFIX + b"good"]
    assert "is deleted: its timer has failed 5 times" in capfd.readouterr().err


def test_a_timer_of_a_module_that_is_gone_is_deleted(world: World) -> None:
    world.script(relay.relay)
    _timer(world, PREFIX + b"1", 1)
    world.pass_time(5)
    assert world.store.count(rows.PREFIX) == 0


def test_a_timer_stays_when_its_effect_finds_no_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [StoreFull("no room")]

    def due(entry: timers.Due) -> float | None:
        if left:
            raise left.pop()
        fired.append(entry.key)
        return None

    fired: list[bytes] = []
    monkeypatch.setattr(timers._Pause, "until", 0.0)
    monkeypatch.setattr(timers, "handlers", {PREFIX: due})
    world.script(relay.relay)
    _timer(world, PREFIX + b"1", 1)
    world.pass_time(5)
    assert fired == [PREFIX + b"1"]


def test_failure_routes_that_wait_keep_what_was_posted(world: World) -> None:
    """What is stored is told of although the transaction is let go for a wait instead of being released."""
    assert failure_route is not None
    proxied(world)
    (key,) = [key for key, _ in world.store.scan(b"t")]
    tx = Transaction(key)
    rec = transaction.hold(tx)
    assert rec is not None
    tx.told.append(watching.lines.row(Line("INVITE", 180, "waits", [])))
    transaction.commit(tx)
    depth = transaction.let_go(tx)
    assert written == []
    transaction.take_back(tx, depth)
    transaction.release(tx)
    assert [line.tag for line in written] == ["waits"]


# --- requests made here, copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 404, 408])
def test_a_request_that_is_made_here_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(watches, "begin", lambda ctx: Watch("made here") if ctx.msg.method == "MESSAGE" else None)
    world.script(relay.relay)
    this.program.modules["watching"] = watching.module
    target = "sip:bob@127.0.1.2:15062"
    uac.send(LocalRequest("MESSAGE", target, "<sip:here@x>;tag=f", "<sip:bob@x>", "made@here"))
    sent = find(world.taken(), "MESSAGE>UAS1")
    assert sent.value("x-tag") == "made here.0"
    if code == 408:
        world.pass_time(31)
    else:
        world.receive(reply_to(sent, code), UAS1)
    assert [(line.method, line.code, line.tag) for line in written] == [("MESSAGE", code, "made here")]
    world.pass_time(60)
    assert world.entries() == 0


def test_a_copy_completes_nothing_that_is_answered(world: World) -> None:
    def script(ctx: Context) -> int:
        watching.watch(ctx, "copied")
        relay.replicate(ctx, "sip:127.0.1.3:15063")
        return server_transaction.reply(ctx, 200, "OK")

    world.script(script)
    copy = find(world.receive(request("MESSAGE"), UAC), "MESSAGE>UAS2")
    assert [line.code for line in written] == [200]
    world.receive(reply_to(copy, 404), UAS2)
    assert [line.code for line in written] == [200]


def test_a_cancel_without_a_transaction_is_told_of_with_its_own_data(world: World) -> None:
    def script(ctx: Context) -> int:
        watching.watch(ctx, f"a {ctx.msg.method}")
        return relay.relay(ctx)

    sent = proxied(world, script=script)
    world.receive(reply_to(sent, 180), UAS1)
    world.receive(request("CANCEL"), UAC)
    assert [(line.method, line.code, line.tag) for line in written] == [("CANCEL", 200, "a CANCEL")]
    world.receive(reply_to(sent, 487), UAS1)
    assert [(line.method, line.tag) for line in written[1:]] == [("INVITE", "a INVITE")]


@pytest.mark.parametrize("stored", [False, True])
def test_what_could_not_be_stored_is_neither_sent_nor_told_later(
    world: World, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """The store is full once, just when a reply is made; the reply that is made in its place is the only one."""
    full = iter([True])
    batch = world.store.batch

    def once() -> Any:
        if next(full, False):
            raise StoreFull("full")
        return batch()

    def main(ctx: Context) -> int:
        assert server_transaction.new_transaction(ctx) == 1
        assert not stored or server_transaction.reply(ctx, 180, "Ringing") == 1
        monkeypatch.setattr(world.store, "batch", once)
        return server_transaction.reply(ctx, 486, "Busy Here")

    world.script(main)
    assert [text for text in summary(world.receive(request("INVITE"), UAC)) if text[0] != "1"] == ["503>UAC"]


def test_an_item_that_cannot_be_read_holds_up_no_end(world: World) -> None:
    world.store.put(outbox.PREFIX + b"12345678", b"\xc1")
    ended: list[bool] = []
    outbox.finish(0.0, lambda: ended.append(True))
    assert ended == [True]
    outbox.sweep()
    assert world.store.count(outbox.PREFIX) == 0


def test_several_items_posted_at_once_are_delivered_once_each_also_when_the_moment_comes_again(world: World) -> None:
    tx = SimpleNamespace(key=b"t" + bytes(8), told=[])
    for _ in range(2):  # the process died in the route after the first time
        moment = Moment(When.FAILURE, tx, None, 486, branch=0)  # type: ignore[arg-type]
        moment.post_at_once(watching.lines, Line("INVITE", 486, "first", []))
        moment.post_at_once(watching.lines, Line("INVITE", 486, "second", []))
    assert [line.tag for line in written] == ["first", "second"]


def test_completed_is_told_of_the_reply_as_it_was_received(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not somebody changes it on its way out."""
    seen: list[bool] = []

    def edit(moment: Moment, data: Watch) -> None:
        assert moment.message is not None
        moment.message.append_header("X-Added: 1\r\n")

    def completed(moment: Moment, data: Watch) -> None:
        assert moment.message is not None
        seen.append(moment.message.has("x-added"))

    subscriber = callbacks.declared[watches.name]
    monkeypatch.setattr(subscriber, "callbacks", {When.REPLY_OUT: [edit], When.COMPLETED: [completed]})

    def main(ctx: Context) -> int:
        watches.set(ctx, Watch())
        return relay.relay(ctx)

    world.script(main)
    sent = find(world.receive(request("MESSAGE"), UAC), "MESSAGE.*")
    up = find(world.receive(reply_to(sent, 200), UAS1), "200.*")
    assert up.has("x-added")
    assert seen == [False]
