"""Module options: what the server answers itself."""

from __future__ import annotations

from opensips_py.modules import options
from opensips_py.script.context import Context
from tests.tm.conftest import world  # noqa: F401
from tests.tm.world import UAC, World, request, summary


def test_options_for_the_server_are_answered(world: World) -> None:  # noqa: F811
    ended: list[int] = []

    def answer(ctx: Context) -> int:
        ended.append(options.options_reply(ctx))
        return 1

    world.script(answer)
    out = world.receive(request("OPTIONS", "sip:127.0.0.1:15060"), UAC)
    assert summary(out) == ["200>UAC"]
    assert ended == [0]
    kinds = {header.name: header.value for header in out[0][1].headers}
    assert (kinds["Accept"], kinds["Accept-Language"]) == ("*/*", "en")
    assert not kinds.keys() & {"Accept-Encoding", "Supported"}, "they are empty"
    codes = []

    def script(ctx: Context) -> int:
        codes.append(options.options_reply(ctx))
        return 1

    world.script(script)
    assert world.receive(request("OPTIONS", "sip:bob@127.0.0.1:15060"), UAC) == []
    assert world.receive(request("INFO", "sip:127.0.0.1:15060"), UAC) == []
    assert codes == [-1, -1]
