"""Host names to addresses.

Names go through the system's resolver; answers, and failures, are kept for a while, because that resolver blocks.
Addresses never get that far.
"""

from __future__ import annotations

import socket
from time import monotonic

KEEP = 60.0
"""Seconds for which an answer is kept: getaddrinfo does not tell the record's time to live."""
KEEP_FAILURE = 5.0
LIMIT = 10_000

_cache: dict[tuple[str, int], tuple[float, str | None]] = {}


def address_family(host: str) -> int | None:
    """AF_INET or AF_INET6 when ``host`` is an address (IPv6 without brackets), else None."""
    if ":" in host:
        try:
            socket.inet_pton(socket.AF_INET6, host)
        except OSError:
            return None
        return socket.AF_INET6
    if host[-1:].isdigit():
        try:
            socket.inet_pton(socket.AF_INET, host)
        except OSError:
            return None
        return socket.AF_INET
    return None


def resolve_name(name: str, family: int) -> str | None:
    """An address of host ``name`` in ``family`` (AF_INET, AF_INET6 or AF_UNSPEC), or None."""
    now = monotonic()
    key = (name.lower(), family)
    known = _cache.get(key)
    if known is not None and known[0] > now:
        return known[1]
    try:
        answers = socket.getaddrinfo(name, None, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        address = None
    else:
        answers.sort(key=lambda a: a[0] != socket.AF_INET)
        address = str(answers[0][4][0]) if answers else None
    if len(_cache) >= LIMIT:
        _cache.clear()
    _cache[key] = (now + (KEEP if address else KEEP_FAILURE), address)
    return address
