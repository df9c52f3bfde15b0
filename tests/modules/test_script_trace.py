"""script_trace(): what a script does, statement by statement, in the log."""

from __future__ import annotations

from collections.abc import Callable

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
route {
    $var(n) = 1;
    script_trace(1, "$rm n=$var(n)", "me");
    $var(n) = 2;
    route(answer);
    script_trace();
    $var(n) = 4;
}
route[answer] {
    if ($rm == "OPTIONS")
        sl_send_reply(200, "OK");
    $var(n) = 3;
}
"""


def test_every_statement_that_runs_is_logged(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=1)
    user = client(running.address)
    for n in (1, 2):
        user.request("OPTIONS", f"sip:x@127.0.0.1:{running.port}")
        assert user.final().status == 200
        running.wait_log("[script_trace]", count=n)
    traced = [line.partition("][me]")[2] for line in running.lines("[Script Trace]")]
    once = [
        "[$var(n)] -> (OPTIONS n=1)",
        "[route] -> (OPTIONS n=2)",
        "[if] -> (OPTIONS n=2)",
        "[sl_send_reply] -> (OPTIONS n=2)",
        "[$var(n)] -> (OPTIONS n=2)",
        "[script_trace] -> (OPTIONS n=3)",
    ]
    assert traced == once + once
    number = 1 + next(n for n, text in enumerate(running.config.read_text().splitlines()) if "$var(n) = 2" in text)
    assert f"[{running.config}:{number}][me]" in running.lines("n=1")[0]
