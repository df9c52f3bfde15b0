"""Parallel and serial forking: who wins, who is cancelled, and what the script learns of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.core import functions_branches
from opensips_py.modules.tm import functions as tm
from opensips_py.modules.tm.declared import module
from opensips_py.script.context import Branch, Context
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay, server_transaction
from opensips_py.tm.settings import settings
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary

SECOND = "sip:carl@127.0.1.3:15063"


def forks(ctx: Context) -> int:
    if ctx.msg.method == "INVITE":
        ctx.branches.append(Branch(SECOND))
    return relay.relay(ctx)


def armed(ctx: Context) -> int:
    ctx.armed_failure = "f"
    return forks(ctx)


def bavp(ctx: Context, name: str) -> object:
    return module.variables["bavp"].read(ctx, name, None)


# --- races between CANCEL, 2xx and failures ---------------------------------------------------------------------------


def both_ring(world: World) -> tuple[SipMessage, SipMessage]:
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(first, 180), UAS1)
    world.receive(reply_to(second, 180), UAS2)
    return first, second


def test_a_200_that_crosses_the_cancel_wins(world: World) -> None:
    world.script(forks)
    first, second = both_ring(world)
    assert sorted(summary(world.receive(request("CANCEL"), UAC))) == ["200>UAC", "CANCEL>UAS1", "CANCEL>UAS2"]
    assert summary(world.receive(reply_to(first, 200), UAS1)) == ["200>UAC"]
    assert summary(world.receive(reply_to(second, 487), UAS2)) == ["ACK>UAS2"]
    assert world.pass_time(60) == []
    assert world.entries() == 0


def test_a_200_that_crosses_our_own_cancel_is_relayed_too(world: World) -> None:
    """RFC 3261 16.7 step 5: every 2xx to an INVITE goes upstream, the caller ends the call that it does not want."""
    world.script(forks)
    first, second = both_ring(world)
    assert sorted(summary(world.receive(reply_to(first, 200), UAS1))) == ["200>UAC", "CANCEL>UAS2"]
    other = find(world.receive(reply_to(second, 200, tag="other"), UAS2), "200>UAC")
    assert other.to is not None and other.to.tag == "other"
    assert [line for line in summary(world.pass_time(60)) if line != "CANCEL>UAS2"] == []
    assert world.entries() == 0


def test_the_487_of_a_cancelled_call_wins_over_better_replies(world: World) -> None:
    world.script(forks)
    out = world.receive(request("INVITE"), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(first, 401), UAS1)
    world.receive(reply_to(second, 180), UAS2)
    world.receive(request("CANCEL"), UAC)
    assert sorted(summary(world.receive(reply_to(second, 487), UAS2))) == ["487>UAC", "ACK>UAS2"]


def test_a_487_that_nobody_has_asked_for_is_one_of_many(world: World) -> None:
    world.script(forks)
    first, second = both_ring(world)
    world.receive(reply_to(first, 487), UAS1)
    assert sorted(summary(world.receive(reply_to(second, 486), UAS2))) == ["486>UAC", "ACK>UAS2"]


def test_a_cancelled_branch_that_stays_silent_ends_the_call_with_408(world: World) -> None:
    world.script(forks)
    both_ring(world)
    world.receive(request("CANCEL"), UAC)
    out = [line for line in summary(world.pass_time(31)) if not line.startswith("CANCEL")]
    assert out[:1] == ["408>UAC"]


def test_a_final_reply_after_the_timeout_is_acknowledged_and_not_relayed(world: World) -> None:
    world.script(lambda ctx: relay.relay(ctx))
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert summary(world.pass_time(30.1))[-1] == "408>UAC"
    world.receive(request("ACK"), UAC)
    assert summary(world.receive(reply_to(invite, 486), UAS1)) == ["ACK>UAS1"]


def test_a_cancel_after_the_final_reply_is_answered_only(world: World) -> None:
    world.script(forks)
    first, _ = both_ring(world)
    world.receive(reply_to(first, 200), UAS1)
    assert summary(world.receive(request("CANCEL"), UAC)) == ["200>UAC"]


def test_a_cancel_while_the_failure_routes_branch_calls_waits_for_its_reply(world: World) -> None:
    def failure(ctx: Context) -> int:
        ctx.new_uri = SECOND
        return relay.relay(ctx)

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    second = find(world.receive(reply_to(first, 486), UAS1), "INVITE>UAS2")
    assert summary(world.receive(request("CANCEL"), UAC)) == ["200>UAC"]
    assert sorted(summary(world.receive(reply_to(second, 180), UAS2))) == ["180>UAC", "CANCEL>UAS2"]
    assert sorted(summary(world.receive(reply_to(second, 487), UAS2))) == ["487>UAC", "ACK>UAS2"]


def test_a_200_of_an_earlier_attempt_still_wins(world: World) -> None:
    """The first branch has timed out and was cancelled; its 200 crosses the CANCEL while the next target rings."""
    calls = []

    def failure(ctx: Context) -> int:
        calls.append(ctx.reply_code)
        ctx.new_uri = SECOND
        return relay.relay(ctx)

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    first = find(world.receive(request("INVITE"), UAC), "INVITE>UAS1")
    world.receive(reply_to(first, 180), UAS1)
    out = world.pass_time(120.1)
    assert sorted(summary(out)) == ["CANCEL>UAS1", "INVITE>UAS2"]
    second = find(out, "INVITE>UAS2")
    world.receive(reply_to(second, 180), UAS2)
    assert sorted(summary(world.receive(reply_to(first, 200), UAS1))) == ["200>UAC", "CANCEL>UAS2"]
    assert calls == [408]


def test_a_200_passes_although_the_call_was_answered_negatively(world: World) -> None:
    """The negative reply goes on being repeated until its ACK; the 200 is the caller's to acknowledge and to end."""
    world.script(lambda ctx: relay.relay(ctx))
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(reply_to(invite, 180), UAS1)
    assert summary(world.pass_time(120.1)) == ["CANCEL>UAS1", "408>UAC"]
    assert summary(world.receive(reply_to(invite, 200), UAS1)) == ["200>UAC"]
    assert "200>UAC" not in summary(world.pass_time(1))
    world.receive(request("ACK"), UAC)
    world.pass_time(60)
    assert world.entries() == 0


# --- challenges, 6xx, no-cancel, minor branches -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 407])
def test_a_challenge_from_downstream_is_relayed_once(world: World, code: int) -> None:
    """RFC 3261 26.3.2.4: who floods the server with INVITEs is not to get each challenge seven times."""
    world.script(lambda ctx: relay.relay(ctx))
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert f"{code}>UAC" in summary(world.receive(reply_to(invite, code), UAS1))
    assert world.pass_time(4) == []
    assert summary(world.receive(request("INVITE"), UAC)) == [f"{code}>UAC"]
    world.receive(request("ACK", to_tag="uas"), UAC)
    world.pass_time(10)
    assert world.entries() == 0


def test_a_challenge_made_here_is_repeated(world: World) -> None:
    world.script(lambda ctx: tm.t_reply(ctx, 401, "Unauthorized"))
    world.receive(request("INVITE"), UAC)
    assert summary(world.pass_time(1)) == ["401>UAC"]


def test_after_a_6xx_a_failure_route_may_reply_but_not_relay(world: World) -> None:
    codes = []

    def failure(ctx: Context) -> int:
        codes.append(relay.relay(ctx))
        return tm.t_reply(ctx, 480, "Later")

    world.script(armed, failure_f=failure)
    out = world.receive(request("INVITE"), UAC)
    out = world.receive(reply_to(find(out, "INVITE>UAS1"), 600), UAS1)
    assert sorted(summary(out)) == ["480>UAC", "ACK>UAS1"]
    assert codes == [-3]


def test_with_disable_6xx_block_a_failure_route_may_relay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "disable_6xx_block", True)

    def failure(ctx: Context) -> int:
        ctx.new_uri = SECOND
        return relay.relay(ctx)

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    first = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert sorted(summary(world.receive(reply_to(first, 600), UAS1))) == ["ACK>UAS1", "INVITE>UAS2"]


@pytest.mark.parametrize(
    ("flags", "header", "kept"),
    [(0x10, "Request-Disposition: no-cancel\r\n", True), (0x10, "d: proxy, no-cancel\r\n", True), (0x10, "", False)],
)
def test_no_cancel_keeps_the_other_branches_if_the_script_allows_it(world: World, flags: int, header: str, kept: bool) -> None:
    """RFC 3841 9.1: each callee's 2xx goes to the caller."""

    def script(ctx: Context) -> int:
        ctx.branches.append(Branch(SECOND))
        return relay.relay(ctx, flags)

    world.script(script)
    out = world.receive(request("INVITE", extra=header), UAC)
    first, second = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(second, 180), UAS2)
    answer = summary(world.receive(reply_to(first, 200), UAS1))
    assert sorted(answer) == (["200>UAC"] if kept else ["200>UAC", "CANCEL>UAS2"])
    if kept:
        world.pass_time(60)  # longer than the transaction of an answered call lives otherwise
        assert summary(world.receive(reply_to(second, 200, tag="other"), UAS2)) == ["200>UAC"]
        world.pass_time(120)
        assert world.entries() == 0


def test_a_minor_branch_is_cancelled_before_the_failure_route_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(ctx: Context) -> int:
        monkeypatch.setattr(server_transaction.hooks, "minor_branch_flag", 2)
        ctx.armed_failure = "f"
        ctx.branches.append(Branch(SECOND, flags=2))
        return relay.relay(ctx)

    def failure(ctx: Context) -> int:
        ctx.new_uri = "sip:third@127.0.1.2:15062"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    out = world.receive(request("INVITE"), UAC)
    main, music = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    world.receive(reply_to(music, 183), UAS2)
    out = world.receive(reply_to(main, 404), UAS1)
    assert sorted(summary(out)) == ["ACK>UAS1", "CANCEL>UAS2", "INVITE>UAS1"]
    third = find(out, "INVITE>UAS1")
    assert summary(world.receive(reply_to(music, 487), UAS2)) == ["ACK>UAS2"]
    assert "486>UAC" in summary(world.receive(reply_to(third, 486), UAS1))


# --- serial forking ---------------------------------------------------------------------------------------------------


def test_destinations_are_tried_by_falling_q(world: World) -> None:
    def script(ctx: Context) -> int:
        ctx.new_uri, ctx.q = "sip:low@127.0.1.2:15062", 100
        ctx.branches = [Branch("sip:high@127.0.1.2:15062", q=900), Branch("sip:alsohigh@127.0.1.3:15063", q=900)]
        assert functions_branches.serialize_branches(ctx, 1) == 1
        assert functions_branches.next_branches(ctx) == 1
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    def failure(ctx: Context) -> int:
        result = functions_branches.next_branches(ctx)
        codes.append((ctx.reply_code, result))
        ctx.armed_failure = "f"
        return relay.relay(ctx) if result > 0 else 1

    codes: list[tuple[int, int]] = []
    world.script(script, failure_f=failure)
    out = world.receive(request("INVITE"), UAC)
    assert sorted(msg.ruri for _, msg in out if msg.is_request) == ["sip:alsohigh@127.0.1.3:15063", "sip:high@127.0.1.2:15062"]
    assert summary(world.receive(reply_to(find(out, "INVITE>UAS2"), 480), UAS2)) == ["ACK>UAS2"]
    out = world.receive(reply_to(find(out, "INVITE>UAS1"), 404), UAS1)
    last = find(out, "INVITE>UAS1")
    assert last.ruri == "sip:low@127.0.1.2:15062"
    assert "486>UAC" in summary(world.receive(reply_to(last, 486), UAS1))
    assert codes == [(404, 2), (486, -1)]


def test_no_more_than_twelve_branches_in_one_transaction(world: World) -> None:
    codes = []

    def failure(ctx: Context) -> int:
        ctx.armed_failure = "f"
        codes.append(relay.relay(ctx))
        return 1

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    sent = find(world.receive(request("MESSAGE"), UAC), "MESSAGE.*")
    for _ in range(11):
        sent = find(world.receive(reply_to(sent, 480), UAS1), "MESSAGE.*")
    assert summary(world.receive(reply_to(sent, 480), UAS1)) == ["480>UAC"]
    assert codes == [1] * 11 + [-1]


# --- what routes know ---------------------------------------------------------------------------------------------------


def test_each_branch_has_its_own_avps_and_flags(world: World) -> None:
    seen: dict[str, object] = {}
    write = module.variables["bavp"].write
    assert write is not None

    def branch(ctx: Context) -> int:
        write(ctx, "who", None, f"branch {ctx.branch_index}")
        return tm.t_on_reply(ctx, "one" if ctx.branch_index else "zero")

    def failure(ctx: Context) -> int:
        seen["failure"] = (bavp(ctx, "who"), module.variables["T_branch_idx"].read(ctx, None, None))
        return 1

    def route(name: str) -> Callable[[Context], int]:
        def run(ctx: Context) -> int:
            seen[name] = (bavp(ctx, "who"), module.variables["T_branch_idx"].read(ctx, None, None))
            return 1

        return run

    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        assert bavp(ctx, "who") is None
        return armed(ctx)

    world.script(script, branch_b=branch, onreply_zero=route("zero"), onreply_one=route("one"), failure_f=failure)
    first, second = both_ring(world)
    world.receive(reply_to(second, 404), UAS2)
    world.receive(reply_to(first, 500), UAS1)
    assert seen == {"zero": ("branch 0", 0), "one": ("branch 1", 1), "failure": ("branch 1", None)}


def test_colon_equals_replaces_branch_avps(world: World) -> None:
    variable = module.variables["bavp"]
    write, assign = variable.write, variable.assign
    assert write is not None and assign is not None
    values: list[object] = []

    def branch(ctx: Context) -> int:
        for change, index, value in (
            (write, None, 1),
            (write, None, 2),
            (write, 1, None),
            (assign, None, 3),
            (assign, None, None),
        ):
            change(ctx, "x", index, value)
            values.append(variable.read(ctx, "x", "*"))
        return 1

    def script(ctx: Context) -> int:
        ctx.armed_branch = "b"
        return relay.relay(ctx)

    world.script(script, branch_b=branch)
    world.receive(request("INVITE"), UAC)
    assert values == ["1", "2, 1", "2", "3", None]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], {"all": 1, "branch": 1, "last": 1}),  # nothing has come: timeout
        ([180], {"all": -1, "branch": -1, "last": 1}),  # it rang, then the timeout
        ([486], {"all": -1, "branch": -1, "last": -1}),
    ],
)
def test_local_replied_tells_replies_from_timeouts(world: World, events: list[int], expected: dict[str, int]) -> None:
    seen = {}

    def failure(ctx: Context) -> int:
        for which in expected:
            seen[which] = tm.t_local_replied(ctx, which)
        return 1

    def script(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    world.script(script, failure_f=failure)
    invite = find(world.receive(request("INVITE"), UAC), "INVITE.*")
    for code in events:
        world.receive(reply_to(invite, code), UAS1)
    world.pass_time(125)
    assert seen == expected


@pytest.mark.parametrize(
    ("which", "status", "cancelled"),
    [
        (None, 183, ["CANCEL>UAS1"]),
        ("o", 183, ["CANCEL>UAS2"]),
        ("A", 183, ["CANCEL>UAS1", "CANCEL>UAS2"]),
        (None, 486, []),
        ("a", 486, ["CANCEL>UAS2"]),
    ],
)
def test_a_reply_route_cancels_branches(world: World, which: str | None, status: int, cancelled: list[str]) -> None:
    def reply(ctx: Context) -> int:
        if ctx.msg.status == status:
            assert tm.t_cancel_branch(ctx, which) == 1
        return 1

    def script(ctx: Context) -> int:
        ctx.armed_reply = "r"
        return forks(ctx)

    world.script(script, onreply_r=reply)
    first, _ = both_ring(world)
    out = summary(world.receive(reply_to(first, status), UAS1))
    assert sorted(line for line in out if line.startswith("CANCEL")) == cancelled
