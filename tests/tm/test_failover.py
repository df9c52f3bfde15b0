"""A name's next server is tried when one fails (RFC 3263 4.3): the transaction layer's part, with driven time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from opensips_py.dns.records import Answer, Question, Status
from opensips_py.dns.resolver import resolver
from opensips_py.net import destinations
from opensips_py.script.context import Branch, Context
from opensips_py.server.process import this
from opensips_py.tm import forking, relay
from opensips_py.tm.record import MAX_BRANCHES
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary

NAME = "sip:bob@two.test:15062"
FIRST, SECOND = UAS1, ("127.0.1.3", 15062)


@pytest.fixture(autouse=True)
def names() -> Iterator[None]:
    """``two.test`` and ``many.test`` with two and with fifteen servers."""
    for name, addresses in {
        "two.test": (FIRST[0], SECOND[0]),
        "many.test": tuple(f"127.0.2.{n}" for n in range(1, 16)),
        "other.test": ("127.0.3.1", "127.0.3.2"),
    }.items():
        resolver()._keep(Question(name, "A"), Answer(Status.FOUND, addresses, 600), this.clock.now())
    yield
    resolver().forget()
    destinations.forget()


def proxy(ctx: Context) -> int:
    return relay.relay(ctx)


def invites(out: list[Any]) -> list[tuple[str, int]]:
    """Where INVITEs went."""
    return [address for address, msg in out if msg.is_request and msg.method == "INVITE"]


def invite(uri: str = NAME) -> bytes:
    return request("INVITE", uri)


def test_503_leads_to_the_next_server_with_a_new_branch_parameter(world: World) -> None:
    world.script(proxy)
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    out = world.receive(reply_to(sent, 503), FIRST)
    assert [(item[-1].method, item[0]) for item in out] == [("ACK", FIRST), ("INVITE", SECOND)]
    again = out[1][-1]
    assert again.ruri == sent.ruri and again.via.branch != sent.via.branch
    assert again.text.replace(again.via.branch or "", "") == sent.text.replace(sent.via.branch or "", "")
    out = world.receive(reply_to(again, 200), SECOND)
    assert summary(out) == ["200>UAC"]


def test_silence_leads_to_the_next_server_when_the_timer_fires(world: World) -> None:
    world.script(proxy)
    world.receive(invite(), UAC)
    out = world.pass_time(30.2)
    to_second = [(at, msg) for at, address, msg in out if address == SECOND]
    assert to_second[0][0] == 30.0 and to_second[0][1].method == "INVITE"
    assert not [msg for _, address, msg in out if address == UAC]
    assert summary(world.receive(reply_to(to_second[0][1], 486), SECOND))[-1] == "486>UAC"


def test_silence_of_all_is_a_timeout(world: World) -> None:
    world.script(proxy)
    world.receive(invite(), UAC)
    answers = [(at, msg.status) for at, address, msg in world.pass_time(61) if address == UAC]
    assert answers[0] == (60.0, 408)


def test_a_server_that_rings_and_never_answers_has_not_failed(world: World) -> None:
    world.script(proxy)
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    world.receive(reply_to(sent, 180), FIRST)
    out = world.pass_time(130)
    assert not [msg for _, address, msg in out if address == SECOND]
    assert 408 in [msg.status for _, address, msg in out if address == UAC]


def test_any_other_refusal_is_an_answer(world: World) -> None:
    world.script(proxy)
    for n, code in enumerate((404, 408, 480, 486, 500, 504, 600)):
        world.now += 100
        world.pass_time(0)
        sent = find(world.receive(request("INVITE", NAME, branch=f"c{n}"), UAC), "INVITE>UAS1")
        out = world.receive(reply_to(sent, code), FIRST)
        assert summary(out) == ["ACK>UAS1", f"{code}>UAC"]


def test_a_cancelled_call_tries_no_other_server(world: World) -> None:
    world.script(proxy)
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    world.receive(request("CANCEL", NAME), UAC)
    out = world.receive(reply_to(sent, 503), FIRST)
    assert SECOND not in [address for address, _ in out]
    assert summary(out)[-1] == "500>UAC"


def test_a_late_reply_of_the_server_that_said_nothing_is_absorbed(world: World) -> None:
    world.script(proxy)
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    second = next(msg for _, address, msg in world.pass_time(31) if address == SECOND)
    assert summary(world.receive(reply_to(sent, 486), FIRST)) == ["ACK>UAS1"]
    assert summary(world.receive(reply_to(second, 200), SECOND)) == ["200>UAC"]


def test_a_server_that_cannot_be_sent_to_is_passed_over_at_once(world: World) -> None:
    world.script(proxy)
    world.unreachable.add(FIRST)
    out = world.receive(invite(), UAC)
    assert invites(out) == [SECOND]
    [record] = world.records()
    assert len(record.branches) == 1
    sent = out[-1][-1]
    assert summary(world.receive(reply_to(sent, 200), SECOND)) == ["200>UAC"]


def test_a_name_without_any_server_that_can_be_sent_to_is_a_send_error(world: World) -> None:
    world.script(proxy)
    world.unreachable |= {FIRST, SECOND}
    out = world.receive(invite(), UAC)
    assert (out[-1][-1].status, out[-1][-1].reason) == (477, "Send failed (477/TM)")
    assert world.records()[0].branches == []


def test_a_server_that_cannot_be_sent_to_after_a_503_is_passed_over_too(world: World) -> None:
    world.script(proxy)
    sent = world.receive(request("INVITE", "sip:bob@many.test:15062"), UAC)[-1][-1]
    world.unreachable |= {("127.0.2.2", 15062), ("127.0.2.3", 15062)}
    out = world.receive(reply_to(sent, 503), ("127.0.2.1", 15062))
    assert invites(out) == [("127.0.2.4", 15062)]
    assert summary(world.receive(reply_to(out[-1][-1], 200), ("127.0.2.4", 15062))) == ["200>UAC"]


def test_the_last_server_fails_to_be_sent_to_after_a_503(world: World) -> None:
    world.script(proxy)
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    world.unreachable.add(SECOND)
    out = world.receive(reply_to(sent, 503), FIRST)
    assert summary(out)[-1] == "500>UAC"  # what the 503 becomes


def test_servers_are_tried_until_the_branches_are_used_up(world: World) -> None:
    world.script(proxy)
    out = world.receive(request("INVITE", "sip:bob@many.test:15062"), UAC)
    tried = 0
    while out[-1][-1].method == "INVITE" and out[-1][-1].is_request:
        tried += 1
        address, sent = out[-1]
        out = world.receive(reply_to(sent, 503), address)
    assert tried == MAX_BRANCHES
    assert summary(out)[-1] == "500>UAC"


def test_a_fork_goes_on_only_when_the_failure_would_be_the_answer(world: World) -> None:
    def fork(ctx: Context) -> int:
        ctx.branches.append(Branch("sip:b@127.0.1.3:15063"))
        return relay.relay(ctx)

    world.script(fork)
    out = world.receive(invite(), UAC)
    named, numeric = find(out, "INVITE>UAS1"), find(out, "INVITE>UAS2")
    assert summary(world.receive(reply_to(named, 503), FIRST)) == ["ACK>UAS1"]
    assert summary(world.receive(reply_to(numeric, 486), UAS2)) == ["ACK>UAS2", "486>UAC"]


def test_a_fork_to_two_names_tries_the_servers_of_both(world: World) -> None:
    def fork(ctx: Context) -> int:
        ctx.branches.append(Branch("sip:b@other.test:15062"))
        return relay.relay(ctx)

    world.script(fork)
    out = world.receive(invite(), UAC)
    waiting = [item for item in out if item[-1].is_request]
    tried = []
    while waiting:
        address, sent = waiting.pop(0)
        tried.append(address[0])
        out = world.receive(reply_to(sent, 503), address)
        waiting += [item for item in out if item[-1].is_request and item[-1].method == "INVITE"]
    assert sorted(tried) == ["127.0.1.2", "127.0.1.3", "127.0.3.1", "127.0.3.2"]
    assert summary(out)[-1] == "500>UAC"


def test_the_failure_route_runs_when_no_server_is_left(world: World) -> None:
    runs = []

    def main(ctx: Context) -> int:
        ctx.armed_failure = "f"
        return relay.relay(ctx)

    def failed(ctx: Context) -> int:
        runs.append(ctx.reply_code)
        return 1

    world.script(main, failure_f=failed)
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    again = world.receive(reply_to(sent, 503), FIRST)[-1][-1]
    assert not runs
    world.receive(reply_to(again, 503), SECOND)
    assert runs == [503]


@pytest.mark.parametrize("by", ["flag", "parameter"])
def test_failover_is_switched_off(world: World, by: str) -> None:
    world.script(lambda ctx: relay.relay(ctx, forking.NO_DNS_FAILOVER if by == "flag" else 0))
    this.program.settings.disable_dns_failover = by == "parameter"
    sent = find(world.receive(invite(), UAC), "INVITE>UAS1")
    assert world.records()[0].branches[0].further is None
    assert summary(world.receive(reply_to(sent, 503), FIRST)) == ["ACK>UAS1", "500>UAC"]


def test_a_non_invite_request_fails_over_too(world: World) -> None:
    world.script(proxy)
    sent = find(world.receive(request("MESSAGE", NAME), UAC), "MESSAGE>UAS1")
    [(address, again)] = world.receive(reply_to(sent, 503), FIRST)
    assert (address, again.method) == (SECOND, "MESSAGE")


def test_a_branch_to_an_address_keeps_nothing(world: World) -> None:
    world.script(proxy)
    world.receive(request("INVITE", "sip:bob@127.0.1.2:15062"), UAC)
    assert world.records()[0].branches[0].further is None


def test_a_transaction_takes_what_is_kept_through_the_store(world: World) -> None:
    world.script(proxy)
    world.receive(invite(), UAC)
    [kept] = world.records()[0].branches[0].further or []
    assert (kept.host, kept.port, kept.via) == (SECOND[0], 15062, "")
