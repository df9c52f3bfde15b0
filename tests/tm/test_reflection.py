"""Nobody is flooded through this server by requests in his name: replies are repeated rarely, and none is much larger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.script.context import Context
from opensips_py.tm import msg_translator, relay, server_transaction, stateless
from opensips_py.tm.settings import settings
from tests.tm.world import UAC, World, find, reply_to, request, summary


def replying(code: int, headers: str = "") -> Callable[[Context], int]:
    return lambda ctx: server_transaction.reply(ctx, code, "Reason", headers)


@pytest.mark.parametrize("code", [180, 200, 486])
@pytest.mark.parametrize("method", ["INVITE", "MESSAGE"])
def test_a_reply_is_repeated_once_in_half_of_t1(world: World, method: str, code: int) -> None:
    world.script(replying(code))
    world.receive(request(method), UAC)
    world.now += 0.01
    out = [world.receive(request(method), UAC) for _ in range(50)]
    assert [summary(sent) for sent in out if sent] == [[f"{code}>UAC"]]
    world.now += settings.t1 / 2
    assert summary(world.receive(request(method), UAC)) == [f"{code}>UAC"]
    assert world.receive(request(method), UAC) == []


def test_whoever_repeats_as_the_rfc_says_is_answered_each_time(world: World) -> None:
    world.script(replying(200))
    world.receive(request("MESSAGE"), UAC)
    for pause in (0.5, 1, 2, 1.4):
        world.now += pause
        assert summary(world.receive(request("MESSAGE"), UAC)) == ["200>UAC"]


def test_each_transaction_for_itself(world: World) -> None:
    world.script(replying(200))
    for branch in ("a", "b", "a", "b"):
        assert len(world.receive(request("MESSAGE", branch=branch), UAC)) == 1


def test_a_large_reply_is_not_repeated_for_a_small_request(world: World) -> None:
    world.script(relay.relay)
    sent = find(world.receive(request("MESSAGE", extra=f"X-Large: {'x' * 2000}\r\n"), UAC), "MESSAGE.*")
    large = reply_to(sent, 200).replace(b"Content-Length", (b"X-Fill: " + b"y" * 10000 + b"\r\n") * 2 + b"Content-Length")
    assert summary(world.receive(large, UAC)) == ["200>UAC"]
    world.now += 1
    assert world.receive(request("MESSAGE"), UAC) == []
    assert summary(world.receive(request("MESSAGE", extra=f"X-Large: {'x' * 2000}\r\n"), UAC)) == ["200>UAC"]


@pytest.mark.parametrize(("size", "factor", "sent"), [(100, 10, 1), (5000, 10, 0), (5000, 50, 1), (5000, 0, 1)])
def test_a_reply_without_state_is_not_much_larger_than_its_request(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, factor: int, sent: int
) -> None:
    codes = []

    def main(ctx: Context) -> int:
        monkeypatch.setattr(settings, "max_reply_factor", factor)
        ctx.slots[msg_translator.REPLY_HEADERS] = f"X-Fill: {'x' * size}\r\n"
        codes.append(stateless.send(ctx, 200, "OK"))
        return 1

    world.script(main)
    assert len(world.receive(request("OPTIONS"), UAC)) == sent
    assert codes == [1 if sent else -1]


def test_what_a_challenge_adds_to_a_minimal_request_stays_within_the_factor(world: World) -> None:
    """Nothing but a Via: the reply holds what it must, and a challenge with a nonce."""
    minimal = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.1.1:15061;branch=z9hG4bK1\r\n\r\n"

    def main(ctx: Context) -> int:
        challenge = 'WWW-Authenticate: Digest realm="example.org", nonce="65f0c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f60718"'
        ctx.slots[msg_translator.REPLY_HEADERS] = f"{challenge}\r\n"
        return stateless.send(ctx, 401, "Unauthorized")

    world.script(main)
    out = world.receive(minimal, UAC)
    assert summary(out) == ["401>UAC"]
    assert len(out[0][1].raw) < 5 * len(minimal)
