"""Module gflags: flags that all processes and management share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.testbed.server import MIError, Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "gflags.so"
modparam("gflags", "initial", 2)
route {
    if ($rU == "set") set_gflag(3);
    if ($rU == "reset") reset_gflag(3);
    if ($rU == "bad" && !set_gflag(32)) sl_send_reply(400, "No");
    if (is_gflag(3)) sl_send_reply(200, "On");
    else sl_send_reply(200, "Off");
}
"""


def test_a_flag_holds_for_every_process(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=2)
    user = client(running.address)

    def asked(name: str = "ask") -> str:
        user.request("OPTIONS", f"sip:{name}@127.0.0.1:{running.port}")
        return user.final().reason

    assert running.mi("get_gflags") == {"hex": "0x2", "dec": "2"}
    assert asked() == "Off"
    assert asked("set") == "On"
    assert {asked() for _ in range(20)} == {"On"}
    assert running.mi("get_gflags") == {"hex": "0xA", "dec": "10"}
    assert running.mi("is_gflag", {"bitmask": "0xA"}) == "TRUE"
    assert running.mi("reset_gflag", {"bitmask": 8}) == "OK"
    assert {asked() for _ in range(20)} == {"Off"}
    assert running.mi("is_gflag", {"bitmask": "10"}) == "FALSE"
    assert running.mi("set_gflag", {"bitmask": "0x80000000"}) == "OK"
    assert asked("set") == "On"
    assert asked("reset") == "Off"
    assert asked("bad") == "No"
    assert running.mi("get_gflags")["hex"] == "0x80000002"
    with pytest.raises(MIError, match="400"):
        running.mi("set_gflag", {"bitmask": "zero"})
