"""``make loss``: calls through a stateful proxy, first without, then with datagrams that are thrown away.

Starts everything itself on 127.0.0.1. The first run is sipp's built-in uac and uas scenarios: not one call may fail. In the
others a share of the datagrams is lost in each direction on both sides: every call must complete, because requests and
replies are repeated; the INVITE must have reached the callee once only, and each caller have got exactly one final reply.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass

from scripts.testbed.calls import Account, Calls
from scripts.testbed.ports import free_port
from scripts.testbed.server import Server
from scripts.testbed.sipp import Figures, Sipp

PROXY = """\
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "sipmsgops.so"
route {
    if (!mf_process_maxfwd_header(10)) {
        sl_send_reply(483, "Too Many Hops");
        exit;
    }
    if (has_totag())
        loose_route();
    else if (!is_method("ACK|CANCEL"))
        record_route();
    if (!loose_route())
        $du = "sip:127.0.0.1:{callee}";
    t_relay();
}
"""


@dataclass
class Run:
    """sipp's figures, and the CPU time of the server's processes for a call, in µs."""

    figures: Figures
    cpu_us: float
    errors: str


def with_sipp(rate: int, seconds: float, workers: int, lose: int = 0) -> Run:
    """sipp's own uac and uas through the proxy; ``lose``: per cent of their datagrams, in each direction."""
    losing = ["-lost", str(lose)] if lose else []
    port = free_port()
    server = Server(PROXY.replace("{callee}", str(port)), workers)
    callee = Sipp("uas", losing, port=port, wait_port=True)
    caller: Sipp | None = None
    try:
        calls = int(rate * seconds)
        target = f"127.0.0.1:{server.port}"
        arguments = [target, "-m", str(calls), "-r", str(rate), "-l", "20000", "-timer_resol", "1", *losing]
        before = server.cpu_seconds()[0]
        caller = Sipp("uac", arguments, port=free_port())
        caller.wait(seconds + 60)
        caller.stop()
        figures = caller.figures()
        cpu = (server.cpu_seconds()[0] - before) / max(1, figures.completed) * 1e6
        return Run(figures, cpu, caller.errors[-2000:])
    finally:
        callee.remove()
        if caller is not None:
            caller.remove()
        server.kill()
        server.remove()


def with_loss(rate: float, seconds: float, workers: int, share: float, seed: int = 1) -> tuple[Account, int]:
    """Callers and callees that lose a share of what they send and of what is sent to them: account, datagrams lost."""
    calls = Calls(("127.0.0.1", 0), rate=rate, lose=share, seed=seed)
    server = Server(PROXY.replace("{callee}", str(calls.callee_port)), workers)
    try:
        calls.server = server.address
        return calls.run(seconds), calls.lost
    finally:
        calls.close()
        server.kill()
        server.remove()


def main(arguments: list[str] | None = None) -> int:
    """Print what came out; 1 if a call failed."""
    parser = argparse.ArgumentParser(prog="make loss", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="length of each run (60)")
    parser.add_argument("--rate", type=int, default=500, help="calls per second without loss (500)")
    parser.add_argument("--loss-rate", type=float, default=100, help="calls per second with loss (100)")
    parser.add_argument("--share", type=float, default=0.1, help="share of the datagrams lost, each way (0.1)")
    parser.add_argument("--workers", type=int, default=2, help="SIP receivers (2)")
    chosen = parser.parse_args(arguments)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    run = with_sipp(chosen.rate, chosen.seconds, chosen.workers)
    f = run.figures
    print(
        f"sipp uac/uas, {chosen.rate} calls/s: {f.completed} of {f.offered} completed, {f.failed} failed, "
        f"{f.retransmissions} retransmissions, {run.cpu_us:.0f} µs CPU of the server for a call",
        flush=True,
    )
    account, lost = with_loss(chosen.loss_rate, chosen.seconds, chosen.workers, chosen.share)
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(account.by_status.items()))
    print(
        f"{chosen.share:.0%} loss each way, {chosen.loss_rate:g} calls/s: {account.calls} calls, {lost} datagrams lost: "
        f"{statuses}; slowest answer {account.slowest:.1f} s"
    )
    for fault in account.faults():
        print(f"FAULT: {fault}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 1 if f.failed or f.completed != f.offered or account.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
