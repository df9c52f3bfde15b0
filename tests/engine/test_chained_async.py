"""One ``async()`` after the other: each keeps what was changed before it, whether its operation takes time or is done at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

StartServer = Callable[..., Server]
MakeClient = Callable[..., SipClient]

HEAD = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "sipmsgops.so"
loadmodule "textops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
"""

CHAIN = """
route {
    if (is_method("ACK"))
        exit;
    $avp(callee) = $hdr(X-Callee);
    $du = "sip:127.0.0.1:1";
    $ru = "sip:first@example.com";
    append_hf("X-One: 1\\r\\n");
    remove_hf("X-Gone");
    setflag("MARK");
    async(WAIT, second);
}
route[second] {
    $ru = "sip:second@example.com";
    $du = "sip:127.0.0.1:" + $avp(callee);
    append_hf("X-Two: $rU\\r\\n");
    record_route(";kept=1");
    $branch = "sip:forked@127.0.0.1:" + $avp(callee);
    async(WAIT, third);
}
route[third] {
    xlog("@@third $ru $du $rc\\n");
    append_hf("X-Three: 3\\r\\n");
    replace_body("before", "after");
    async(WAIT, last);
}
route[last] {
    if (isflagset("MARK"))
        append_hf("X-Flag: set\\r\\n");
    t_relay();
    xlog("@@relayed $rc\\n");
}
"""


@pytest.mark.parametrize("operation", ["usleep(20000)", "usleep(0)", 'exec("echo x", , $avp(out))', 'exec("exit 0")'])
def test_each_keeps_what_the_routes_before_have_changed(server: StartServer, client: MakeClient, operation: str) -> None:
    running = server(HEAD + CHAIN.replace("WAIT", operation), workers=2)
    caller, callee = client(running.address), client(running.address)
    caller.request(
        "INVITE",
        headers=f"X-Callee: {callee.port}\nX-Gone: yes\nContent-Type: text/plain\nContent-Length: 6",
        body="before",
    )
    first, forked = callee.receive(), callee.receive()
    assert (first.ruri, forked.ruri) == ("sip:second@example.com", f"sip:forked@127.0.0.1:{callee.port}")
    for message in (first, forked):
        found = {name: message.all(name) for name in ("X-One", "X-Two", "X-Three", "X-Gone", "X-Flag")}
        assert found == {"X-One": ["1"], "X-Two": ["second"], "X-Three": ["3"], "X-Gone": [], "X-Flag": ["set"]}
        assert message.all("Record-Route") == [f"<sip:127.0.0.1:{running.port};lr;ftag={caller.sent['tag']};kept=1>"]
        assert message.body == "after"
    (line,) = running.wait_log("@@third")
    assert f"third sip:second@example.com sip:127.0.0.1:{callee.port}" in line
    callee.reply(first, 200)
    assert caller.final().status == 200


REPORTS = {
    "takes time": "usleep(20000)",
    "is done at once": "usleep(0)",
    "has output": 'exec("echo x", , $avp(out))',
    "has none": 'exec("true")',
    "fails": 'exec("exit 3")',
    "runs out of time": "sleep(5)",
}


OTHERS = ["failure_route[f]", "onreply_route[r]", "branch_route[b]", "local_route", "route[resumed]"]


@pytest.mark.parametrize(("where", "how"), [*(("route", how) for how in REPORTS), *((where, "takes time") for where in OTHERS)])
def test_a_report_route_runs_once_wherever_launch_stands(server: StartServer, client: MakeClient, where: str, how: str) -> None:
    launch = f'launch({REPORTS[how]}, report, "$rm", {0.2 if how == "runs out of time" else 3});'
    bodies = dict.fromkeys(OTHERS, "")
    bodies["route[resumed]"] = "t_relay();"
    begin = ""
    if where == "route":
        begin = launch
    else:
        bodies[where] = launch + bodies[where]
    script = (
        HEAD
        + """
route {
    if (is_method("ACK")) {
        t_relay();
        exit;
    }
    LAUNCH
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    t_on_failure("f");
    t_on_reply("r");
    t_on_branch("b");
    t_new_request("OPTIONS", "sip:made@127.0.0.1:$hdr(X-Callee)", "sip:a@x", "sip:b@x");
    async(usleep(1000), resumed);
}
route[report] {
    $avp(seen) = $rc;
    async(usleep(20000), told);
}
route[told] { xlog("@@told $avp(seen) $rT\\n"); }
""".replace("LAUNCH", begin)
        + "\n".join(f"{name} {{ {body or ';'} }}" for name, body in bodies.items())
    )
    running = server(script, workers=2)
    caller, callee = client(running.address), client(running.address)
    caller.request("INVITE", headers=f"X-Callee: {callee.port}")
    invite = callee.receive()
    while invite.method != "INVITE":
        callee.reply(invite, 200)
        invite = callee.receive()
    callee.reply(invite, 486, "Busy")
    assert caller.final().status == 486
    running.wait_log("@@told")
    caller.in_transaction("ACK")
    caller.nothing(0.3)
    assert len(running.lines("@@told")) == 1
