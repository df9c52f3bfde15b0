"""``make chaos``: calls through async() while a worker is killed every other second; nobody may wait in vain.

Starts everything itself on 127.0.0.1: the server, caller and callee, a private MariaDB, a web server. Every INVITE waits for
MySQL, a web server, a program or a timer. A random SIP receiver gets SIGKILL every ``--every`` seconds. At the end each call
must have got exactly one final reply and its INVITE have reached the callee once at most, and nothing may be left: no parked
operation, no transaction, no descriptor of the attendant, no program.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from contextlib import ExitStack

from scripts.testbed.calls import Account, Calls
from scripts.testbed.http_server import DelayServer
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.observing import parked, programs, rows
from scripts.testbed.server import Server

KINDS = ("mysql", "http", "exec", "sleep")

SCRIPT = """\
db_max_async_connections=50
loadmodule "sl.so"
loadmodule "tm.so"
modparam("tm", "wt_timer", 2)
modparam("tm", "fr_timeout", 10)
loadmodule "rr.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
loadmodule "exec.so"
loadmodule "rest_client.so"
loadmodule "db_mysql.so"
loadmodule "avpops.so"
modparam("avpops", "db_url", "{url}")
route {
    if (has_totag()) {
        loose_route();
        t_relay();
        exit;
    }
    if (is_method("ACK|CANCEL")) {
        t_relay();
        exit;
    }
    t_check_trans();
    record_route();
    $du = "sip:127.0.0.1:{callee}";
    switch ($rU) {
        case "mysql":
            async(avp_db_query("SELECT 5, SLEEP(0.1)", "$avp(credit);$avp(slept)"), decided);
        case "http":
            async(rest_get("http://127.0.0.1:{http}/d/100", $avp(credit), $avp(type), $avp(code)), decided);
        case "exec":
            async(exec("sleep 0.1; echo 5", , $avp(credit)), decided);
        case "sleep":
            async(usleep(100000), decided);
    }
}
route[decided] {
    if ($rc < 0) {
        t_reply(500, "No decision");
        exit;
    }
    if (!t_relay())
        t_reply(500, "Not relayed");
}
"""


class Killer:
    """Kills a random receiver every ``every`` seconds."""

    def __init__(self, server: Server, every: float, seed: int) -> None:
        self.server, self.every = server, every
        self.random = random.Random(seed)
        self.next = time.monotonic() + every
        self.kills = 0

    def __call__(self, now: float) -> None:
        if now < self.next:
            return
        self.next = now + self.every
        receivers = self.server.pids("SIP receiver")
        if receivers:
            os.kill(self.random.choice(receivers), signal.SIGKILL)
            self.kills += 1


def what_is_left(server: Server, before: int, seconds: float = 30) -> list[str]:
    """What the server still holds that belonged to calls, once it has had time to end it; empty when nothing is left."""
    end = time.monotonic() + seconds
    while True:
        found = []
        if waiting := parked(server):
            found.append(f"{len(waiting)} parked operations")
        if stored := rows(server):
            found.append(f"rows of the shared store: {stored}")
        if running := programs(server):
            found.append(f"{len(running)} programs")
        held = descriptors_of_attendant(server)
        if held > before:
            found.append(f"{held - before} descriptors of the attendant")
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def descriptors_of_attendant(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def run(
    seconds: float, *, rate: float = 60, workers: int = 2, every: float = 2.0, seed: int = 1, kinds: tuple[str, ...] = KINDS
) -> tuple[Account, int, list[str]]:
    """Calls for ``seconds``: their account, how many workers were killed, and everything that should not have been."""
    with ExitStack() as stack:
        database = MariaDB()
        stack.callback(database.remove)
        web = DelayServer()
        stack.callback(web.close)
        script = SCRIPT.replace("{url}", database.url).replace("{http}", str(web.port))
        # the callee's port has to be known before the server is, and the other way round
        calls = Calls(("127.0.0.1", 0), rate=rate, user=lambda n: kinds[n % len(kinds)], seed=seed)
        stack.callback(calls.close)
        server = Server(script.replace("{callee}", str(calls.callee_port)), workers)
        stack.callback(server.remove)
        stack.callback(server.kill)
        calls.server = server.address
        before = descriptors_of_attendant(server)
        killer = Killer(server, every, seed)
        account = calls.run(seconds, killer)
        faults = account.faults()
        pooled = 50 * workers  # connections that wait in the pools are kept by the attendant too
        faults += what_is_left(server, before + pooled)
        return account, killer.kills, faults


def main(arguments: list[str] | None = None) -> int:
    """Print the account; 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="how long calls are made (300)")
    parser.add_argument("--rate", type=float, default=60, help="calls per second (60)")
    parser.add_argument("--workers", type=int, default=2, help="SIP receivers (2)")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two kills (2)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random (1)")
    parser.add_argument("--only", choices=KINDS, action="append", help="only this kind of waiting; may be repeated")
    chosen = parser.parse_args(arguments)
    account, kills, faults = run(
        chosen.seconds,
        rate=chosen.rate,
        workers=chosen.workers,
        every=chosen.every,
        seed=chosen.seed,
        kinds=tuple(chosen.only or KINDS),
    )
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(account.by_status.items()))
    print(f"{account.calls} calls, {kills} workers killed: {statuses}; slowest answer {account.slowest:.1f} s")
    for fault in faults:
        print(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
