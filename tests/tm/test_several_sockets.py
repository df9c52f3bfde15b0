"""A server with several sockets: from which one a request leaves, and what it says about itself there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from opensips_py.core.functions_network import force_send_socket
from opensips_py.modules import rr
from opensips_py.net import destinations
from opensips_py.script.context import Context, ListenSocket
from opensips_py.server.process import this
from opensips_py.sip.message import parse
from opensips_py.tm import relay
from opensips_py.tm.receive import receive_message
from tests.tm.world import UAC, UAS1, Wire, World, reply_to, request


class NamedWire(Wire):
    """Notes by which socket something leaves."""

    def __init__(self, world: World, name: str, left: list[tuple[str, bytes]]) -> None:
        super().__init__(world)
        self.name, self.left = name, left

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        self.left.append((self.name, data))
        super().sendto(data, address)


@pytest.fixture
def left(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """A second socket, on an address from which the kernel would not send; what leaves, and by which."""
    destinations._located.clear()  # a server's mhomed does not change
    seen: list[tuple[str, bytes]] = []
    other = replace(world.socket, index=1, host="127.0.0.9")
    monkeypatch.setattr(this, "sockets", [world.socket, other])
    monkeypatch.setattr(this, "handles", [NamedWire(world, "127.0.0.1", seen), NamedWire(world, "127.0.0.9", seen)])
    return seen


def inside() -> ListenSocket:
    return this.sockets[1]


def through(world: World, left: list[tuple[str, bytes]], mhomed: int, force: str | None = None) -> tuple[str, bytes]:
    def main(ctx: Context) -> int:
        rr.record_route(ctx)
        if force is not None:
            assert force_send_socket(ctx, force) == 1
        return relay.relay(ctx)

    world.script(main)
    this.program.settings.mhomed = mhomed
    receive_message(request("OPTIONS"), UAC, inside())
    [sent] = [entry for entry in left if entry[1].startswith(b"OPTIONS")]
    return sent


def test_by_default_it_is_the_socket_that_the_request_came_to(world: World, left: list[tuple[str, bytes]]) -> None:
    name, data = through(world, left, 0)
    assert name == "127.0.0.9"
    assert [value.split(";")[0] for value in parse(data).values("record-route")] == ["<sip:127.0.0.9:15060"]


def test_with_mhomed_it_is_the_one_that_the_kernel_would_take(world: World, left: list[tuple[str, bytes]]) -> None:
    name, data = through(world, left, 1)
    msg = parse(data)
    assert name == "127.0.0.1"
    assert msg.via.sent_by == "127.0.0.1:15060"
    assert [value.split(";")[0] for value in msg.values("record-route")] == ["<sip:127.0.0.1:15060", "<sip:127.0.0.9:15060"]


def test_a_forced_socket_wins(world: World, left: list[tuple[str, bytes]]) -> None:
    assert through(world, left, 1, "udp:127.0.0.9:15060")[0] == "127.0.0.9"
    left.clear()
    world.store.delete(world.store.scan(b"t")[0][0])
    assert through(world, left, 0, "udp:127.0.0.1:15060")[0] == "127.0.0.1"


def test_the_reply_goes_back_from_where_the_request_came_to(world: World, left: list[tuple[str, bytes]]) -> None:
    _, data = through(world, left, 1)
    receive_message(reply_to(parse(data), 200), UAS1, world.socket)
    assert left[-1][0] == "127.0.0.9" and left[-1][1].startswith(b"SIP/2.0 200")
