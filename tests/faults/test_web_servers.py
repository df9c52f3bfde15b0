"""HTTP servers that refuse, keep silent, break off or send too much: the documented code, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.faults.observing import MODULES, assert_nothing_is_left, descriptors
from tests.support.http_server import HttpServer
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

SCRIPT = (
    MODULES.replace('loadmodule "db_mysql.so"\nloadmodule "avpops.so"\n', "")
    + """
modparam("rest_client", "curl_timeout", 1)
route {
    if ($rU == "refused") async(rest_get("http://127.0.0.1:1/", $avp(out), $avp(type), $avp(code)), resume);
    if ($rU == "huge") async(rest_get("HTTP_URL/huge/104857600", $avp(out), $avp(type), $avp(code)), resume);
    async(rest_get("HTTP_URL/$rU", $avp(out), $avp(type), $avp(code)), resume);
}
route[resume] {
    append_to_reply("X-Result: $rc $avp(code) $avp(out)\\r\\n");
    t_reply(200, "OK");
}
"""
)

RESULTS = {
    "refused": "-1 0 <null>",
    "never": "-3 0 <null>",
    "early": "-10 0 <null>",
    "half": "-10 200 <null>",
    "garbage": "-10 0 <null>",
    "huge": "-10 200 <null>",
    "redirect": "1 302",
    "chunked": "1 200 one two three",
    "until-close": "1 200 until close",
    "hello": "1 200 hello",
}


def test_each_outcome_has_its_code(server: StartServer, client: MakeClient, http_server: HttpServer) -> None:
    running = server(SCRIPT.replace("HTTP_URL", http_server.url))
    before = descriptors(running)
    memory = running.uss()
    results = {}
    callers = {name: client(running.address) for name in RESULTS}
    began = this.clock.now()
    for name, caller in callers.items():
        caller.request("OPTIONS", f"sip:{name}@127.0.0.1:{running.port}")
    for name, caller in callers.items():
        results[name] = caller.final().header("X-Result")
    assert results == RESULTS
    assert this.clock.now() - began < 10, "side by side"
    assert [path for _, path, _, _ in http_server.requests].count("/hello") == 1, "a redirect is not followed"
    assert running.uss() < memory + 40_000_000, "the bodies are not kept"
    # a connection that may be kept for the next transfer, per worker: here and in the attendant
    assert_nothing_is_left(running, {pid: count + 6 for pid, count in before.items()})
