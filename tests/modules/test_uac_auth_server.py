"""uac_auth() and path in a running server: the script as it is written, and the bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable

from opensips_py.sip.digest import digest_response, ha1, parse_credentials
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "path.so"
loadmodule "uac_auth.so"
loadmodule "uac.so"
loadmodule "sipmsgops.so"
modparam("uac_auth", "credential", "trunk:carrier.example:secret")
route {
    if (is_method("REGISTER"))
        add_path_received("edge");
    t_on_failure("challenged");
    $du = "sip:127.0.0.1:CALLEE";
    t_relay();
}
failure_route[challenged] {
    if (t_check_status("40[17]") && uac_auth())
        t_relay();
}
"""


def test_a_carrier_that_asks_for_credentials_gets_them(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    callee = client()
    running = server(SCRIPT.replace("CALLEE", str(callee.port)))
    caller = client(running.address)
    caller.request("REGISTER")
    first = callee.receive()
    assert first.all("Path") == [f"<sip:edge@127.0.0.1:{running.port};lr;received=sip:127.0.0.1:{caller.port}>"]
    callee.reply(first, 401, "Unauthorized", headers='WWW-Authenticate: Digest realm="carrier.example", nonce="n1", qop="auth"')
    again = callee.receive()
    given = parse_credentials(again.header("Authorization"))
    assert given.response == digest_response(given, ha1("trunk", "carrier.example", "secret"), "REGISTER")
    assert (first.header("CSeq"), again.header("CSeq")) == ("1 REGISTER", "2 REGISTER")
    callee.reply(again, 200, "OK")
    answer = caller.final()
    assert (answer.status, answer.header("CSeq")) == (200, "1 REGISTER")
