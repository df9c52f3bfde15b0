"""What replies, timers and a CANCEL do to a transaction while a failure or onreply route of it is suspended."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Branch, Context
from opensips_py.server.process import this
from opensips_py.tm import relay, server_transaction
from opensips_py.tm.failure_route import FailureRoute
from opensips_py.tm.record import MINOR
from opensips_py.tm.request_script import following
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary


class Call:
    """A call to two destinations, the second of them minor; its failure route suspends when the first has refused."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.frozen = b""
        self.state = b""
        self.failed: list[int] = []
        world.script(self.main, failure_f=self.failure)
        out = world.receive(request("INVITE"), UAC)
        self.first, self.minor = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
        out = world.receive(reply_to(self.minor, 180), UAS2)
        assert summary(out) == ["180>UAC"]
        self.out = summary(world.receive(reply_to(self.first, 486, "Busy"), UAS1))

    def main(self, ctx: Context) -> int:
        if ctx.msg.method == "INVITE":
            ctx.armed_failure = "f"
            ctx.branches.append(Branch("sip:carl@127.0.1.3:15063", flags=2))
        return relay.relay(ctx)

    def failure(self, ctx: Context) -> int:
        """As async() does it."""
        self.failed.append(ctx.reply_code)
        ctx.suspended = True
        follow = following(ctx)
        assert follow.park(ctx)
        self.frozen, self.state = ctx.freeze(), follow.freeze()
        return 0

    def go_on(self, code: int = 0) -> list[str]:
        """The resume route runs, in whichever process: it answers with ``code``, or does nothing."""
        follow = FailureRoute.thaw(self.state)
        ctx = Context.thaw(self.frozen, this.sockets_by_name)
        ctx.continuation = follow
        assert follow.resume(ctx)
        assert ctx.reply_code == 486
        if code:
            server_transaction.reply(ctx, code, "Answer")
        follow.end(ctx)
        return summary(self.world.taken())


@pytest.fixture
def call(world: World, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setattr(server_transaction.hooks, "minor_branch_flag", 2)
    return Call(world)


def test_a_late_negative_reply_decides_nothing(world: World, call: Call) -> None:
    assert sorted(call.out) == ["ACK>UAS1", "CANCEL>UAS2"]
    assert world.records()[0].branches[1].flags & MINOR
    assert summary(world.receive(reply_to(call.minor, 487, "Terminated"), UAS2)) == ["ACK>UAS2"]
    assert world.pass_time(1000) == []
    assert call.failed == [486]
    assert call.go_on() == ["486>UAC"]


def test_even_a_6xx_does_not(world: World, call: Call) -> None:
    assert summary(world.receive(reply_to(call.minor, 603, "Decline"), UAS2)) == ["ACK>UAS2"]
    assert call.failed == [486]
    assert call.go_on(404) == ["404>UAC"]


def test_nor_the_end_of_its_time(world: World, call: Call) -> None:
    world.pass_time(500)
    assert call.failed == [486]
    assert world.records()[0].code < 200
    assert call.go_on() == ["486>UAC"]


def test_a_2xx_goes_upstream_and_settles_it(world: World, call: Call) -> None:
    assert summary(world.receive(reply_to(call.minor, 200), UAS2)) == ["200>UAC"]
    world.pass_time(500)
    assert call.go_on(404) == []
    world.pass_time(60)
    assert world.entries() == 0


def test_a_cancel_is_answered_and_honoured_afterwards(world: World, call: Call) -> None:
    assert summary(world.receive(request("CANCEL"), UAC)) == ["200>UAC"]
    assert call.go_on() == ["487>UAC"]


def test_with_cancel_parked_the_caller_has_its_487_at_once(world: World, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_transaction.hooks, "cancel_parked", True)
    assert sorted(summary(world.receive(request("CANCEL"), UAC))) == ["200>UAC", "487>UAC"]
    assert call.go_on(404) == []


def test_a_retransmitted_request_is_answered_with_the_last_reply(world: World, call: Call) -> None:
    assert summary(world.receive(request("INVITE"), UAC)) == ["180>UAC"]
    assert call.failed == [486]
