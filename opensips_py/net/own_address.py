"""Which addresses mean this server: its sockets, what they advertise, and the aliases of the script."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opensips_py.script.context import ListenSocket
from opensips_py.server.process import this

REMEMBERED, LONGEST = 4096, 255
"""Answers that are kept, and the longest host that is (RFC 1035 2.3.4): hosts come from the network."""

Alias = tuple[str | None, str, int | None]


class _Answers:
    """What has been found out about hosts and ports, for certain sockets and aliases."""

    def __init__(self, sockets: Mapping[str, ListenSocket], aliases: list[Alias]) -> None:
        self.sockets, self.aliases = sockets, aliases
        self.known: dict[tuple[str, int], bool] = {}


_answers = _Answers({}, [])


def is_own_address(host: str, port: int = 0) -> bool:
    """Whether ``host`` (a name, an address, IPv6 with or without brackets) with ``port`` (0: any) is this server."""
    global _answers
    answers = _answers
    aliases = this.program.aliases
    if answers.aliases is not aliases or answers.sockets is not this.sockets_by_name or len(answers.known) >= REMEMBERED:
        answers = _answers = _Answers(this.sockets_by_name, aliases)
    answer = answers.known.get((host, port))
    if answer is None:
        answer = _is_own(host.strip("[]").lower(), port, aliases)
        if len(host) <= LONGEST:
            answers.known[host, port] = answer
    return answer


further: list[Callable[[str], bool]] = []
"""What modules know of hosts that are this server's too: domain."""


def is_ours(host: str, port: int = 0) -> bool:
    """Whether what is addressed to ``host`` is for this server: :func:`is_own_address`, or it is one of its domains."""
    return is_own_address(host, port) or any(knows(host) for knows in further)


def _is_own(host: str, port: int, aliases: list[Alias]) -> bool:
    for sock in this.sockets:
        if port and port not in (sock.port, sock.advertised_port):
            continue
        if host in (sock.host.lower(), (sock.advertised_host or "").strip("[]").lower()):
            return True
    return any(host == name.lower().strip("[]") and (not port or not own or port == own) for _, name, own in aliases)
