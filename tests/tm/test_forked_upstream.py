"""One call passes several times, forked before it comes here: Call-ID and CSeq are the same, the transactions are not."""

from __future__ import annotations

from opensips_py.script.context import Branch, Context
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay, server_transaction
from tests.tm.world import UAC, UAS1, UAS2, World, find, reply_to, request, summary

HERE = ("127.0.0.1", 15060)


def test_the_ack_for_a_negative_reply_is_not_taken_for_that_of_another_branch_s_2xx(world: World) -> None:
    world.script(relay.relay)
    refused = find(world.receive(request("INVITE", branch="a"), UAC), "INVITE>UAS1")
    answered = find(world.receive(request("INVITE", uri="sip:bob@127.0.1.3:15063", branch="b"), UAC), "INVITE.*")
    assert summary(world.receive(reply_to(answered, 200), UAS2)) == ["200>UAC"]
    world.receive(reply_to(refused, 486, tag="x"), UAS1)
    assert summary(world.receive(request("ACK", branch="a", to_tag="x"), UAC)) == []
    assert world.pass_time(33) == []


def test_a_2xx_made_here_is_repeated_until_its_own_ack(world: World) -> None:
    passes = 0

    def main(ctx: Context) -> int:
        nonlocal passes
        if ctx.msg.method == "ACK":
            return server_transaction.acknowledge(ctx)
        passes += 1
        return server_transaction.reply(ctx, 200 if passes == 1 else 482, "merged")

    world.script(main)
    assert summary(world.receive(request("INVITE", branch="a"), UAC))[-1] == "200>UAC"
    assert summary(world.receive(request("INVITE", branch="b"), UAC))[-1] == "482>UAC"
    world.receive(request("ACK", branch="b", to_tag="x"), UAC)
    assert set(summary(world.pass_time(5))) == {"200>UAC"}


def test_a_call_that_comes_back_to_this_server_ends(world: World) -> None:
    """It forks to this server itself and to a phone; the phone answers, and the other branch is cancelled."""
    passes = 0

    def main(ctx: Context) -> int:
        nonlocal passes
        if ctx.msg.method == "INVITE":
            passes += 1
            if passes == 1:
                ctx.new_uri = "sip:bob@127.0.0.1:15060"
                ctx.branches.append(Branch("sip:bob@127.0.1.3:15063"))
            else:
                ctx.new_uri = "sip:bob@127.0.1.2:15062"
        return relay.relay(ctx)

    world.script(main)
    sent: list[str] = []
    at_phones: dict[tuple[str, tuple[str, int]], SipMessage] = {}

    def deliver(out: list[tuple[tuple[str, int], SipMessage]]) -> None:
        waiting = list(out)
        while waiting:
            assert len(sent) < 60, f"it goes round: {sent}"
            address, msg = waiting.pop(0)
            sent.extend(summary([(address, msg)]))
            if address == HERE:
                waiting += world.receive(msg.raw, HERE)
            elif msg.is_request:
                at_phones[msg.method, address] = msg

    deliver(world.receive(request("INVITE"), UAC))
    deliver(world.receive(reply_to(at_phones["INVITE", UAS1], 180, tag="one"), UAS1))
    deliver(world.receive(reply_to(at_phones["INVITE", UAS2], 200, tag="two"), UAS2))
    deliver(world.receive(reply_to(at_phones["CANCEL", UAS1], 200, tag="one"), UAS1))
    deliver(world.receive(reply_to(at_phones["INVITE", UAS1], 487, tag="one"), UAS1))
    before = len(sent)
    deliver([(address, msg) for _, address, msg in world.pass_time(5)])
    assert sent[before:] == []
