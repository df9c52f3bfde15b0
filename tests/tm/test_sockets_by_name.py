"""What is stored names sockets, so that a server whose ``socket=`` lines have another order, or are others, goes on with it."""

from __future__ import annotations

import pytest

from opensips_py.core import functions_branches
from opensips_py.net.tcp import address_of, key_of
from opensips_py.script.context import Branch, Context, ListenSocket, Source
from opensips_py.server.process import this
from opensips_py.sip.message import reread
from opensips_py.tm import relay
from tests.tm.world import UAC, UAS1, UAS2, Wire, World, find, reply_to, request

FIRST, SECOND = ("udp", "127.0.0.1", 15060), ("udp", "127.0.0.2", 15070)


class Listening:
    """The server's sockets, which change, and the names of those that messages leave by."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.left = world, list[str]()
        self._patch = monkeypatch

    def on(self, *addresses: tuple[str, str, int]) -> None:
        """The server has these ``socket=`` lines from now on."""
        sockets = [ListenSocket(n, *address) for n, address in enumerate(addresses)]
        self._patch.setattr(this, "sockets", sockets)
        self._patch.setattr(this, "handles", [Noted(self, socket.name) for socket in sockets])
        self.left.clear()


class Noted(Wire):
    def __init__(self, listening: Listening, name: str) -> None:
        super().__init__(listening.world)
        self.listening, self.name = listening, name

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        self.listening.left.append(self.name)
        super().sendto(data, address)


@pytest.fixture
def listening(world: World, monkeypatch: pytest.MonkeyPatch) -> Listening:
    return Listening(world, monkeypatch)


def invite_from_the_second(world: World, listening: Listening) -> None:
    def main(ctx: Context) -> int:
        ctx.send_socket = this.sockets[1]
        ctx.armed_failure = "next"
        return relay.relay(ctx)

    def following(ctx: Context) -> int:
        ctx.new_uri = "sip:c@127.0.1.3:15063"
        return relay.relay(ctx)

    world.script(main, failure_next=following)
    listening.on(FIRST, SECOND)
    world.receive(request("INVITE"), UAC)


def test_a_transaction_goes_on_by_its_own_sockets_under_another_order(world: World, listening: Listening) -> None:
    invite_from_the_second(world, listening)
    listening.on(("udp", "127.0.0.3", 15060), SECOND, FIRST)
    out = world.pass_time(0.6)
    assert (out[0][1], listening.left) == (UAS1, ["udp:127.0.0.2:15070"])
    listening.left.clear()
    sent = reread(world.records()[0].branches[0].sent)
    followed = find(world.receive(reply_to(sent, 404), UAS1), "INVITE>UAS2")
    assert listening.left == [
        "udp:127.0.0.2:15070",
        "udp:127.0.0.1:15060",
    ]  # the ACK, and the second attempt from where it was received
    world.receive(reply_to(followed, 486), UAS2)
    assert listening.left[-1] == "udp:127.0.0.1:15060"  # what goes upstream


def test_a_socket_that_is_gone_is_stood_in_for_by_one_of_its_kind(
    world: World, listening: Listening, capfd: pytest.CaptureFixture[str]
) -> None:
    invite_from_the_second(world, listening)
    listening.on(("tcp", "127.0.0.2", 15070), ("udp", "::1", 15070), FIRST, ("udp", "127.0.0.2", 15080))
    world.pass_time(2)
    assert listening.left == ["udp:127.0.0.2:15080", "udp:127.0.0.2:15080"]
    logged = capfd.readouterr().err
    assert logged.count("names udp:127.0.0.2:15070, which this server does not have: udp:127.0.0.2:15080 is used") == 1


def test_nothing_is_sent_where_none_of_its_kind_is_left(world: World, listening: Listening) -> None:
    invite_from_the_second(world, listening)
    listening.on(("tcp", "127.0.0.1", 15060), ("udp", "::1", 15070))
    world.pass_time(200)
    assert (listening.left, world.records()) == ([], [])


def test_a_context_keeps_its_sockets_under_another_order(listening: Listening) -> None:
    listening.on(FIRST, SECOND, ("udp", "::1", 15070))
    one, two, three = this.sockets
    ctx = Context(reread(request("INVITE")), Source(*UAC), two, send_socket=three)
    ctx.branches = [Branch("sip:b@h", socket=one.name, q=500), Branch("sip:c@h", socket=two.name, q=300)]
    functions_branches.serialize_branches(ctx, True)
    frozen = ctx.freeze()
    listening.on(("udp", "::1", 15070), FIRST, SECOND)
    thawed = Context.thaw(frozen, this.sockets_by_name)
    assert (thawed.socket.host, thawed.send_socket) == ("127.0.0.2", this.sockets[0])
    steps = []
    while functions_branches.next_branches(thawed) > 0:
        steps.append(thawed.send_socket)
    assert this.sockets[1] in steps
    assert this.sockets[2] in steps


@pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::1"])
def test_the_address_of_a_connection_names_its_socket(ip: str) -> None:
    assert address_of(key_of("tcp:[::1]:5060", ip, 40000)) == ("tcp:[::1]:5060", ip, 40000)
