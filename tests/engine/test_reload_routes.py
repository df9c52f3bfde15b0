"""``reload_routes``: new routes while calls go on, or none at all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import MIError, Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "cfgutils.so"
route {
    if ($rU == "suspend")
        async(sleep(2), resume);
    if ($rU == "launch")
        launch(sleep(2), tell);
    sl_send_reply(200, "Old");
}
route[resume] {
    t_reply(200, "Old");
}
route[tell] {
    xlog("told the old way\\n");
}
timer_route[tick, 1] {
    xlog("old tick\\n");
}
"""


def change(running: Server, *replacements: tuple[str, str]) -> None:
    """Write another script into the server's file."""
    text = running.config.read_text()
    for before, after in replacements:
        assert before in text
        text = text.replace(before, after)
    running.config.write_text(text)


def answer(client: MakeClient, running: Server, user: str = "now") -> str:
    sip = client(running.address)
    sip.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
    return sip.final().reason


def test_every_process_runs_the_new_routes_once_the_answer_is_there(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=3)
    assert answer(client, running) == "Old"
    change(running, ('"Old"', '"New"'), ("old tick", "new tick"))
    assert running.mi("reload_routes") == "OK"
    assert {answer(client, running) for _ in range(30)} == {"New"}
    running.wait_log("new tick")
    before = len(running.lines("old tick"))
    time.sleep(1.1)
    assert len(running.lines("old tick")) == before


def test_a_wrong_script_changes_nothing_and_the_error_says_where(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    change(running, ('sl_send_reply(200, "Old")', 'sl_send_replay(200, "New")'))
    line = next(n for n, text in enumerate(running.config.read_text().splitlines(), 1) if "replay" in text)
    with pytest.raises(MIError, match="500 reload failed"):
        running.mi("reload_routes")
    running.wait_log(f"{running.config}:{line}:5: error: unknown command <sl_send_replay>")
    assert {answer(client, running) for _ in range(10)} == {"Old"}
    change(running, ("sl_send_replay", "sl_send_reply"))
    assert running.mi("reload_routes") == "OK"
    assert answer(client, running) == "New"


def test_what_is_suspended_goes_on_in_the_new_route_of_that_name(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    sip = client(running.address)
    sip.request("OPTIONS", f"sip:suspend@127.0.0.1:{running.port}")
    _parked(running)
    change(running, ('t_reply(200, "Old")', 't_reply(200, "New")'))
    assert running.mi("reload_routes") == "OK"
    assert sip.final().reason == "New"


def test_what_waits_for_a_route_that_has_gone_is_answered_500(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    sip = client(running.address)
    sip.request("INVITE", f"sip:suspend@127.0.0.1:{running.port}")
    client(running.address).request("OPTIONS", f"sip:launch@127.0.0.1:{running.port}")
    _parked(running, 2)
    change(
        running,
        ("async(sleep(2), resume);", "exit;"),
        ("launch(sleep(2), tell);", "exit;"),
        ("route[resume]", "route[other]"),
        ("route[tell]", "route[another]"),
    )
    assert running.mi("reload_routes") == "OK"
    final = sip.final()
    assert (final.status, final.reason) == (500, "Server Internal Error")
    running.wait_log("route [resume] is not defined any more")
    running.wait_log("route [tell] is not defined any more")


def test_a_process_that_is_started_later_has_the_new_routes(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=1)
    change(running, ('"Old"', '"New"'))
    assert running.mi("reload_routes") == "OK"
    os.kill(running.pids("SIP receiver")[0], signal.SIGKILL)
    running.wait_log("is back")
    assert answer(client, running) == "New"


def test_a_process_that_is_being_started_meanwhile_has_the_new_routes(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=1)
    change(running, ('"Old"', '"New"'))
    os.kill(running.pids("SIP receiver")[0], signal.SIGKILL)
    running.wait_log("starting another")
    assert running.mi("reload_routes") == "OK"
    running.wait_log("is back")
    assert answer(client, running) == "New"


def test_what_a_restart_is_needed_for_is_said(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT)
    change(running, ('loadmodule "tm.so"', 'loadmodule "tm.so"\nmodparam("tm", "fr_timeout", 7)'), ('"Old"', '"New"'))
    assert running.mi("reload_routes") == "OK"
    running.wait_log("only routes are read again")
    assert answer(client, running) == "New"


def test_routes_can_be_reloaded_many_times_without_growing(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=1)
    for _ in range(20):
        running.mi("reload_routes")
    before = running.uss()
    for _ in range(60):
        running.mi("reload_routes")
    assert running.uss() - before < 3_000_000
    assert answer(client, running) == "Old"


def _parked(running: Server, count: int = 1) -> None:
    end = this.clock.now() + 20
    while running.mi("async_list")["Count"] < count:
        assert this.clock.now() < end, "never parked"
        time.sleep(0.01)


def test_sighup_reloads_and_what_is_parked_goes_on_in_the_new_route(server: StartServer, client: MakeClient) -> None:
    running = server(SCRIPT, workers=3)
    waiting = client(running.address)
    waiting.request("OPTIONS", f"sip:suspend@127.0.0.1:{running.port}")
    change(running, ('"Old"', '"New"'))
    os.kill(running.process.pid, signal.SIGHUP)
    running.wait_log("are the new ones")
    end = this.clock.now() + 20
    while any(answer(client, running) == "Old" for _ in range(6)):
        assert this.clock.now() < end
    assert waiting.final().reason == "New"
    change(running, ("route[resume]", "route[resume"))
    os.kill(running.process.pid, signal.SIGHUP)
    running.wait_log("the routes stay as they are")
    assert answer(client, running) == "New"
