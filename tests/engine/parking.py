"""Getting an operation parked, and its worker stuck."""

from __future__ import annotations

import time

from opensips_py.server.process import this
from scripts.testbed.server import Server
from tests.support.sip_client import SipClient

BLOCK = """
    if ($rU == "block") {
        if ($pp == $hdr(X-Pid)) {
            xlog("@@blocking $pp\\n");
            sleep(4);
            xlog("@@free $pp\\n");
        }
        sl_send_reply(200, "OK");
        exit;
    }
"""
"""In a script's main route: what :func:`block` needs."""
BLOCKED = 4.0
"""Seconds for which a worker is stuck."""


def wait_parked(running: Server, function: str) -> None:
    """Until an operation of ``function`` is in the store."""
    end = this.clock.now() + 20
    while not any(row["Function"] == function for row in running.mi("async_list")["Operations"]):
        assert this.clock.now() < end, f"never parked:\n{running.log}"
        time.sleep(0.01)


def block(running: Server, client: SipClient, pid: int) -> None:
    """Get worker ``pid`` stuck in a synchronous call for :data:`BLOCKED` seconds."""
    end = this.clock.now() + 20
    while not running.lines(f"@@blocking {pid}"):
        assert this.clock.now() < end, "the worker never got the request that blocks it"
        for _ in range(4):  # several at once: the kernel likes to wake the same worker again
            client.request("OPTIONS", f"sip:block@127.0.0.1:{running.port}", headers=f"X-Pid: {pid}")
        time.sleep(0.02)


def wait_free(running: Server) -> None:
    """Until the stuck worker goes on, and has had the time to do what it should leave alone."""
    running.wait_log("@@free")
    time.sleep(0.3)
