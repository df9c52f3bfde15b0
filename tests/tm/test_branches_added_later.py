"""Branches that come to a transaction while others are under way, or when all have failed: also from another process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.engine.dummy_request import report_context
from opensips_py.evi.events import TRANSACTION
from opensips_py.modules.tm import functions as tm
from opensips_py.modules.tm import injection
from opensips_py.script.context import Branch, Context
from opensips_py.server.process import this
from opensips_py.sip.message import parse
from opensips_py.tm import relay, server_transaction, transaction
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary

LATER = "sip:later@127.0.1.3:15063"


def waits(ctx: Context) -> int:
    """t_newtran(); t_wait_for_new_branches(); t_relay();"""
    if ctx.msg.method != "INVITE":
        return relay.relay(ctx)
    server_transaction.new_transaction(ctx)
    assert injection.t_wait_for_new_branches(ctx) == 1
    return relay.relay(ctx)


def elsewhere(world: World, uri: str = LATER, flags: str | None = None) -> tuple[int, list[str]]:
    """Another process, told of an event, adds a branch to the only transaction; what goes out."""
    [key] = [key for key, _ in world.store.scan(b"t")]
    ctx = report_context()
    ctx.slots[TRANSACTION] = key
    ctx.new_uri = uri
    world.sent.clear()
    result = injection.t_inject_branches(ctx, "msg", flags)
    return result, summary(world.taken())


def test_a_waiting_transaction_outlives_its_branches_and_takes_others(world: World) -> None:
    world.script(waits)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    assert summary(world.receive(reply_to(first, 404), UAS1)) == ["ACK>UAS1"]
    world.pass_time(40)
    world.sent.clear()
    [key] = [key for key, _ in world.store.scan(b"t")]
    ctx = report_context()
    ctx.slots[TRANSACTION] = key
    ctx.new_uri = LATER
    ctx.branches = [Branch("sip:third@127.0.1.2:15062")]
    assert injection.t_inject_branches(ctx, "msg") == 1
    out = world.taken()
    assert summary(out) == ["INVITE>UAS2", "INVITE>UAS1"]
    assert out[0][1].ruri == LATER
    assert [via.host for via in out[0][1].vias] == ["127.0.0.1", "127.0.1.1"]
    assert summary(world.receive(reply_to(out[1][1], 486), UAS1)) == ["ACK>UAS1"]
    assert "200>UAC" in summary(world.receive(reply_to(out[0][1], 200), UAS2))
    world.pass_time(120)  # its timer rows go when they are due
    assert world.entries() == 0


def test_the_wait_ends_after_fr_inv_timeout_with_the_best_reply(world: World) -> None:
    world.script(waits)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 404), UAS1)
    assert [line for line in summary(world.pass_time(119)) if line != "ACK>UAS1"] == []
    assert summary(world.pass_time(2))[:1] == ["404>UAC"]
    world.receive(request("ACK"), UAC)
    world.pass_time(60)
    assert world.entries() == 0


def test_nothing_but_a_wait_ends_with_408(world: World) -> None:
    def script(ctx: Context) -> int:
        server_transaction.new_transaction(ctx)
        return injection.t_wait_for_new_branches(ctx)

    world.script(script)
    assert summary(world.receive(request("INVITE"), UAC)) == ["100>UAC"]
    assert summary(world.pass_time(121))[:1] == ["408>UAC"]


def test_a_cancel_ends_the_wait_with_487(world: World) -> None:
    world.script(waits)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 404), UAS1)
    assert sorted(summary(world.receive(request("CANCEL"), UAC))) == ["200>UAC", "487>UAC"]
    assert elsewhere(world) == (-2, [])
    world.receive(request("ACK"), UAC)
    world.pass_time(120)
    assert world.entries() == 0


def test_a_cancel_while_a_branch_rings_ends_with_the_branch(world: World) -> None:
    world.script(waits)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 180), UAS1)
    assert sorted(summary(world.receive(request("CANCEL"), UAC))) == ["200>UAC", "CANCEL>UAS1"]
    assert elsewhere(world) == (-3, [])
    assert sorted(summary(world.receive(reply_to(first, 487), UAS1))) == ["487>UAC", "ACK>UAS1"]


def test_branches_may_be_added_while_others_ring(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request leaves as it was relayed, with what the script has added to it, whoever adds the branch."""

    def script(ctx: Context) -> int:
        ctx.msg.append_header("X-Script: yes\r\n")
        return relay.relay(ctx)

    world.script(script)
    monkeypatch.setattr(this.program, "called", frozenset({"t_inject_branches"}))
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 180), UAS1)
    [key] = [key for key, _ in world.store.scan(b"t")]
    ctx = report_context()
    ctx.slots[TRANSACTION], ctx.new_uri = key, LATER
    world.sent.clear()
    assert injection.t_inject_branches(ctx, "msg") == 1
    second = find(world.taken(), "INVITE>UAS2")
    assert (second.value("x-script"), second.value("call-id")) == ("yes", "call1@test")
    assert summary(world.receive(reply_to(first, 486), UAS1)) == ["ACK>UAS1"]
    assert "486>UAC" in summary(world.receive(reply_to(second, 503), UAS2))


def test_the_branches_under_way_may_be_cancelled(world: World) -> None:
    world.script(waits)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 180), UAS1)
    result, out = elsewhere(world, flags="cancel")
    assert (result, sorted(out)) == (1, ["CANCEL>UAS1", "INVITE>UAS2"])
    assert summary(world.receive(reply_to(first, 487), UAS1)) == ["ACK>UAS1"]


def test_a_reply_route_adds_its_branches(world: World) -> None:
    def script(ctx: Context) -> int:
        ctx.armed_reply = "r"
        return relay.relay(ctx)

    def reply(ctx: Context) -> int:
        if ctx.msg.status == 180:
            assert injection.t_inject_branches(ctx, "msg") == -1  # no branch to add
            ctx.branches.append(Branch(LATER))
            assert injection.t_inject_branches(ctx, "msg", "cancel") == 1
            assert ctx.branches == []
        return 1

    world.script(script, onreply_r=reply)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    out = world.receive(reply_to(first, 180), UAS1)
    assert sorted(summary(out)) == ["180>UAC", "CANCEL>UAS1", "INVITE>UAS2"]


def test_a_contact_of_an_event_becomes_a_branch(world: World) -> None:
    world.script(waits)
    find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    [key] = [key for key, _ in world.store.scan(b"t")]
    contact: dict[str, list[str | int]] = {
        "uri": ["sip:phone@10.0.0.1"],
        "received": ["sip:127.0.1.3:15063"],
        "path": [""],
        "qval": [-1],
        "socket": ["udp:127.0.0.1:15060"],
        "bflags": [4],
    }
    ctx = report_context()
    ctx.slots[TRANSACTION], ctx.avps = key, dict(contact)
    world.sent.clear()
    assert injection.t_inject_branches(ctx, "event") == 1
    sent = find(world.taken(), "INVITE>UAS2")
    assert sent.ruri == "sip:phone@10.0.0.1"
    assert world.records()[0].branches[-1].script_flags == 4
    ctx.avps = contact | {"path": ["<sip:127.0.1.2:15062;lr>,<sip:9.9.9.9;lr>"]}
    assert injection.t_inject_branches(ctx, "event") == 1
    assert find(world.taken(), "INVITE>UAS1").values("route") == ["<sip:127.0.1.2:15062;lr>", "<sip:9.9.9.9;lr>"]
    del ctx.avps["bflags"]
    assert injection.t_inject_branches(ctx, "event") == -1


def test_a_failure_route_runs_when_the_wait_is_over(world: World) -> None:
    """Before, nothing has failed yet; what it relays to is waited for in turn."""
    codes = []

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return waits(ctx)

    def failure(ctx: Context) -> int:
        codes.append(ctx.reply_code)
        ctx.new_uri = LATER
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 486), UAS1)
    assert codes == []
    second = find(world.pass_time(120.2), "INVITE>UAS2")
    assert codes == [486]
    assert "480>UAC" in summary(world.receive(reply_to(second, 480), UAS2))


@pytest.mark.parametrize("call", [injection.t_wait_for_new_branches, lambda ctx: injection.t_inject_branches(ctx, "msg")])
def test_without_a_transaction_nothing_happens(world: World, call: Callable[[Context], int]) -> None:
    codes = []

    def script(ctx: Context) -> int:
        codes.append(call(ctx))
        return 1

    world.script(script)
    assert world.receive(request("INVITE"), UAC) == []
    assert codes == [-1]


def test_only_an_invite_waits(world: World) -> None:
    def script(ctx: Context) -> int:
        server_transaction.new_transaction(ctx)
        assert injection.t_wait_for_new_branches(ctx) == -1
        return tm.t_reply(ctx, 200, "OK")

    world.script(script)
    assert summary(world.receive(request("MESSAGE"), UAC)) == ["200>UAC"]


# --- copies -----------------------------------------------------------------------------------------------------------


def test_replies_to_copies_are_not_relayed(world: World) -> None:
    def script(ctx: Context) -> int:
        server_transaction.new_transaction(ctx)
        assert tm.t_reply(ctx, 200, "Mine") == 1
        ctx.branches.append(Branch("sip:127.0.1.3:15063"))
        return tm.t_replicate(ctx, "sip:127.0.1.2:15062")

    world.script(script)
    out = world.receive(request("REGISTER", "sip:registrar.invalid"), UAC)
    assert summary(out) == ["200>UAC", "REGISTER>UAS1", "REGISTER>UAS2"]
    for _, copy in out[1:]:
        assert (copy.ruri, len(copy.vias)) == ("sip:registrar.invalid", 2)
    assert world.receive(reply_to(out[1][1], 200), UAS1) == []
    assert summary(world.pass_time(1)) == ["REGISTER>UAS2"]
    assert world.receive(reply_to(out[2][1], 500), UAS2) == []
    world.pass_time(40)
    assert world.entries() == 0


def test_a_copy_makes_the_transaction_and_leaves_the_answer_to_the_script(world: World) -> None:
    def script(ctx: Context) -> int:
        return tm.t_replicate(ctx, "sip:127.0.1.2:15062") and tm.t_reply(ctx, 202, "Accepted")

    world.script(script)
    out = world.receive(request("MESSAGE"), UAC)
    assert sorted(summary(out)) == ["202>UAC", "MESSAGE>UAS1"]
    assert summary(world.receive(request("MESSAGE"), UAC)) == ["202>UAC"]


def test_a_copied_invite_is_acknowledged_here(world: World) -> None:
    world.script(lambda ctx: tm.t_replicate(ctx, "sip:127.0.1.2:15062"))
    out = world.receive(request("INVITE"), UAC)
    assert sorted(summary(out)) == ["100>UAC", "INVITE>UAS1"]
    assert summary(world.receive(reply_to(find(out, "INVITE.*"), 200), UAS1)) == ["ACK>UAS1"]


def test_a_copy_that_cannot_be_sent_is_not_answered(world: World) -> None:
    codes = []

    def script(ctx: Context) -> int:
        codes.append(tm.t_replicate(ctx, "sip:127.0.1.2:15062;transport=unknown"))
        return 1

    world.script(script)
    assert world.receive(request("MESSAGE"), UAC) == []
    assert codes == [-4]


def test_branches_that_cross_get_numbers_of_their_own(world: World) -> None:
    """t_relay() waits in the branch route of its second target; meanwhile another process adds a branch."""
    results: list[int] = []

    def branch(ctx: Context) -> int:
        if ctx.branch_index == 2:
            depth = transaction.let_go(ctx.tx)
            results.append(elsewhere(world)[0])
            transaction.take_back(ctx.tx, depth)
        return 1

    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        ctx.branches.append(Branch("sip:second@127.0.1.2:15062"))
        return waits(ctx)

    world.script(script, branch_b=branch)
    world.receive(request("INVITE"), UAC)
    [rec] = world.records()
    assert results == [1]
    users = ["later@127.0.1.3:15063", "bob@127.0.1.2:15062", "second@127.0.1.2:15062"]
    assert [branch.uri for branch in rec.branches[1:]] == [f"sip:{user}" for user in users]
    for n, sent in enumerate(rec.branches):
        if n:
            assert sent.via.rpartition(".")[2] == f"{n:x}"
            assert parse(sent.sent).via.branch == sent.via
    assert "180>UAC" in summary(world.receive(reply_to(parse(rec.branches[2].sent), 180), UAS1))
    assert [branch.code for branch in world.records()[0].branches] == [0, 0, 180, 0]
