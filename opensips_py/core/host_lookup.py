"""Host names to addresses without blocking: literals at once, names by the system's resolver on a thread.

Answers are kept for :data:`KEEP` seconds (curl's default): the system's resolver does not tell how long they are valid.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from opensips_py.core.thread_job import ThreadJob

Address = tuple[int, Any]
"""Address family and socket address."""

KEEP = 60.0
_MOST = 1024

_known: dict[tuple[str, int], tuple[float, list[Address]]] = {}


def addresses(host: str, port: int) -> list[Address] | None:
    """Where a TCP connection to ``host`` may go, in order of preference; None when it must be looked up first."""
    known = _known.get((host, port))
    if known is not None:
        if known[0] > time.monotonic():
            return known[1]
        del _known[host, port]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]
    return None


def look_up(host: str, port: int) -> ThreadJob[list[Address]]:
    """Ask the system's resolver. The job raises OSError when there is no such name."""

    def ask() -> list[Address]:
        found: list[Address] = []
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            found.append((family, address))
        if len(_known) >= _MOST:
            _known.clear()
        _known[host, port] = (time.monotonic() + KEEP, found)
        return found

    return ThreadJob(ask)
