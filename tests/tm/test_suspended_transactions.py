"""What the transaction layer does while a script is suspended, and when it goes on (in whichever process)."""

from __future__ import annotations

import pytest

from opensips_py.modules.tm import functions as tm
from opensips_py.script.context import Context
from opensips_py.server.process import this
from opensips_py.tm import relay, server_transaction
from opensips_py.tm.receive import receive_message
from opensips_py.tm.record import PARKED
from opensips_py.tm.request_script import REQUEST
from tests.tm.world import UAC, UAS1, World, find, reply_to, request, summary


class Suspension:
    """A script that suspends; ``go_on`` resumes it with what another process would have: the frozen context."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.frozen = b""
        self.runs: list[str] = []
        world.script(self.main)

    def main(self, ctx: Context) -> int:
        self.runs.append(ctx.msg.method)
        if ctx.msg.method == "CANCEL":
            return tm.t_relay(ctx)
        if server_transaction.new_transaction(ctx) <= 0:
            return 0
        assert REQUEST.park(ctx)
        ctx.suspended = True
        self.frozen = ctx.freeze()
        return 0

    def resumed(self) -> Context:
        ctx = Context.thaw(self.frozen, this.sockets_by_name)
        server_transaction.resume(ctx)
        return ctx


@pytest.fixture
def suspension(world: World) -> Suspension:
    return Suspension(world)


def test_an_invite_is_answered_100_and_then_kept(world: World, suspension: Suspension) -> None:
    assert summary(world.receive(request("INVITE"), UAC)) == ["100>UAC"]
    assert world.pass_time(10_000) == []
    assert [rec.flags & PARKED for rec in world.records()] == [PARKED]


def test_retransmissions_are_absorbed(world: World, suspension: Suspension) -> None:
    assert world.receive(request("OPTIONS"), UAC) == []
    assert world.receive(request("OPTIONS"), UAC) == []
    assert suspension.runs == ["OPTIONS", "OPTIONS"]
    assert len(world.records()) == 1


def test_the_resumed_script_relays(world: World, suspension: Suspension) -> None:
    world.receive(request("INVITE"), UAC)
    ctx = suspension.resumed()
    assert relay.relay(ctx) == 1
    server_transaction.script_end(ctx)
    invite = find(world.taken(), "INVITE.*")
    assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]
    assert world.pass_time(40) == []
    assert world.entries() == 0


def test_the_resumed_script_replies(world: World, suspension: Suspension) -> None:
    world.receive(request("OPTIONS"), UAC)
    ctx = suspension.resumed()
    assert server_transaction.reply(ctx, 200, "Done") == 1
    server_transaction.script_end(ctx)
    assert summary(world.taken()) == ["200>UAC"]
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["200>UAC"]
    assert world.pass_time(20) == []
    assert world.entries() == 0


def test_a_resumed_script_that_does_nothing_sends_nothing(world: World, suspension: Suspension) -> None:
    world.receive(request("OPTIONS"), UAC)
    ctx = suspension.resumed()
    server_transaction.script_end(ctx)
    assert world.taken() == []
    assert world.receive(request("OPTIONS"), UAC) == []
    assert world.pass_time(20) == []
    assert world.entries() == 0


def test_cancel_while_suspended_answers_200_and_487_only_at_relay(world: World, suspension: Suspension) -> None:
    world.receive(request("INVITE"), UAC)
    assert summary(world.receive(request("CANCEL"), UAC)) == ["200>UAC"]
    ctx = suspension.resumed()
    assert tm.t_was_cancelled(ctx) == 1
    assert relay.relay(ctx) == -3
    server_transaction.script_end(ctx)
    out = world.taken()
    assert summary(out) == ["487>UAC"]
    assert out[0][1].reason == "Request Terminated"
    world.receive(request("ACK", to_tag="x"), UAC)
    world.pass_time(40)
    assert world.entries() == 0


def test_after_a_cancel_the_script_may_still_reply(world: World, suspension: Suspension) -> None:
    world.receive(request("INVITE"), UAC)
    world.receive(request("CANCEL"), UAC)
    ctx = suspension.resumed()
    assert server_transaction.reply(ctx, 403, "No") == 1
    assert summary(world.taken()) == ["403>UAC"]


def test_early_487_on_request(world: World, suspension: Suspension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_transaction.hooks, "cancel_parked", True)
    world.receive(request("INVITE"), UAC)
    assert sorted(summary(world.receive(request("CANCEL"), UAC))) == ["200>UAC", "487>UAC"]
    ctx = suspension.resumed()
    assert relay.relay(ctx) == -3
    server_transaction.script_end(ctx)
    assert world.taken() == []
    world.receive(request("ACK", to_tag="x"), UAC)
    world.pass_time(40)
    assert world.entries() == 0


def test_suspending_twice(world: World, suspension: Suspension) -> None:
    world.receive(request("OPTIONS"), UAC)
    ctx = suspension.resumed()
    assert server_transaction.new_transaction(ctx) == 1
    assert REQUEST.park(ctx)
    assert world.pass_time(100) == []
    ctx = suspension.resumed()
    server_transaction.reply(ctx, 200, "OK")
    assert summary(world.taken()) == ["200>UAC"]


def test_force_rport_outlives_the_suspension(world: World, suspension: Suspension) -> None:
    def main(ctx: Context) -> int:
        ctx.msg.force_rport = True
        return suspension.main(ctx)

    world.script(main)
    world.receive(request("OPTIONS"), ("127.0.1.1", 40000))
    ctx = suspension.resumed()
    server_transaction.reply(ctx, 200, "OK")
    ((address, msg),) = world.taken()
    assert address == ("127.0.1.1", 40000)
    assert msg.via.rport == 40000


def test_two_processes_that_receive_one_request_make_one_transaction(world: World) -> None:
    """The second copy comes while the first one's script has not yet stored anything."""
    answers: list[object] = []

    def slow(ctx: Context) -> int:
        server_transaction.new_transaction(ctx)
        if not answers:
            answers.append("first")
            world.script(quick)
            receive_message(request("OPTIONS"), UAC, world.socket)
        answers.append(server_transaction.reply(ctx, 202, "slow"))
        return 1

    def quick(ctx: Context) -> int:
        server_transaction.new_transaction(ctx)
        return server_transaction.reply(ctx, 200, "quick")

    world.script(slow)
    out = world.receive(request("OPTIONS"), UAC)
    assert summary(out) == ["200>UAC", "200>UAC"]
    assert answers == ["first", 0]
    assert len(world.records()) == 1
