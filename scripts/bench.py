"""``make bench`` without the comparison's files: CPU per request of a stateless, a stateful and a suspended reply.

The third script is the second with ``async()`` of a pause in it: the difference is what parking and resuming cost.
"""

from __future__ import annotations

import argparse
import sys

from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from scripts.testbed.sipp import caller

SCRIPTS = {
    "stateless 200": 'loadmodule "sl.so"\nroute {\n    sl_send_reply(200, "OK");\n}\n',
    "stateful 200": 'loadmodule "sl.so"\nloadmodule "tm.so"\nroute {\n    t_newtran();\n    t_reply(200, "OK");\n}\n',
    "suspended 200": (
        'loadmodule "sl.so"\nloadmodule "tm.so"\nloadmodule "cfgutils.so"\n'
        'route {\n    async(usleep(20000), resume);\n}\nroute[resume] {\n    t_reply(200, "OK");\n}\n'
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Print one line per script."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rate", type=int, default=3000, help="requests per second (3000)")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args(arguments)
    failed = 0
    for name, script in SCRIPTS.items():
        server = Server(script, chosen.workers)
        try:
            before = server.cpu_seconds()[0]
            calls = int(chosen.rate * chosen.seconds)
            client = caller(server.address, "options", port=free_port(), calls=calls, rate=chosen.rate)
            client.wait(chosen.seconds + 40)
            figures = client.figures()
            client.remove()
            cpu = (server.cpu_seconds()[0] - before) / max(1, figures.completed) * 1e6
            p50, p99 = figures.percentile(0.5), figures.percentile(0.99)
            print(
                f"{name:14} {chosen.rate} requests/s: {cpu:.1f} µs of CPU per request, p50 {p50:.0f} ms, p99 {p99:.0f} ms, ",
                end="",
            )
            print(f"{figures.failed} failed, {figures.retransmissions} retransmissions", flush=True)
            failed += figures.failed
        finally:
            server.stop()
            server.remove()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
