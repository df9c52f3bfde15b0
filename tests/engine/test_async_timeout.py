"""Time limits of async() and launch(): from the statement, from a variable, from the parameter async_timeout."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, assert_nothing_is_left, descriptors, wait_parked
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES
    + """
route {
    if ($rU == "fraction") async(sleep(60), resume, 0.2);
    if ($rU == "variable") { $var(t) = "0.2"; async(exec("sleep 61", , $avp(x)), resume, $var(t)); }
    if ($rU == "null") async(exec("sleep 61", , $avp(x)), resume, $var(nothing));
    if ($rU == "nonsense") { $var(t) = "soon"; async(exec("sleep 61", , $avp(x)), resume, $var(t)); }
    if ($rU == "default") async(exec("sleep 61", , $avp(x)), resume);
    if ($rU == "none") async(exec("sleep 1; echo done", , $avp(x)), resume, 0);
    if ($rU == "http") async(rest_get("HTTP_URL/delay/1000", $avp(x)), resume);
    if ($rU == "sleep") async(sleep(1), resume);
    if ($rU == "launch") { launch(exec("sleep 61"), report, "default"); t_reply(200, "OK"); exit; }
    if ($rU == "launch4") { launch(sleep(62), report, "fourth", 0.2); t_reply(200, "OK"); exit; }
    t_newtran();
    async(usleep(1000), resume);
}
route[resume] {
    append_to_reply("X-Rc: $rc\\r\\n");
    t_reply(200, "OK");
}
route[report] {
    xlog("@@report $param(1) $rc\\n");
}
"""
)
PARAMETER = 'async_timeout = "0.3, rest_get=0"\n'


def _seconds(running: Server, caller: SipClient, user: str) -> tuple[str, float]:
    """What $rc was, and how long the answer took."""
    began = this.clock.now()
    caller.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
    answer = caller.final()
    return answer.header("X-Rc"), answer.at - began


def test_the_statement_s_limit_may_be_a_fraction_a_variable_or_none(
    server: StartServer, client: MakeClient, http_server: HttpServer
) -> None:
    running = server(PARAMETER + SCRIPT.replace("HTTP_URL", http_server.url))
    _seconds(running, client(running.address), "first")
    before = descriptors(running)
    for user, rc, least in (
        ("fraction", "-3", 0.2),
        ("variable", "-3", 0.2),
        ("null", "-3", 0.3),
        ("nonsense", "-3", 0.3),
        ("default", "-3", 0.3),
        ("none", "1", 1.0),
        ("sleep", "1", 1.0),  # the general default is not for what takes its time on purpose
    ):
        got, took = _seconds(running, client(running.address), user)
        assert (got, least <= took < least + 10) == (rc, True), (user, got, took)
    assert len(running.lines("the time limit is not a number of seconds")) == 1
    assert_nothing_is_left(running, before)


def test_a_function_s_own_entry_wins_over_the_default(server: StartServer, client: MakeClient, http_server: HttpServer) -> None:
    script = SCRIPT.replace("HTTP_URL", http_server.url)
    assert _http(server(PARAMETER + script), client) == "1"
    assert _http(server('async_timeout = "0, rest_get=0.1"\n' + script), client) == "-3"
    running = server('async_timeout = "0, usleep=0.0005, sleep=0.1"\n' + script)
    assert _seconds(running, client(running.address), "sleep")[0] == "-3"


def _http(running: Server, client: MakeClient) -> str:
    return _seconds(running, client(running.address), "http")[0]


@pytest.mark.parametrize(("user", "text"), [("launch", "default"), ("launch4", "fourth")])
def test_launch_has_a_limit_too(server: StartServer, client: MakeClient, user: str, text: str) -> None:
    running = server(PARAMETER + SCRIPT)
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
    assert caller.final().status == 200
    running.wait_log(f"@@report {text} -3")
    wait_parked(running, 0)
    assert_nothing_is_left(running, None)
    assert len(running.lines("@@report")) == 1
