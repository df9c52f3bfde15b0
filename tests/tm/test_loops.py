"""Requests that come here again: loops end with 482, forks of forks with 440, and spirals pass (RFC 3261 16.3, RFC 5393)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import pytest

from opensips_py.script.context import Branch, Context
from opensips_py.sip.message import SipMessage, reread
from opensips_py.tm import relay, server_transaction
from opensips_py.tm.receive import receive_message
from opensips_py.tm.settings import settings
from tests.tm.world import UAC, World, find, request, summary

HERE = ("127.0.0.1", 15060)
OTHER = ("127.0.2.1", 5060)
"""A proxy that sends everything back."""


def registered(contacts: dict[str, list[str]]) -> Callable[[Context], int]:
    """The default script: every user has contacts."""

    def main(ctx: Context) -> int:
        if ctx.msg.method != "INVITE":
            return relay.relay(ctx)
        user = ctx.ruri[4:].partition("@")[0]
        ctx.msg.insert_header("Record-Route: <sip:127.0.0.1:15060;lr>\r\n")
        found = contacts.get(user)
        if found:
            ctx.new_uri = found[0]
            ctx.branches = [Branch(uri) for uri in found[1:]]
        return relay.relay(ctx)

    return main


def run(world: World, first: bytes, most: int = 3000) -> list[tuple[tuple[str, int], SipMessage]]:
    """Let what goes to this server come in, until nothing moves; all that was sent. The other proxy adds its Via."""
    sent: list[tuple[tuple[str, int], SipMessage]] = []
    waiting = deque([(first, UAC)])
    while waiting:
        data, source = waiting.popleft()
        world.sent.clear()
        receive_message(data, source, world.socket)
        for address, made in list(world.sent):
            msg = reread(made)
            sent.append((address, msg))
            if address == HERE:
                waiting.append((made, HERE))
            elif address == OTHER:
                waiting.append((elsewhere(msg), OTHER))
        assert len(sent) < most
    return sent


def elsewhere(msg: SipMessage) -> bytes:
    if not msg.is_request:
        return re.sub(rb"Via: SIP/2.0/UDP 127.0.2.1;[^\r]*\r\n", b"", msg.raw, count=1)
    branch = (msg.via.branch or "").replace(".", "o")
    return msg.raw.replace(b"Via: ", f"Via: SIP/2.0/UDP 127.0.2.1;branch={branch}\r\nVia: ".encode(), 1)


def invites(sent: list[tuple[tuple[str, int], SipMessage]]) -> int:
    return sum(msg.is_request and msg.method == "INVITE" for _, msg in sent)


def finals(sent: list[tuple[tuple[str, int], SipMessage]]) -> set[int]:
    return {msg.status for address, msg in sent if address == UAC and msg.status >= 200}


@pytest.mark.parametrize("contacts", [1, 2, 3, 12])
@pytest.mark.parametrize("host", ["127.0.0.1:15060", "127.0.2.1:5060"])
def test_two_users_registered_at_each_other(world: World, contacts: int, host: str) -> None:
    """Directly, and through another proxy that knows nothing of loops."""
    at = {who: [f"sip:{other}@{host};n={n}" for n in range(contacts)] for who, other in (("a", "b"), ("b", "a"))}
    world.script(registered(at))
    sent = run(world, request("INVITE", "sip:a@127.0.0.1:15060"))
    assert invites(sent) < 150
    assert finals(sent) <= {482, 440, 500, 480, 404} and finals(sent)


def test_one_registered_at_itself(world: World) -> None:
    world.script(registered({"a": ["sip:a@127.0.0.1:15060"]}))
    sent = run(world, request("INVITE", "sip:a@127.0.0.1:15060"))
    assert invites(sent) <= 3
    assert finals(sent) == {482}


def test_a_spiral_passes(world: World) -> None:
    world.script(registered({"a": ["sip:b@127.0.0.1:15060"], "b": ["sip:c@127.0.0.1:15060"], "c": ["sip:d@127.0.1.2:15062"]}))
    sent = run(world, request("INVITE", "sip:a@127.0.0.1:15060"))
    assert summary(sent)[-1] == "INVITE>UAS1"
    assert finals(sent) == set()


@pytest.mark.parametrize(("limit", "passes"), [(1, 2), (2, 3), (5, 6)])
def test_max_loops(world: World, monkeypatch: pytest.MonkeyPatch, limit: int, passes: int) -> None:
    monkeypatch.setattr(settings, "max_loops", limit)
    world.script(registered({"a": ["sip:a@127.0.0.1:15060"]}))
    sent = run(world, request("INVITE", "sip:a@127.0.0.1:15060"))
    assert invites(sent) == passes
    assert finals(sent) == {482}


def test_a_request_that_comes_back_from_elsewhere_is_no_loop(world: World) -> None:
    """An application server in between: the script tells the second pass by the address."""

    def main(ctx: Context) -> int:
        ctx.dst_uri = "sip:127.0.2.1:5060" if ctx.source.ip == UAC[0] else "sip:127.0.1.2:15062"
        return relay.relay(ctx)

    world.script(main)
    assert summary(run(world, request("INVITE", "sip:a@127.0.0.1:15060")))[-1] == "INVITE>UAS1"


def test_with_a_transaction_of_its_own_the_script_answers(world: World) -> None:
    codes = []

    def main(ctx: Context) -> int:
        server_transaction.new_transaction(ctx)
        code = relay.relay(ctx)
        if code < 0:
            codes.append(code)
            server_transaction.reply(ctx, 404, "Not Found")
        return 1

    world.script(main)
    assert finals(run(world, request("INVITE", "sip:a@127.0.0.1:15060"))) == {404}
    assert codes == [-1]


# --- Max-Breadth -----------------------------------------------------------------------------------------------------


def fork(number: int) -> Callable[[Context], int]:
    def main(ctx: Context) -> int:
        ctx.branches = [Branch(f"sip:b{n}@127.0.1.2:15062") for n in range(1, number)]
        return relay.relay(ctx)

    return main


@pytest.mark.parametrize(("given", "branches", "shared"), [(60, 12, 5), (13, 12, 1), (12, 12, 1), (7, 2, 3), (1, 1, 1)])
def test_max_breadth_is_shared_out(world: World, given: int, branches: int, shared: int) -> None:
    world.script(fork(branches))
    out = world.receive(request("INVITE", extra=f"Max-Breadth: {given}\r\n"), UAC)
    sent = [msg for _, msg in out if msg.is_request]
    assert [msg.value("max-breadth") for msg in sent] == [str(shared)] * branches


@pytest.mark.parametrize(("given", "branches"), [(11, 12), (1, 2), (0, 1)])
def test_without_breadth_left_it_is_refused(world: World, given: int, branches: int) -> None:
    world.script(fork(branches))
    out = world.receive(request("INVITE", extra=f"Max-Breadth: {given}\r\n"), UAC)
    assert find(out, "440.*").reason == "Max-Breadth Exceeded"
    assert not any(msg.is_request for _, msg in out)


def test_a_request_without_the_header_leaves_without_it(world: World) -> None:
    world.script(fork(3))
    assert all(not msg.has("max-breadth") for _, msg in world.receive(request("INVITE"), UAC))


@pytest.mark.parametrize("value", ["x", "", "-1", "9" * 5000, "1, 2"])
def test_a_breadth_that_is_none_says_nothing(world: World, value: str) -> None:
    world.script(fork(2))
    out = world.receive(request("INVITE", extra=f"Max-Breadth: {value}\r\n"), UAC)
    assert summary(out).count("INVITE>UAS1") == 2


def test_parameter_max_breadth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "max_breadth", 4)
    world.script(fork(5))
    assert 440 in finals(world.receive(request("INVITE"), UAC))
    monkeypatch.setattr(settings, "max_breadth", 0)
    assert summary(world.receive(request("INVITE", branch="b2"), UAC)).count("INVITE>UAS1") == 5


def test_many_vias_of_our_form_cost_little(world: World) -> None:
    world.script(relay.relay)
    vias = "".join(f"Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{n:016x}.0\r\n" for n in range(400))
    looked = []
    real = world.store.get
    world.store.get = lambda key: looked.append(key) or real(key)  # type: ignore[method-assign,func-returns-value]
    assert "INVITE>UAS1" in summary(world.receive(request("INVITE", extra=vias), UAC))
    assert len(looked) < 90
