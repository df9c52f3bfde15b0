"""Branch, onreply and failure routes wait in hundreds of calls while workers are killed: every call ends once."""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

CALLS = 300
KILLS = 3

SCRIPT = """
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
route {
    $du = "sip:127.0.0.1:" + $hdr(X-Callee);
    t_on_branch("b");
    t_on_reply("r");
    t_on_failure("f");
    t_relay();
}
branch_route[b] { async(usleep(250000), branched); }
route[branched] { append_hf("X-Branched: $rc\\r\\n"); }
onreply_route[r] { async(usleep(250000), replied); }
route[replied] { append_hf("X-Replied: $rc\\r\\n"); }
failure_route[f] { async(usleep(250000), failed); }
route[failed] { t_reply(480, "Gone"); }
"""


class Callee(threading.Thread):
    """Takes every other call, refuses the others; notes the branches that it has seen of each."""

    def __init__(self, client: SipClient) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.branches: dict[str, set[str]] = defaultdict(set)
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            try:
                request = self.client.receive(0.1)
            except AssertionError:
                continue
            call_id = request.header("Call-ID")
            self.branches[call_id].add(request.header("Via"))
            self.client.reply(request, 200 if len(self.branches) % 2 else 486, "Answer")


def test_every_call_ends_once(server: Callable[..., Server], client: Callable[..., SipClient]) -> None:
    running = server(SCRIPT, workers=3)
    caller = client(running.address)
    callee = Callee(client(running.address))
    callee.start()
    waiting: dict[str, bytes] = {}
    finals: dict[str, set[int]] = defaultdict(set)

    def take(seconds: float) -> None:
        end = this.clock.now() + seconds
        while (left := end - this.clock.now()) > 0:
            try:
                answer = caller.receive(left)
            except AssertionError:
                return
            if answer.status >= 200:
                finals[answer.header("Call-ID")].add(answer.status)
                waiting.pop(answer.header("Call-ID"), None)

    for n in range(CALLS):
        data = caller.request("MESSAGE", headers=f"X-Callee: {callee.client.port}")
        waiting[caller.sent["call_id"]] = data
        if n % (CALLS // KILLS) == CALLS // KILLS - 1:
            os.kill(running.pids("SIP receiver")[0], signal.SIGKILL)
        take(0.01)
    end = this.clock.now() + 60
    while waiting and this.clock.now() < end:
        take(1)
        for data in waiting.values():  # as any client does (17.1.2.2): a datagram may have died with a worker
            caller.send_raw(data)
    take(1)
    callee.ended = True
    callee.join()
    assert waiting == {}, f"{len(waiting)} calls were never answered"
    assert all(len(codes) == 1 for codes in finals.values()), "a call was answered in two ways"
    assert all(len(branches) == 1 for branches in callee.branches.values()), "a call was sent on twice"
    assert running.mi("async_list")["Operations"] == []
    assert running.statistics("async:taken_over")["async:taken_over"] > 0
