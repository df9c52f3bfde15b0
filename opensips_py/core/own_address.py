"""Which addresses mean this server: its sockets, what they advertise, and the aliases of the script."""

from __future__ import annotations

from typing import Any

from opensips_py.core.process import this

_REMEMBERED = 4096


class _Answers:
    """What has been found out, for the sockets and the script of the time."""

    sockets: Any = None
    program: Any = None
    known: dict[tuple[str, int], bool] = {}


def is_own_address(host: str, port: int = 0) -> bool:
    """Whether ``host`` (a name, an address, IPv6 with or without brackets) with ``port`` (0: any) is this server."""
    program = getattr(this, "program", None)
    answers = _Answers
    if answers.program is not program or answers.sockets is not this.sockets or len(answers.known) >= _REMEMBERED:
        answers.sockets, answers.program, answers.known = this.sockets, program, {}
    answer = answers.known.get((host, port))
    if answer is None:
        answer = answers.known[host, port] = _is_own(host.strip("[]").lower(), port)
    return answer


def _is_own(host: str, port: int) -> bool:
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
