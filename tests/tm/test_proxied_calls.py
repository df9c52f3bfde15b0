"""Calls and requests through t_relay: forwarding, replies, ACK, CANCEL, forking, retransmission, timeouts."""

from __future__ import annotations

import pytest

from opensips_py.script.context import Branch, Context
from opensips_py.tm import relay, server_transaction
from opensips_py.tm.server_transaction import new_transaction, reply
from opensips_py.tm.settings import settings
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary


def relays(ctx: Context) -> int:
    return relay.relay(ctx)


def forks(ctx: Context) -> int:
    ctx.branches.append(Branch("sip:carl@127.0.1.3:15063"))
    return relay.relay(ctx)


def test_a_call_goes_through_and_leaves_nothing_behind(world: World) -> None:
    world.script(relays)
    out = world.receive(request("INVITE"), UAC)
    assert summary(out) == ["100>UAC", "INVITE>UAS1"]
    invite = find(out, "INVITE.*")
    assert invite.via.sent_by == "127.0.0.1:15060"
    assert invite.vias[1].branch == "z9hG4bK-b1"
    out = world.receive(reply_to(invite, 180), UAS1)
    assert summary(out) == ["180>UAC"]
    assert len(out[0][1].vias) == 1
    assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]
    assert summary(world.receive(request("ACK", branch="b2", to_tag="uas"), UAC)) == ["ACK>UAS1"]
    out = world.receive(request("BYE", branch="b3", cseq=2, to_tag="uas"), UAC)
    assert summary(out) == ["BYE>UAS1"]
    assert summary(world.receive(reply_to(out[0][1], 200), UAS1)) == ["200>UAC"]
    assert world.pass_time(60) == []
    assert world.entries() == 0


def test_a_retransmitted_invite_gets_the_last_reply_again(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert summary(world.receive(request("INVITE"), UAC)) == ["100>UAC"]
    world.receive(reply_to(invite, 180), UAS1)
    assert summary(world.receive(request("INVITE"), UAC)) == ["180>UAC"]
    assert summary(world.receive(reply_to(invite, 486, "Busy"), UAS1)) == ["ACK>UAS1", "486>UAC"]
    assert summary(world.receive(request("INVITE"), UAC)) == ["486>UAC"]
    assert summary(world.receive(request("ACK", to_tag="uas"), UAC)) == []
    assert world.pass_time(30) == []
    assert world.entries() == 0


def test_a_repeated_200_is_relayed_again(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 200), UAS1)
    assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]


def test_100_is_not_relayed_and_ends_retransmission(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert world.receive(reply_to(invite, 100), UAS1) == []
    assert world.pass_time(4) == []


def test_requests_are_retransmitted_with_doubling_intervals(world: World) -> None:
    world.script(relays)
    world.receive(request("INVITE"), UAC)
    assert [at for at, _, _ in world.pass_time(12)] == [0.5, 1.5, 3.5, 7.5, 11.5]


def test_a_provisional_reply_slows_the_retransmission_of_other_requests(world: World) -> None:
    world.script(relays)
    sent = find(world.receive(request("OPTIONS"), UAC), "OPTIONS.*")
    world.pass_time(0.7)
    world.receive(reply_to(sent, 183), UAS1)
    assert [at for at, _, _ in world.pass_time(9)] == [4.0, 8.0]


def test_no_reply_at_all_gives_408(world: World) -> None:
    world.script(relays)
    world.receive(request("OPTIONS"), UAC)
    out = world.pass_time(31)
    assert out[-1][0] == 30.0
    assert summary(out)[-1] == "408>UAC"
    assert out[-1][2].reason == "Request Timeout"
    assert out[-1][2].to is not None and out[-1][2].to.tag
    assert world.pass_time(30) == []
    assert world.entries() == 0


def test_a_call_that_rings_too_long_is_cancelled_and_answered_408(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 180), UAS1)
    out = world.pass_time(120)
    assert summary(out) == ["CANCEL>UAS1", "408>UAC"]
    cancel = find(out, "CANCEL.*")
    assert cancel.value("reason") == 'SIP;cause=480;text="NO_ANSWER"'
    assert cancel.via.branch == invite.via.branch
    assert world.receive(reply_to(cancel, 200), UAS1) == []
    assert summary(world.receive(reply_to(invite, 487), UAS1)) == ["ACK>UAS1"]
    assert summary(world.receive(request("ACK", to_tag="x"), UAC)) == []
    assert world.pass_time(40) == []
    assert world.entries() == 0


def test_a_negative_reply_is_repeated_until_the_ack(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 404), UAS1)
    out = world.pass_time(4.2)
    assert [at for at, _, _ in out] == [0.5, 1.5, 3.5]
    assert set(summary(out)) == {"404>UAC"}
    world.receive(request("ACK", to_tag="uas"), UAC)
    assert world.pass_time(10) == []
    assert world.entries() == 0


def test_cancel_is_answered_and_passed_on(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 180), UAS1)
    out = world.receive(request("CANCEL"), UAC)
    assert summary(out) == ["CANCEL>UAS1", "200>UAC"]
    answer = find(out, "200.*")
    assert answer.reason == "canceling"
    cancel = find(out, "CANCEL.*")
    assert cancel.value("reason") == 'SIP;cause=487;text="ORIGINATOR_CANCEL"'
    again = world.receive(request("CANCEL"), UAC)
    assert summary(again) == ["200>UAC"]
    assert again[0][1].raw == answer.raw
    assert summary(world.pass_time(0.6)) == ["CANCEL>UAS1"]
    world.receive(reply_to(cancel, 200), UAS1)
    assert world.pass_time(1) == []
    assert summary(world.receive(reply_to(invite, 487), UAS1)) == ["ACK>UAS1", "487>UAC"]


def test_cancel_before_any_reply_waits_for_one(world: World) -> None:
    world.script(relays)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert summary(world.receive(request("CANCEL"), UAC)) == ["200>UAC"]
    out = world.receive(reply_to(invite, 180), UAS1)
    assert sorted(summary(out)) == ["180>UAC", "CANCEL>UAS1"]
    assert find(out, "CANCEL.*").value("reason") is None


def test_the_first_200_cancels_the_other_branches(world: World) -> None:
    world.script(forks)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(first, 180), UAS1)
    world.receive(reply_to(second, 180), UAS2)
    out = world.receive(reply_to(first, 200), UAS1)
    assert sorted(summary(out)) == ["200>UAC", "CANCEL>UAS2"]
    assert find(out, "CANCEL.*").value("reason") == 'SIP ;cause=200 ;text="Call completed elsewhere"'
    assert summary(world.receive(reply_to(second, 487), UAS2)) == ["ACK>UAS2"]
    assert world.pass_time(60) == []
    assert world.entries() == 0


def test_6xx_is_relayed_at_once(world: World) -> None:
    world.script(forks)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(second, 180), UAS2)
    assert sorted(summary(world.receive(reply_to(first, 603), UAS1))) == ["603>UAC", "ACK>UAS1", "CANCEL>UAS2"]


def test_503_from_downstream_becomes_500(world: World) -> None:
    world.script(relays)
    sent = find(world.receive(request("OPTIONS"), UAC), "OPTIONS.*")
    out = world.receive(reply_to(sent, 503, "Unavail"), UAS1)
    assert summary(out) == ["500>UAC"]
    assert out[0][1].reason == "Unavail"


def test_failure_route_tries_another_target(world: World) -> None:
    seen: list[object] = []

    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        ctx.avps["x"] = ["kept"]
        ctx.msg.append_header("X-Orig: 1\r\n")
        return relay.relay(ctx)

    def failed(ctx: Context) -> int:
        assert ctx.reply is not None
        seen.append((ctx.reply_code, ctx.avps["x"], ctx.ruri, ctx.dst_uri, ctx.reply.reason))
        ctx.new_uri = "sip:second@127.0.1.3:15063"
        ctx.msg.append_header("X-Fail: 1\r\n")
        return relay.relay(ctx)

    world.script(main, failure_f=failed)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    out = world.receive(reply_to(invite, 486, "Busy"), UAS1)
    assert sorted(summary(out)) == ["ACK>UAS1", "INVITE>UAS2"]
    assert seen == [(486, ["kept"], "sip:bob@127.0.1.2:15062", None, "Busy")]
    second = find(out, "INVITE.*")
    assert second.value("x-orig") == second.value("x-fail") == "1"
    assert second.via.branch != invite.via.branch
    assert summary(world.receive(reply_to(second, 404), UAS2)) == ["ACK>UAS2", "404>UAC"]
    assert len(seen) == 1  # it has to be armed again


def test_failure_route_runs_on_a_timeout_and_may_reply(world: World) -> None:
    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(main, failure_f=lambda ctx: reply(ctx, 480 if ctx.reply_code == 408 else 500, "From failure"))
    world.receive(request("INVITE"), UAC)
    out = world.pass_time(30.1)
    assert summary(out)[-1] == "480>UAC"
    assert summary(out).count("480>UAC") == 1


def test_a_cancelled_call_takes_no_new_branches(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    def failed(ctx: Context) -> int:
        codes.append(relay.relay(ctx))
        return 1

    world.script(main, failure_f=failed)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 180), UAS1)
    world.receive(request("CANCEL"), UAC)
    assert summary(world.receive(reply_to(invite, 487), UAS1)) == ["ACK>UAS1", "487>UAC"]
    assert codes == [-3]


def test_onreply_routes_edit_and_drop(world: World) -> None:
    def main(ctx: Context) -> int:
        ctx.armed_reply = "o"
        return relay.relay(ctx)

    def onreply(ctx: Context) -> int:
        if ctx.msg.status in (180, 486):
            ctx.msg.append_header("X-Edited: 1\r\n")
            ctx.dropped = True
        return 1

    world.script(main, onreply_o=onreply)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert world.receive(reply_to(invite, 180), UAS1) == []
    assert summary(world.receive(reply_to(invite, 183), UAS1)) == ["183>UAC"]
    out = world.receive(reply_to(invite, 486), UAS1)
    assert summary(out) == ["ACK>UAS1", "486>UAC"]
    assert find(out, "486.*").value("x-edited") == "1"


def test_dropping_every_branch_gives_500(world: World) -> None:
    def main(ctx: Context) -> int:
        ctx.armed_branch = "b"
        return relay.relay(ctx)

    def drops(ctx: Context) -> int:
        ctx.dropped = True
        return 0

    world.script(main, branch_b=drops)
    out = world.receive(request("INVITE"), UAC)
    assert summary(out) == ["100>UAC", "500>UAC"]
    assert out[1][1].reason == "Server error occurred (1/TM)"


def test_a_send_error_gives_477(world: World) -> None:
    world.script(relays)
    world.unreachable.add(UAS1)
    out = world.receive(request("OPTIONS"), UAC)
    assert summary(out) == ["477>UAC"]
    assert out[0][1].reason == "Send failed (477/TM)"


def test_a_send_error_in_one_branch_leaves_the_other(world: World) -> None:
    world.script(forks)
    world.unreachable.add(UAS1)
    out = world.receive(request("INVITE"), UAC)
    assert summary(out) == ["100>UAC", "INVITE>UAS2"]
    assert summary(world.receive(reply_to(find(out, "INVITE.*"), 486), UAS2)) == ["ACK>UAS2", "486>UAC"]


def test_a_transaction_made_by_the_script_leaves_errors_to_it(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        new_transaction(ctx)
        codes.append(relay.relay(ctx))
        return reply(ctx, 500, "Relay failed")

    world.script(main)
    world.unreachable.add(UAS1)
    assert summary(world.receive(request("OPTIONS"), UAC)) == ["500>UAC"]
    assert codes == [-6]


def test_only_the_last_of_serial_attempts_counts(world: World) -> None:
    targets = ["sip:second@127.0.1.3:15063"]

    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    def failed(ctx: Context) -> int:
        if not targets:
            return 1
        ctx.new_uri = targets.pop()
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(main, failure_f=failed)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    second = find(world.receive(reply_to(invite, 404), UAS1), "INVITE.*")
    assert summary(world.receive(reply_to(second, 486), UAS2)) == ["ACK>UAS2", "486>UAC"]


def test_nothing_provisional_is_relayed_after_the_final_reply(world: World) -> None:
    world.script(forks)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(first, 200), UAS1)
    assert summary(world.receive(reply_to(second, 180), UAS2)) == ["CANCEL>UAS2"]


def test_a_cancelled_branch_is_acknowledged_however_late_it_ends(world: World) -> None:
    world.script(forks)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(second, 180), UAS2)
    cancel = find(world.receive(reply_to(first, 200), UAS1), "CANCEL.*")
    world.receive(reply_to(cancel, 200), UAS2)
    assert world.pass_time(20) == []
    assert summary(world.receive(reply_to(second, 487), UAS2)) == ["ACK>UAS2"]
    world.pass_time(40)
    assert world.entries() == 0


@pytest.mark.parametrize(
    ("parameter", "change", "old"),
    [
        ("via1_matching", ("127.0.1.1:15061", "127.0.1.1:5099"), False),
        ("via1_matching", ("127.0.1.1:15061", "127.0.1.1:5099"), True),
        ("ruri_matching", ("CANCEL sip:bob@127.0.1.2:15062", "CANCEL sip:bob@elsewhere.invalid"), True),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_broken_devices_may_cancel_with_another_via_or_uri(
    world: World, monkeypatch: pytest.MonkeyPatch, parameter: str, change: tuple[str, str], old: bool, strict: bool
) -> None:
    """``old``: without the branch of RFC 3261."""
    monkeypatch.setattr(settings, parameter, strict)

    def form(data: bytes) -> bytes:
        return data.replace(b";branch=z9hG4bK-b1", b"") if old else data

    def script(ctx: Context) -> int:
        known.append(server_transaction.original(ctx) is not None)
        return relay.relay(ctx) if ctx.msg.method == "INVITE" else 1

    known: list[bool] = []
    world.script(script)
    world.receive(form(request("INVITE")), UAC)
    world.receive(form(request("CANCEL")).replace(change[0].encode(), change[1].encode(), 1), UAC)
    assert known[-1] is not strict
