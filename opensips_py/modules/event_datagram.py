"""Events to other programs in datagrams (OpenSIPS module event_datagram).

The programs subscribe with the management command ``event_subscribe``, or the script does with ``subscribe_event()``. Their
sockets are ``udp:address:port`` or ``unix:/path``. Each event is one JSON-RPC 2.0 notification:
``{"jsonrpc":"2.0","method":"E_UL_AOR_INSERT","params":{"domain":"location","aor":"bob"}}``; parameters without names are an
array. What a program does not take at once is lost, as datagrams are.
"""

from __future__ import annotations

import ipaddress
import socket

import msgspec

from opensips_py.evi import subscriptions
from opensips_py.evi.subscriptions import Parameters
from opensips_py.script.declarations import Module
from opensips_py.server.log import ERROR, log

module = Module("event_datagram", doc="Events to other programs in datagrams (OpenSIPS module event_datagram)")

_sockets: dict[int, socket.socket] = {}
"""By address family, made when first needed in this process."""


@module.on_config
def configure() -> None:
    """Offer the transports."""
    subscriptions.enable()
    subscriptions.address_faults["udp"] = _udp_fault
    subscriptions.address_faults["unix"] = _unix_fault
    subscriptions.transports["udp"] = _send_udp
    subscriptions.transports["unix"] = _send_unix


@module.on_process
def start() -> None:
    """Sockets are each process' own."""
    _sockets.clear()


@module.on_exit
def leave() -> None:
    """Close the sockets."""
    for one in _sockets.values():
        one.close()
    _sockets.clear()


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    ipaddress.ip_address(host)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} is not a port")
    return host, int(port)


def _udp_fault(address: str) -> str | None:
    try:
        _parts(address)
    except ValueError as error:
        return f"{error}; an address and a port are expected"
    return None


def _unix_fault(address: str) -> str | None:
    return None if address.startswith("/") and len(address) < 108 else "the path of a Unix datagram socket is expected"


def _send_udp(address: str, event: str, parameters: Parameters) -> None:
    host, port = _parts(address)
    _send(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port), event, parameters)


def _send_unix(address: str, event: str, parameters: Parameters) -> None:
    _send(socket.AF_UNIX, address, event, parameters)


def _send(family: int, target: tuple[str, int] | str, event: str, parameters: Parameters) -> None:
    sender = _sockets.get(family)
    if sender is None:
        sender = _sockets[family] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sender.sendto(notification(event, parameters), target)
    except OSError as error:
        log(ERROR, "event_datagram", "datagram_raise", f"{event} to {target}: {error.strerror or error}")


def notification(event: str, parameters: Parameters) -> bytes:
    """The text of one event."""
    if not parameters:
        return msgspec.json.encode({"jsonrpc": "2.0", "method": event})
    given: dict[str, str | int] | list[str | int]
    if all(name for name, _ in parameters):
        given = {_unicode(name): _json(value) for name, value in parameters}
    else:
        given = [_json(value) for _, value in parameters]
    return msgspec.json.encode({"jsonrpc": "2.0", "method": event, "params": given})


def _json(value: str | int) -> str | int:
    return _unicode(value) if isinstance(value, str) else value


def _unicode(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
