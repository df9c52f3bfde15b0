"""Module path: Path in the bytes that leave, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from opensips_py.modules import path, rr
from opensips_py.script.context import Context, Source
from opensips_py.server.process import this
from opensips_py.sip.message import SipMessage
from opensips_py.tm import relay
from tests.tm.conftest import world  # noqa: F401
from tests.tm.world import UAC, Wire, World, find, request


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    rr.routed.clear()


def registered(world: World, add: Callable[[Context], int], extra: str = "") -> SipMessage:  # noqa: F811
    def main(ctx: Context) -> int:
        assert add(ctx) == 1
        return relay.relay(ctx)

    world.script(main)
    return find(world.receive(request("REGISTER", extra=extra), UAC), "REGISTER.*")


@pytest.mark.parametrize(
    "add, value",
    [
        (path.add_path, "<sip:127.0.0.1:15060;lr>"),
        (lambda ctx: path.add_path(ctx, "edge"), "<sip:edge@127.0.0.1:15060;lr>"),
        (path.add_path_received, "<sip:127.0.0.1:15060;lr;received=sip:127.0.1.1:15061>"),
        (lambda ctx: path.add_path_received(ctx, "in"), "<sip:in@127.0.0.1:15060;lr;received=sip:127.0.1.1:15061>"),
    ],
)
def test_the_form_of_path(world: World, add: Callable[[Context], int], value: str) -> None:  # noqa: F811
    assert registered(world, add).values("path") == [value]


def test_ours_goes_in_front_of_those_of_others(world: World) -> None:  # noqa: F811
    sent = registered(world, path.add_path, "Path: <sip:first.example;lr>\r\n")
    assert sent.values("path") == ["<sip:127.0.0.1:15060;lr>", "<sip:first.example;lr>"]


@pytest.mark.parametrize(
    "double, expected",
    [(1, ["<sip:127.0.0.9;r2=on;lr>", "<sip:127.0.0.1:15060;r2=on;lr>"]), (0, ["<sip:127.0.0.9;lr>"])],
)
def test_leaving_from_another_socket(
    world: World, monkeypatch: pytest.MonkeyPatch, double: int, expected: list[str]  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(path.enable_double_path, "value", double)
    other = replace(world.socket, index=1, host="127.0.0.9", port=5060)
    monkeypatch.setattr(this, "sockets", [world.socket, other])
    monkeypatch.setattr(this, "handles", [Wire(world), Wire(world)])

    def add(ctx: Context) -> int:
        ctx.send_socket = other
        return path.add_path(ctx)

    assert registered(world, add).values("path") == expected


@pytest.mark.parametrize("wanted, target", [(1, ("127.0.1.2", 15062)), (0, ("127.0.1.3", 15063))])
def test_a_request_back_goes_to_the_received_address(
    world: World, monkeypatch: pytest.MonkeyPatch, wanted: int, target: tuple[str, int]  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(path.use_received, "value", wanted)
    path.configure()

    def main(ctx: Context) -> int:
        rr.loose_route(ctx)
        return relay.relay(ctx)

    world.script(main)
    route = "Route: <sip:in@127.0.0.1:15060;lr;received=sip:127.0.1.2:15062>\r\n"
    out = world.receive(request("OPTIONS", "sip:bob@127.0.1.3:15063", extra=route), UAC)
    assert [address for address, msg in out if msg.is_request] == [target]
    assert find(out, "OPTIONS.*").all("route") == []


def test_a_stream_is_named_in_received(world: World) -> None:  # noqa: F811
    def add(ctx: Context) -> int:
        ctx.source = Source(*UAC, "tcp")
        return path.add_path_received(ctx)

    assert registered(world, add).values("path") == ["<sip:127.0.0.1:15060;lr;received=sip:127.0.1.1:15061%3Btransport%3Dtcp>"]
