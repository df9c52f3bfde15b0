"""A 2xx to an INVITE that gets lost on its way to the caller is repeated by the callee until the ACK comes (RFC 6026 7.1)."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Branch, Context
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay
from opensips_py.tm.settings import settings
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary


def answered_call(world: World) -> SipMessage:
    world.script(relay.relay)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]
    return invite


def test_it_passes_for_32_seconds(world: World) -> None:
    invite = answered_call(world)
    for seconds in (0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        assert world.pass_time(seconds) == []
        assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]
    world.pass_time(1)
    assert world.entries() == 0


def test_once_the_ack_has_passed_the_transaction_ends_soon(world: World) -> None:
    invite = answered_call(world)
    world.pass_time(2)
    assert summary(world.receive(request("ACK", branch="b2", to_tag="uas"), UAC)) == ["ACK>UAS1"]
    world.pass_time(4)
    assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]  # the ACK was lost: one more
    assert summary(world.receive(request("ACK", branch="b3", to_tag="uas"), UAC)) == ["ACK>UAS1"]
    world.pass_time(2)
    assert world.records() == []
    world.pass_time(40)
    assert world.entries() == 0


def test_the_ack_does_not_end_what_other_branches_still_need(world: World) -> None:
    def main(ctx: Context) -> int:
        if ctx.msg.method == "INVITE":
            ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
        return relay.relay(ctx)

    world.script(main)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(second, 180), UAS2)
    assert sorted(summary(world.receive(reply_to(first, 200), UAS1))) == ["200>UAC", "CANCEL>UAS2"]
    world.receive(request("ACK", branch="b2", to_tag="uas"), UAC)
    world.pass_time(20)
    assert summary(world.receive(reply_to(second, 487), UAS2)) == ["ACK>UAS2"]
    world.pass_time(40)
    assert world.entries() == 0


def test_who_sets_wt_timer_gets_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "accepted_timer", 1.0)
    answered_call(world)
    world.pass_time(1.1)
    assert world.entries() == 0
