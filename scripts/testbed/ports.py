"""Free ports on 127.0.0.1, and whether somebody listens."""

from __future__ import annotations

import os
import socket
import time

FIRST, LAST = 20600, 31999
"""Below the kernel's ephemeral range, so that no outgoing connection takes a port between choice and use."""


def _share() -> tuple[int, int]:
    """First and last port for this process: workers of pytest-xdist have ranges of their own."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = (LAST + 1 - FIRST) // workers
    first = FIRST + size * (int(worker.removeprefix("gw") or "0") % workers)
    return first, first + size - 1


_first, _last = _share()
_next = _first + os.getpid() * 37 % (_last - _first)


def free_port(kind: int = socket.SOCK_DGRAM, count: int = 1) -> int:
    """First of ``count`` successive ports that nobody uses now, for UDP or TCP."""
    global _next
    for _ in range(_last - _first):
        port, _next = _next, _next + count
        if _next + count > _last + 1:
            _next = _first
        if all(_is_free(kind, port + i) for i in range(count)):
            return port
    raise RuntimeError("no free port")


def _is_free(kind: int, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def port_open(port: int, proto: str = "udp") -> bool:
    """Whether a process of this machine has bound a UDP port, or listens on a TCP one (read from the kernel's table)."""
    wanted = f":{port:04X}"
    for table in (f"/proc/net/{proto}", f"/proc/net/{proto}6"):
        try:
            with open(table) as lines:
                for line in lines:
                    fields = line.split()
                    if fields[1].endswith(wanted) and (proto == "udp" or fields[3] == "0A"):
                        return True
        except FileNotFoundError:
            continue
    return False


def wait_tcp(port: int, seconds: float) -> bool:
    """Wait until TCP ``port`` of 127.0.0.1 accepts connections."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False
