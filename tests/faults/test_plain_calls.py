"""Every function that can wait works without async() too: the worker waits, the script goes on with the result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.testbed.mariadb import MariaDB
from scripts.testbed.server import Server
from tests.faults.observing import MODULES
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES
    + """
modparam("avpops", "db_url", "DB_URL")
route {
    if ($rU == "exec") {
        exec("echo -n one; cat; echo -n bad >&2; echo -n $$NAME", ", in", $avp(out), $avp(err), $avp(env));
        $avp(rc) = $rc;
    }
    if ($rU == "exec-rc") { exec("exit 3"); $avp(rc) = $rc; }
    if ($rU == "mysql") { avp_db_query("SELECT 'row', SLEEP(0.1)", "$avp(out)"); $avp(rc) = $rc; }
    if ($rU == "mysql-empty") { avp_db_query("SELECT 1 FROM DUAL WHERE 1 = 0", "$avp(out)"); $avp(rc) = $rc; }
    if ($rU == "mysql-error") { avp_db_query("SELEKT 1", "$avp(out)"); $avp(rc) = $rc; }
    if ($rU == "get") { rest_get("HTTP_URL/status/404", $avp(out), $avp(type), $avp(code)); $avp(rc) = $rc; }
    if ($rU == "post") { rest_post("HTTP_URL/echo", "sent", "text/x", $avp(out), $avp(type), $avp(code)); $avp(rc) = $rc; }
    if ($rU == "put") { rest_put("HTTP_URL/echo", "put", "text/y", $avp(out), $avp(type), $avp(code)); $avp(rc) = $rc; }
    if ($rU == "refused") { rest_get("http://127.0.0.1:1/", $avp(out), , $avp(code)); $avp(rc) = $rc; }
    if ($rU == "sleep") { sleep(1); $avp(rc) = $rc; }
    if ($rU == "usleep") { usleep(1000); $avp(rc) = $rc; }
    append_to_reply("X-Result: $avp(rc) $(avp(out)[*]) $avp(type) $avp(code) $avp(err)\\r\\n");
    t_reply(200, "OK");
}
"""
)

RESULTS = {
    "exec": "1 one, in <null> <null> bad",
    "exec-rc": "1 <null> <null> <null> <null>",
    "mysql": "1 row <null> <null> <null>",
    "mysql-empty": "-2 <null> <null> <null> <null>",
    "mysql-error": "-1 <null> <null> <null> <null>",
    "get": "1 404 text/plain 404 <null>",
    "post": "1 sent text/x 200 <null>",
    "put": "1 put text/y 200 <null>",
    "refused": "-1 <null> <null> 0 <null>",
    "sleep": "1 <null> <null> <null> <null>",
    "usleep": "1 <null> <null> <null> <null>",
}


@pytest.fixture
def running(server: StartServer, mariadb: MariaDB, http_server: HttpServer) -> Server:
    return server(SCRIPT.replace("DB_URL", mariadb.url).replace("HTTP_URL", http_server.url))


def test_the_script_goes_on_with_the_result(running: Server, client: MakeClient) -> None:
    caller = client(running.address)
    results = {}
    for name in RESULTS:
        caller.request("OPTIONS", f"sip:{name}@127.0.0.1:{running.port}")
        results[name] = caller.final().header("X-Result")
    assert results == RESULTS
    assert running.statistics("async:started")["async:started"] == 0
