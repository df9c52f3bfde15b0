"""Opening the sockets that all processes share, before the fork."""

from __future__ import annotations

import errno
import os
import socket

from opensips_py.script.context import ListenSocket
from opensips_py.script.parameters import Settings


class SocketError(Exception):
    """A socket could not be opened; the text says which and what to do."""


def open_sockets(sockets: list[ListenSocket], settings: Settings) -> list[socket.socket]:
    """Bind every socket, non-blocking; ``maxbuffer`` bytes for UDP where the kernel allows it, ``tcp_socket_backlog`` for TCP."""
    handles: list[socket.socket] = []
    try:
        for listen in sockets:
            if listen.proto == "udp":
                handles.append(_open_udp(listen, settings.maxbuffer, settings.tos))
            else:
                handles.append(_open_tcp(listen, settings.tcp_socket_backlog, settings.tos))
    except SocketError:
        for handle in handles:
            handle.close()
        raise
    return handles


def _open_udp(listen: ListenSocket, receive_buffer: int, tos: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    handle = socket.socket(family, socket.SOCK_DGRAM)
    place = f"udp:{listen.host}:{listen.port}"
    try:
        if family == socket.AF_INET6:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # SO_RCVBUFFORCE (33) passes net.core.rmem_max; it takes CAP_NET_ADMIN
        try:
            handle.setsockopt(socket.SOL_SOCKET, 33, receive_buffer)
        except PermissionError:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        set_type_of_service(handle, tos)
        handle.setblocking(False)
        handle.bind((listen.host, listen.port))
    except OSError as error:
        handle.close()
        raise SocketError(_explain(place, error)) from error
    return handle


def _open_tcp(listen: ListenSocket, backlog: int, tos: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    handle = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # connections of the last run that are just ending do not keep the port
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_type_of_service(handle, tos)  # what is accepted has it too
        handle.setblocking(False)
        handle.bind((listen.host, listen.port))
        handle.listen(backlog)
    except OSError as error:
        handle.close()
        raise SocketError(_explain(f"{listen.proto}:{listen.host}:{listen.port}", error)) from error
    return handle


def set_type_of_service(handle: socket.socket, tos: int) -> None:
    """Mark what a socket sends with ``tos``, the byte of RFC 2474 3."""
    if handle.family == socket.AF_INET6:
        handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
    else:
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)


def _explain(place: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        shows = "ss -lunp" if place.startswith("udp") else "ss -ltnp"
        return f"{place}: address already in use; is another SIP server running on it? ({shows} shows who holds it)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{place}: this machine has no such address; give one of its own in socket=, or -l"
    if error.errno == errno.EACCES:
        return f"{place}: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return f"{place}: {os.strerror(error.errno or 0)}"
