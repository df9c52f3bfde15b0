"""A forced socket decides the transport, over what the URI says: the next hop is where it is reached from there."""

from __future__ import annotations

import pytest

from opensips_py.modules.rr.loose_route import follow_routes
from opensips_py.net import destinations
from opensips_py.script.context import Branch, Context, ListenSocket
from opensips_py.server.process import this
from opensips_py.tm import relay
from tests.tm.world import UAC, World, find, request

UDP, TCP, TLS = 0, 1, 2


class Kept:
    """Stands for the connections of a socket: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((data, address))


@pytest.fixture
def tcp(world: World, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(this, "sockets", [
        world.socket,
        ListenSocket(TCP, "tcp", "127.0.0.1", 15060),
        ListenSocket(TLS, "tls", "127.0.0.1", 15061),
    ])  # fmt: skip
    kept = Kept()
    monkeypatch.setattr(this, "handles", [this.handles[0], kept, Kept()])
    return kept


URIS = ["sip:bob@127.0.1.2:15062", "sip:bob@127.0.1.2:15062;transport=udp", "sip:bob@127.0.1.2:15062;transport=tls;x=y"]


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("where", ["ruri", "du", "branch", "stateless"])
def test_a_request_leaves_from_the_forced_socket(world: World, tcp: Kept, uri: str, where: str) -> None:
    def main(ctx: Context) -> int:
        socket = this.sockets[TCP]
        if where == "branch":
            ctx.new_uri = "sip:other@127.0.1.3:15063"
            ctx.branches = [Branch(uri, socket=socket.name)]
            return relay.relay(ctx)
        ctx.send_socket = socket
        if where == "du":
            ctx.dst_uri = uri
            ctx.new_uri = "sip:bob@example.com"
        else:
            ctx.new_uri = uri
        return relay.forward(ctx) if where == "stateless" else relay.relay(ctx)

    world.script(main)
    world.receive(request("INVITE"), UAC)
    assert [address for _, address in tcp.sent] == [("127.0.1.2", 15062)]
    assert b"Via: SIP/2.0/TCP 127.0.0.1:15060" in tcp.sent[0][0]


def test_without_one_the_uri_decides(world: World, tcp: Kept) -> None:
    world.script(relay.relay)
    assert find(world.receive(request("INVITE"), UAC), "INVITE.*")
    world.receive(request("INVITE", "sip:bob@127.0.1.2:15062;transport=tcp", branch="b2"), UAC)
    assert len(tcp.sent) == 1


@pytest.mark.parametrize(("socket", "port"), [(UDP, 5060), (TCP, 5060), (TLS, 5061)])
def test_a_port_that_is_not_given_is_that_of_the_transport(world: World, tcp: Kept, socket: int, port: int) -> None:
    for uri in ("sip:bob@127.0.1.2", "sips:bob@127.0.1.2", "sip:bob@127.0.1.2;transport=tcp"):
        hop = destinations.hop_of_uri(uri)
        assert hop is not None
        found = destinations.known_destinations(hop, this.sockets[socket], world.socket)
        assert found == (("127.0.1.2", port, this.sockets[socket]),)


def test_the_second_own_route_decides_for_a_phone_that_does_not_say_its_transport(world: World, tcp: Kept) -> None:
    """Double Record-Route: the side on which the request goes on is TCP; the remote target says nothing."""

    def main(ctx: Context) -> int:
        follow_routes(ctx, "", True, True, "rr.params")
        return relay.relay(ctx)

    world.script(main)
    route = "Route: <sip:127.0.0.1:15060;r2=on;lr>\r\nRoute: <sip:127.0.0.1:15060;transport=tcp;r2=on;lr>\r\n"
    world.receive(request("BYE", to_tag="uas", extra=route), UAC)
    assert [address for _, address in tcp.sent] == [("127.0.1.2", 15062)]


def test_an_outbound_proxy_that_says_its_transport_keeps_it(world: World, tcp: Kept) -> None:
    def main(ctx: Context) -> int:
        ctx.send_socket = this.sockets[TCP]
        return relay.relay(ctx, proxy=destinations.hop_of_proxy("udp:127.0.1.2:15062"))

    world.script(main)
    assert find(world.receive(request("INVITE"), UAC), "INVITE.*")
    assert tcp.sent == []


def test_one_that_does_not_is_reached_from_the_forced_socket(world: World, tcp: Kept) -> None:
    def main(ctx: Context) -> int:
        ctx.send_socket = this.sockets[TCP]
        return relay.relay(ctx, proxy=destinations.hop_of_proxy("127.0.1.2:15062"))

    world.script(main)
    world.receive(request("INVITE"), UAC)
    assert len(tcp.sent) == 1
