"""What an operator sees of parked operations, and can do with them: async_list, async_cancel, async_stats, the log."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import MIError, Server
from tests.faults.observing import MODULES, assert_nothing_is_left, descriptors, wait_parked
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES
    + """
modparam("avpops", "db_url", "DB_URL")
route {
    $avp(kept) = "kept";
    if ($rU == "exec") async(exec("sleep 60 & sleep 61", , $avp(out)), resume);
    if ($rU == "mysql") async(avp_db_query("SELECT SLEEP(62)", "$avp(out)"), resume);
    if ($rU == "http") async(rest_get("HTTP_URL/never", $avp(out)), resume);
    if ($rU == "sleep") async(sleep(63), resume);
    if ($rU == "short") async(usleep(30000), resume);
    if ($rU == "fails") async(exec("sleep 0.01; exit 3", , $avp(out)), resume);
    if ($rU == "late") async(sleep(63), resume, 0.1);
    if ($rU == "launch") { launch(exec("sleep 64"), report, "$fU"); t_reply(200, "OK"); exit; }
    async(usleep(1000), resume);
}
route[resume] {
    append_to_reply("X-Rc: $rc\\r\\nX-Kept: $avp(kept)\\r\\n");
    xlog("@@resumed $rU\\n");
    t_reply(200, "OK");
}
route[report] {
    xlog("@@report $param(1) $rc\\n");
}
"""
)
KINDS = {"exec": "exec", "mysql": "avp_db_query", "http": "rest_get", "sleep": "sleep"}


@pytest.fixture
def script(mariadb: MariaDB, http_server: HttpServer) -> str:
    return SCRIPT.replace("DB_URL", mariadb.url).replace("HTTP_URL", http_server.url)


def _ask(running: Server, client: MakeClient, user: str) -> SipClient:
    caller = client(running.address)
    caller.request("OPTIONS", f"sip:{user}@127.0.0.1:{running.port}")
    return caller


def _token(running: Server, function: str) -> str:
    (row,) = running.mi("async_list", {"function": function})["Operations"]
    return str(row["Token"])


# --- async_cancel -----------------------------------------------------------------------------------------------------


def test_a_cancelled_operation_is_dropped_and_its_route_runs_at_once(
    server: StartServer, client: MakeClient, script: str
) -> None:
    running = server(script)
    assert _ask(running, client, "first").final().header("X-Rc") == "1"
    before = descriptors(running)
    callers = {kind: _ask(running, client, kind) for kind in KINDS}
    wait_parked(running, len(KINDS))
    for kind, function in KINDS.items():
        assert running.mi("async_cancel", {"token": _token(running, function)}) == "OK"
        answer = callers[kind].final()
        assert (answer.status, answer.header("X-Rc"), answer.header("X-Kept")) == (200, "-5", "kept"), kind
        assert len(running.lines(f"@@resumed {kind}")) == 1
    assert_nothing_is_left(running, before)
    assert running.statistics("async:cancelled", "async:in_flight") == {"async:cancelled": 4, "async:in_flight": 0}


def test_the_report_route_of_a_cancelled_launch_runs(server: StartServer, client: MakeClient, script: str) -> None:
    running = server(script)
    assert _ask(running, client, "launch").final().status == 200
    (row,) = wait_parked(running, 1)
    assert running.mi("async_cancel", [row["Token"]]) == "OK"
    running.wait_log("@@report alice -5")
    assert_nothing_is_left(running, None)


def test_an_operation_that_has_changed_hands_can_be_cancelled(server: StartServer, client: MakeClient, script: str) -> None:
    running = server(script, workers=2)
    caller = _ask(running, client, "exec")
    (row,) = wait_parked(running, 1)
    os.kill(row["PID"], signal.SIGKILL)
    assert running.mi("async_cancel", {"token": row["Token"]}) == "OK"
    assert caller.final().header("X-Rc") == "-5"
    caller.nothing(0.2)
    assert_nothing_is_left(running, None)


@pytest.mark.parametrize(("token", "code"), [("00", 404), ("no", 400)])
def test_what_is_not_there_cannot_be_cancelled(server: StartServer, script: str, token: str, code: int) -> None:
    running = server(script)
    with pytest.raises(MIError) as error:
        running.mi("async_cancel", {"token": token})
    assert error.value.code == code


# --- async_list -------------------------------------------------------------------------------------------------------


def test_the_list_can_be_narrowed_and_is_bounded(server: StartServer, client: MakeClient, script: str) -> None:
    running = server(script)
    for kind in ("sleep", "sleep", "sleep", "exec", "exec"):
        _ask(running, client, kind)
    wait_parked(running, 5)
    for params, count, shown in (
        ({}, 5, 5),
        ({"limit": 2}, 5, 2),
        ({"limit": 0}, 5, 0),
        ({"function": "exec"}, 2, 2),
        ({"function": "sleep", "limit": 1}, 3, 1),
        ({"function": "rest_get"}, 0, 0),
    ):
        listed = running.mi("async_list", params)
        assert (listed["Count"], len(listed["Operations"])) == (count, shown), params
    with pytest.raises(MIError):
        running.mi("async_list", {"limit": -1})
    for row in running.mi("async_list")["Operations"]:
        running.mi("async_cancel", {"token": row["Token"]})
    wait_parked(running, 0)


# --- figures ----------------------------------------------------------------------------------------------------------


def _figures(running: Server, function: str) -> dict[str, Any]:
    (figures,) = running.mi("async_stats", {"function": function})["Functions"]
    return dict(figures)


def test_every_function_has_figures_of_its_own(server: StartServer, client: MakeClient, script: str) -> None:
    running = server(script.replace("route {", 'modparam("exec", "rc_from_exit_status", 1)\nroute {', 1))
    for user in ("short", "short", "short", "fails", "late"):
        assert _ask(running, client, user).final().status == 200
    parked = _ask(running, client, "sleep")
    wait_parked(running, 1)
    slept = _figures(running, "usleep")
    assert (slept["Started"], slept["Completed"], slept["Failed"], slept["In flight"]) == (3, 3, 0, 0)
    assert sum(slept["Latency"].values()) == 3
    assert sum(n for bound, n in slept["Latency"].items() if bound in ("1", "2", "5", "10", "20")) == 0
    program = _figures(running, "exec")
    assert (program["Started"], program["Completed"], program["Failed"]) == (1, 1, 1)
    sleep = _figures(running, "sleep")
    assert (sleep["Started"], sleep["Timed out"], sleep["In flight"]) == (2, 1, 1)
    os.kill(running.mi("async_list")["Operations"][0]["PID"], signal.SIGKILL)
    running.wait_log("go on in another process")
    running.mi("async_cancel", {"token": _token(running, "sleep")})
    assert parked.final().header("X-Rc") == "-5"
    sleep = _figures(running, "sleep")
    assert (sleep["Taken over"], sleep["Cancelled"], sleep["In flight"]) == (1, 1, 0)
    assert {row["Function"] for row in running.mi("async_stats")["Functions"]} >= set(KINDS.values())
    with pytest.raises(MIError):
        running.mi("async_stats", {"function": "nosuch"})


def test_slow_operations_are_logged_with_their_place(server: StartServer, client: MakeClient, script: str) -> None:
    running = server("async_slow_threshold = 20\n" + script)
    assert _ask(running, client, "first").final().status == 200
    assert _ask(running, client, "short").final().status == 200
    place = next(n for n, text in enumerate(running.config.read_text().splitlines(), 1) if "usleep(30000)" in text)
    running.wait_log(f"opensips.cfg:{place}: usleep() took ")
    assert running.statistics("async:slow") == {"async:slow": len(running.lines(" took "))}


def test_startup_route_alone_waits_in_line(server: StartServer, client: MakeClient) -> None:
    script = """
startup_route { async(usleep(1000), resume); }
route { async(usleep(1000), resume); }
route[resume] { xlog("@@went on $rT\\n"); }
"""
    running = server(MODULES + script)
    assert len(running.lines("@@went on")) == 1, "before the server was ready"
    client(running.address).request("ACK", f"sip:x@127.0.0.1:{running.port}")
    running.wait_log("@@went on", count=2)
    assert running.statistics("async:sync_fallbacks") == {"async:sync_fallbacks": 1}


# --- events -----------------------------------------------------------------------------------------------------------


def test_deadlines_and_take_overs_raise_events(server: StartServer, client: MakeClient, script: str) -> None:
    told = "$param(function) route=$param(route) where=$param(where) token=$param(token) age=$param(age)\\n"
    routes = f'event_route[E_ASYNC_TIMEOUT] {{ xlog("@@timeout {told}"); }}\n'
    routes += f'event_route[E_ASYNC_TAKEOVER] {{ xlog("@@takeover {told}"); }}\n'
    running = server(script + routes)
    assert _ask(running, client, "late").final().header("X-Rc") == "-3"
    place = next(n for n, text in enumerate(running.config.read_text().splitlines(), 1) if "sleep(63), resume, 0.1" in text)
    (line,) = running.wait_log("@@timeout")
    found = re.search(r"sleep route=resume where=(\S+) token=[0-9a-f]{32} age=(\d+)", line)
    assert found is not None, line
    assert found[1].endswith(f"opensips.cfg:{place}")
    assert 100 <= int(found[2]) < 2000
    parked = _ask(running, client, "sleep")
    (row,) = wait_parked(running, 1)
    os.kill(row["PID"], signal.SIGKILL)
    assert f"sleep route=resume where={row['Where']} token={row['Token']}" in running.wait_log("@@takeover")[0]
    running.mi("async_cancel", {"token": row["Token"]})
    assert parked.final().header("X-Rc") == "-5"
    assert len(running.lines("@@timeout")) == len(running.lines("@@takeover")) == 1
