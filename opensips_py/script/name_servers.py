"""Name servers as the core parameter ``dns_servers`` names them."""

from __future__ import annotations

import ipaddress

PORT = 53

Server = tuple[str, int]
"""Address and port of a name server."""


def server_of(text: str) -> Server | None:
    """``address``, ``address:port`` or ``[address]:port``; None when it is nothing of the kind."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        if port[:1] not in ("", ":"):
            return None
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        return None
    return host, int(port or PORT)
