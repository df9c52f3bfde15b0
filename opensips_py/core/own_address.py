"""Which addresses mean this server: its sockets, what they advertise, and the aliases of the script."""

from __future__ import annotations

from opensips_py.core.process import this


def is_own_address(host: str, port: int = 0) -> bool:
    """Whether ``host`` (a name, an address, IPv6 with or without brackets) with ``port`` (0: any) is this server."""
    host = host.strip("[]").lower()
    for sock in this.sockets:
        if port and port not in (sock.port, sock.advertised_port):
            continue
        if host in (sock.host.lower(), (sock.advertised_host or "").strip("[]").lower()):
            return True
    return any(host == name and (not port or not its_port or port == its_port) for name, its_port in aliases())


def aliases() -> list[tuple[str, int]]:
    """Names and ports (0: any) of the script's ``alias=`` lines."""
    program = getattr(this, "program", None)
    return [] if program is None else [(host.lower().strip("[]"), port or 0) for _, host, port in program.aliases]
