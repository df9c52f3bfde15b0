"""async(f(...), route, seconds): at the deadline the route runs with the function's negative code, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from opensips_py.server.process import this
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, assert_nothing_is_left, descriptors, rows, wait_parked
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
    if ($rU == "exec") async(exec("sleep 60 & sleep 61", , $avp(out)), resume, 1);
    if ($rU == "mysql") async(avp_db_query("SELECT SLEEP(62)", "$avp(out)"), resume, 1);
    if ($rU == "http") async(rest_get("HTTP_URL/never", $avp(out), , $avp(code)), resume, 1);
    if ($rU == "post") async(rest_post("HTTP_URL/never", "x", , $avp(out), , $avp(code)), resume, 1);
    if ($rU == "sleep") async(sleep(63), resume, 1);
    if ($rU == "usleep") async(usleep(64000000), resume, 1);
    async(usleep(1000), resume, 1);
}
route[resume] {
    append_to_reply("X-Rc: $rc\\r\\nX-Kept: $avp(kept)\\r\\nX-Out: $avp(out)\\r\\n");
    t_reply(200, "OK");
}
"""
)

CODES = dict.fromkeys(("exec", "mysql", "http", "post", "sleep", "usleep"), "-3")


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_at_the_deadline_the_route_runs_and_nothing_is_left(
    server: StartServer, client: MakeClient, mariadb: MariaDB, http_server: HttpServer, method: str
) -> None:
    running = server(SCRIPT.replace("DB_URL", mariadb.url).replace("HTTP_URL", http_server.url))
    for name in ("first", "second", "third"):
        one = client(running.address)
        one.request("OPTIONS", f"sip:{name}@{running.address[0]}:{running.port}")
        assert one.final().header("X-Rc") == "1"
    before = descriptors(running)
    callers = {kind: client(running.address) for kind in CODES}
    began = this.clock.now()
    for kind, caller in callers.items():
        caller.request(method, f"sip:{kind}@127.0.0.1:{running.port}")
    listed = wait_parked(running, len(CODES))
    assert all(0 < float(row["Deadline"]) <= 1 for row in listed), listed
    for kind, caller in callers.items():
        answer = caller.final()
        assert answer.status == 200
        assert 0.95 <= answer.at - began < 4, f"{kind} took {answer.at - began:.2f} s"
        assert (answer.header("X-Rc"), answer.header("X-Kept"), answer.header("X-Out")) == (CODES[kind], "kept", "<null>"), kind
        if method == "INVITE":
            caller.in_transaction("ACK", to=answer.header("To"))
    assert rows(running, b"pj") == {}
    assert_nothing_is_left(running, before)
    assert running.statistics("async:timed_out")["async:timed_out"] == len(CODES)


def test_what_ends_in_time_is_not_touched_by_the_deadline(
    server: StartServer, client: MakeClient, mariadb: MariaDB, http_server: HttpServer
) -> None:
    script = SCRIPT.replace("DB_URL", mariadb.url).replace("HTTP_URL", http_server.url).replace("/never", "/delay/300")
    script = script.replace("sleep 60 & sleep 61", "sleep 0.3; echo late").replace("SLEEP(62)", "SLEEP(0.3)")
    running = server(script)
    before = descriptors(running)
    for kind in ("exec", "mysql", "http", "post"):
        caller = client(running.address)
        caller.request("OPTIONS", f"sip:{kind}@127.0.0.1:{running.port}")
        answer = caller.final()
        assert (answer.header("X-Rc"), answer.header("X-Out")) == ("1", "0" if kind == "mysql" else "late")
        caller.nothing(0.1)
    time.sleep(1)
    assert running.statistics("async:timed_out", "async:completed") == {"async:timed_out": 0, "async:completed": 4}
    # kept open for the next query and transfer: the pooled connections, here and in the attendant
    assert_nothing_is_left(running, {pid: count + 4 for pid, count in before.items()})
