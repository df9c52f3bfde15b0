"""Over a connection nothing is repeated, and what absorbs repetitions lasts no time (RFC 3261 17, 18.3)."""

from __future__ import annotations

from typing import Any

import pytest

from opensips_py.script.context import Branch, Context, ListenSocket
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay, server_transaction, transport_errors
from opensips_py.tm.receive import receive_message
from tests.tm.world import UAC, UAS1, UAS2, Wire, World, find, reply_to, request, summary

UDP, TCP = 0, 1
Out = list[tuple[tuple[str, int], SipMessage]]


class Both:
    """A world with a UDP and a TCP socket on one port."""

    def __init__(self, world: World, monkeypatch: Any) -> None:
        self.world = world
        self.sockets = [world.socket, ListenSocket(1, "tcp", "127.0.0.1", 15060)]
        monkeypatch.setattr(this, "sockets", self.sockets)
        monkeypatch.setattr(this, "handles", [Wire(world), Wire(world)])

    def receive(self, data: bytes, source: tuple[str, int], over: int = TCP) -> Out:
        self.world.sent.clear()
        receive_message(data, source, self.sockets[over])
        return self.world.taken()


@pytest.fixture
def both(world: World, monkeypatch: Any) -> Both:
    return Both(world, monkeypatch)


def to(transport: int, address: str = "127.0.1.2:15062") -> str:
    return f"sip:bob@{address}" + (";transport=tcp" if transport == TCP else "")


def relays(ctx: Context) -> int:
    return relay.relay(ctx)


def busy(ctx: Context) -> int:
    return server_transaction.reply(ctx, 486, "Busy Here")


def accepts(ctx: Context) -> int:
    return server_transaction.reply(ctx, 200, "OK")


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_a_request_is_repeated_over_udp_alone(both: Both, method: str) -> None:
    both.world.script(relays)
    both.receive(request(method, to(UDP)), UAC)
    assert summary(both.world.pass_time(1.6)) == [f"{method}>UAS1"] * 2
    both.world.pass_time(60)
    both.receive(request(method, to(TCP), branch="b2"), UAC)
    assert both.world.pass_time(29) == []


def test_a_provisional_reply_starts_no_repetition(both: Both) -> None:
    both.world.script(relays)
    out = both.receive(request("MESSAGE", to(TCP)), UAC)
    both.receive(reply_to(find(out, "MESSAGE>UAS1"), 183), UAS1)
    assert both.world.pass_time(20) == []


def test_a_request_without_answer_still_ends_with_408(both: Both) -> None:
    both.world.script(relays)
    both.receive(request("INVITE", to(TCP)), UAC)
    assert summary(both.world.pass_time(31)) == ["408>UAC"]


def test_a_cancel_is_sent_once(both: Both) -> None:
    both.world.script(relays)
    out = both.receive(request("INVITE", to(TCP)), UAC)
    both.receive(reply_to(find(out, "INVITE>UAS1"), 180), UAS1)
    assert "CANCEL>UAS1" in summary(both.receive(request("CANCEL", to(TCP)), UAC))
    assert "CANCEL>UAS1" not in summary(both.world.pass_time(20))


def test_a_negative_final_reply_is_repeated_over_udp_alone(both: Both) -> None:
    both.world.script(busy)
    both.receive(request("INVITE"), UAC, UDP)
    assert "486>UAC" in summary(both.world.pass_time(2))
    both.world.pass_time(60)
    both.receive(request("INVITE", branch="b2"), UAC)
    assert both.world.pass_time(20) == []


def test_a_2xx_made_here_is_repeated_over_every_transport_until_its_ack(both: Both) -> None:
    both.world.script(accepts)
    both.receive(request("INVITE"), UAC)
    assert summary(both.world.pass_time(1)) == ["200>UAC"]


@pytest.mark.parametrize(
    ("over", "downstream", "kept"),
    [(TCP, TCP, False), (TCP, UDP, True), (UDP, TCP, True), (UDP, UDP, True)],
)
def test_an_answered_transaction_stays_only_where_something_may_be_repeated(
    both: Both, over: int, downstream: int, kept: bool
) -> None:
    both.world.script(relays)
    out = both.receive(request("MESSAGE", to(downstream)), UAC, over)
    both.receive(reply_to(find(out, "MESSAGE>UAS1"), 200), UAS1, downstream)
    both.world.pass_time(0.1)
    assert bool(both.world.records()) is kept
    both.world.pass_time(6)
    assert not both.world.records()


def test_an_accepted_call_stays_for_further_2xx(both: Both) -> None:
    both.world.script(relays)
    out = both.receive(request("INVITE", to(TCP)), UAC)
    invite = find(out, "INVITE>UAS1")
    both.receive(reply_to(invite, 200), UAS1)
    both.world.pass_time(1)
    assert summary(both.receive(reply_to(invite, 200, tag="other"), UAS1)) == ["200>UAC"]


def test_what_is_relayed_to_a_stream_says_its_length(both: Both) -> None:
    both.world.script(relays)
    bare = request("MESSAGE", to(TCP)).replace(b"Content-Length: 0\r\n", b"")
    out = both.receive(bare, UAC, UDP)
    assert find(out, "MESSAGE>UAS1").has("content-length")
    out = both.receive(request("MESSAGE", to(UDP), branch="b2"), UAC)
    reply = reply_to(find(out, "MESSAGE>UAS1"), 200).replace(b"Content-Length: 0\r\n", b"")
    assert both.receive(reply, UAS1, UDP)[0][1].has("content-length")


# --- what could not be delivered ------------------------------------------------------------------------------------------


def test_a_request_that_was_not_delivered_ends_its_branch(both: Both) -> None:
    both.world.script(relays)
    out = both.receive(request("INVITE", to(TCP)), UAC)
    transport_errors.not_sent(find(out, "INVITE>UAS1").raw)
    assert summary(both.world.taken()) == ["477>UAC"]


def test_another_branch_may_still_answer(both: Both) -> None:
    def forks(ctx: Context) -> int:
        ctx.branches.append(Branch(to(TCP, "127.0.1.3:15063")))
        return relay.relay(ctx)

    both.world.script(forks)
    out = both.receive(request("MESSAGE", to(TCP)), UAC)
    transport_errors.not_sent(find(out, "MESSAGE>UAS1").raw)
    assert both.world.taken() == []
    assert summary(both.receive(reply_to(find(out, "MESSAGE>UAS2"), 200), UAS2)) == ["200>UAC"]


def test_a_failure_that_is_told_late_changes_nothing(both: Both) -> None:
    both.world.script(relays)
    out = both.receive(request("INVITE", to(TCP)), UAC)
    invite = find(out, "INVITE>UAS1")
    both.receive(reply_to(invite, 180), UAS1)
    transport_errors.not_sent(invite.raw)
    assert both.world.taken() == []


@pytest.mark.parametrize(
    "data", [b"\r\n", b"SIP/2.0 200 OK\r\n\r\n", b"ACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n\r\n", b"\0"]
)
def test_what_belongs_to_no_transaction_is_no_matter(both: Both, data: bytes) -> None:
    transport_errors.not_sent(data)
    assert both.world.taken() == []
