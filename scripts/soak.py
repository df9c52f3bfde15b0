"""``make soak``: memory over many calls, and whether anything is left when the server is idle.

Every call waits 50 ms for a web server (for MySQL with ``--mysql``) and is answered. The sum of the USS of all processes after
a warm-up of half as many calls is compared with that at the end.

With ``--chained`` every call goes through ten async() statements one after the other, with changes of headers, destination and
AVPs between them, so that ``--calls 100000`` makes a million.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack

from scripts.testbed.http_server import DelayServer
from scripts.testbed.mariadb import MariaDB
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from scripts.testbed.sipp import Figures, caller

LIMIT = 0.05
"""Growth that counts as flat."""

SCRIPT = """\
db_max_async_connections=400
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
{modules}
route {
    async({function}, decided);
}

route[decided] {
    if ($rc < 0)
        t_reply(500, "No decision");
    else
        t_reply(200, "OK");
}
"""


CHAIN = 10
"""async() statements of a call with ``--chained``."""

CHAINED = f"""\
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "cfgutils.so"
route {{
    $avp(n) = 0;
    route(change);
}}

route[change] {{
    append_hf("X-Step: $avp(n) of {CHAIN}\\r\\n");
    remove_hf("User-Agent");
    $du = "sip:127.0.0.1:" + $avp(n);
    $rU = "step" + $avp(n);
    $avp(seen) = $ru;
    async(usleep(5000), again);
}}

route[again] {{
    $avp(n) := $avp(n) + 1;
    if ($avp(n) < {CHAIN})
        route(change);
    t_reply(200, "OK");
}}
"""


def main(arguments: list[str] | None = None) -> int:
    """0 when no call failed, memory stayed flat and nothing is left."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rate", type=int, help="calls per second (800)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mysql", action="store_true", help="wait for MySQL instead of a web server")
    parser.add_argument("--chained", action="store_true", help=f"{CHAIN} async() statements in each call (80 calls per second)")
    chosen = parser.parse_args(arguments)
    rate = chosen.rate or (80 if chosen.chained else 800)
    with ExitStack() as stack:
        if chosen.chained:
            modules, function = "", ""
        elif chosen.mysql:
            database = MariaDB()
            stack.callback(database.remove)
            modules = f'loadmodule "db_mysql.so"\nloadmodule "avpops.so"\nmodparam("avpops", "db_url", "{database.url}")'
            function = 'avp_db_query("SELECT 5, SLEEP(0.05)", "$avp(credit);$avp(slept)")'
        else:
            web = DelayServer()
            stack.callback(web.close)
            modules = 'loadmodule "rest_client.so"\nmodparam("rest_client", "max_async_transfers", 2000)'
            function = f'rest_get("http://127.0.0.1:{web.port}/d/50", $avp(body), $avp(type), $avp(code))'
        script = CHAINED if chosen.chained else SCRIPT.replace("{modules}", modules).replace("{function}", function)
        server = Server(script, chosen.workers)
        stack.callback(server.remove)
        try:
            run(server, chosen.calls // 2, rate)  # caches have their size after some 50,000 calls
            settle(server)
            before = server.uss()
            figures = run(server, chosen.calls, rate)
            left = settle(server)
            after = server.uss()
            parked = server.statistics("async:started")["async:started"]
        finally:
            server.stop()
    growth = after / before - 1
    print(f"{figures.completed} of {figures.offered} calls completed, {figures.retransmissions} retransmissions")
    print(f"{parked} operations of async()")
    print(f"USS of all processes {before / 1e6:.1f} MB -> {after / 1e6:.1f} MB ({growth:+.1%})")
    print(f"left when idle: {left}")
    return 0 if figures.completed == figures.offered and growth <= LIMIT and not any(left.values()) else 1


def run(server: Server, calls: int, rate: int) -> Figures:
    """``calls`` OPTIONS at ``rate`` per second."""
    client = caller(server.address, "options", port=free_port(), calls=calls, rate=rate, arguments=["-s", "soak"])
    try:
        while client.process.poll() is None:
            if sys.stderr.isatty():
                now = client.current()
                sys.stderr.write(f"\r\033[K{now.get('SuccessfulCall(C)', 0)} of {calls} calls, USS {server.uss() / 1e6:.1f} MB")
                sys.stderr.flush()
            time.sleep(0.5)
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        return client.figures()
    finally:
        client.remove()


def settle(server: Server, seconds: float = 20) -> dict[str, int]:
    """Wait until the server holds nothing any more (transactions stay 5 s); what it still holds then."""
    end = time.monotonic() + seconds
    while True:
        left = {
            "transactions": server.statistics("tm:inuse_transactions")["tm:inuse_transactions"],
            "parked operations": server.mi("async_list")["Count"],
        }
        if not any(left.values()) or time.monotonic() > end:
            return left
        time.sleep(0.25)


if __name__ == "__main__":
    sys.exit(main())
