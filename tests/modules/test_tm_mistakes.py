"""What a script does wrong with functions of tm is logged, with its place; return codes are OpenSIPS'."""

from __future__ import annotations

from collections.abc import Callable

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = """loadmodule "sl.so"
loadmodule "tm.so"
route {
    if ($rU == "uri") {
        $ru = "nonsense";
        t_relay();
    } else
        route(status);
    sl_send_reply(200, "$rc");
}
route[status] {
    $var(code) = 42;
    t_reply($var(code), "x");
}
"""


def test_mistakes_are_logged_with_their_line(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=1)
    caller = client(running.address)
    lines = running.config.read_text().splitlines()
    for user, rc, text, statement in (
        ("uri", "-2", "the script has set an invalid R-URI: 'nonsense'", "t_relay();"),
        ("status", "-1", "42 is not a valid status code", "t_reply("),
    ):
        caller.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
        assert caller.final().reason == rc
        (line,) = running.wait_log(text)
        number = next(n for n, source in enumerate(lines, 1) if source.strip().startswith(statement))
        assert f"{running.config.name}:{number}: " in line
        assert "ERROR:tm:" in line
