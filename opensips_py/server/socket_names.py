"""The server's sockets by name: stored records have names in them, for readers whose ``socket=`` lines may have another order.

A record may name a socket that this server does not have: it is from before a restart with another script, or another machine has
written it. One that reaches the same destinations stands in for it: of the same transport and address family, on the same
address if there is one. Where there is none, nothing can be sent from it (:meth:`Process.send` is False).
"""

from __future__ import annotations

from collections.abc import Sequence

from opensips_py.script.context import ListenSocket
from opensips_py.server.log import WARNING, log


class SocketNames(dict[str, ListenSocket]):
    """``names[name]``: the socket, or what stands in for it. ``names.get(name)`` knows only what the server has."""

    def __init__(self, sockets: Sequence[ListenSocket]) -> None:
        super().__init__((socket.name, socket) for socket in sockets)
        self._sockets = sockets
        self._others: dict[str, ListenSocket] = {}

    def __missing__(self, name: str) -> ListenSocket:
        socket = self._others.get(name)
        if socket is None:
            socket = self._others[name] = self._stand_in(name)
        return socket

    def _stand_in(self, name: str) -> ListenSocket:
        """Found once, and logged once."""
        proto, _, address = name.partition(":")
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        fitting = [one for one in self._sockets if one.proto == proto and (":" in one.host) == (":" in host)]
        if fitting:
            socket = next((one for one in fitting if one.host == host), fitting[0])
            outcome = f"{socket.name} is used"
        else:
            socket = ListenSocket(len(self._sockets), proto, host, int(port) if port.isdigit() else 0)
            outcome = "and no other can stand in for it: nothing is sent"
        log(WARNING, "core", "socket", f"a stored record names {name}, which this server does not have: {outcome}")
        return socket
