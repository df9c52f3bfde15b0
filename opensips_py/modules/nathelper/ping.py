"""Pings keep the NAT's mapping of a registered user agent open: four zero bytes, or a SIP request for those that want one.

The timer process sends them, from the socket through which the user agent has registered.
"""

from __future__ import annotations

import os

from opensips_py.core.functions_network import socket_named
from opensips_py.modules.nathelper import declared
from opensips_py.modules.nathelper.declared import module, sipping_mask
from opensips_py.modules.usrloc import location
from opensips_py.modules.usrloc.contact import Contact
from opensips_py.modules.usrloc.declared import nat_mask
from opensips_py.net.destinations import Destinations, hop_of_uri, known_destinations
from opensips_py.net.resolve import when_located
from opensips_py.script.context import ListenSocket
from opensips_py.script.declarations import MIError
from opensips_py.server.guard import report_error
from opensips_py.server.log import WARNING, log
from opensips_py.server.process import this
from opensips_py.sip.forward import DEFAULT_USER_AGENT

_DISABLED = b"nping"
"""Key in the shared store that is there while a person has switched pinging off."""
_BYTES = b"\0\0\0\0"


def ping_all() -> int:
    """Ping every contact that is to be pinged; gives how many were."""
    if this.store.get(_DISABLED) is not None:
        return 0
    nat, sip, nated_only = nat_mask(), sipping_mask(), declared.ping_nated_only.value
    udp_socket, sip_socket = _forced(declared.natping_socket.value), _forced(declared.force_socket.value)
    now = this.clock.now()
    pinged = 0
    for _, _, contacts in location.entries():
        for contact in contacts:
            if not contact.valid(now) or (nated_only and not contact.branch_flags & nat):
                continue
            with_sip = bool(contact.branch_flags & sip)
            pinged += _ping(contact, with_sip, sip_socket if with_sip else udp_socket)
    return pinged


def _forced(text: str) -> ListenSocket | None:
    if not text:
        return None
    found = socket_named(text)
    if found is None:
        log(WARNING, "nathelper", "ping", f"this server has no socket {text}")
    return found


def _ping(contact: Contact, with_sip: bool, forced: ListenSocket | None) -> bool:
    if contact.path is not None and not with_sip:
        return False  # what keeps its mapping open is the proxy that it is behind
    hop = hop_of_uri(contact.received or contact.uri)
    received_on = this.sockets_by_name.get(contact.socket)
    if hop is None or received_on is None:
        return False

    def send(found: Destinations) -> bool:
        if not found:
            return False
        ip, port, socket = found[0]
        if socket.proto != "udp":  # four zero bytes are not a message there; a connection that is closed has nothing to keep open
            return with_sip and bool(declared.natping_tcp.value) and this.send_open(socket, _request(contact, socket), ip, port)
        return this.send(socket, _request(contact, socket) if with_sip else _BYTES, ip, port)

    if forced is None or forced.proto != received_on.proto:
        forced = received_on  # it decides the transport
    known = known_destinations(hop, forced, received_on)
    if known is not None:
        return send(known)
    when_located(hop, forced, received_on, send)
    return True


def _request(contact: Contact, socket: ListenSocket) -> bytes:
    """A SIP ping. Its answer belongs to no transaction and is dropped: that it comes back is all that is wanted."""
    method, sender = declared.sipping_method.value, declared.sipping_from.value
    nonce = os.urandom(8).hex()
    route = "" if contact.path is None else f"Route: {contact.path}\r\n"
    return (
        f"{method} {contact.uri} SIP/2.0\r\n"
        f"Via: {socket.via};branch=z9hG4bK{nonce}\r\n{route}"
        f"From: <{sender}>;tag={nonce[:8]}\r\nTo: <{contact.uri}>\r\nCall-ID: {nonce}@{socket.host}\r\nCSeq: 1 {method}\r\n"
        f"Max-Forwards: 70\r\n{DEFAULT_USER_AGENT}\r\nContent-Length: 0\r\n\r\n"
    ).encode("latin-1")


@module.on_process
def _start() -> None:
    interval = declared.natping_interval.value
    if this.kind != "timer" or not interval:
        return

    def tick() -> None:
        try:
            ping_all()
        except Exception as error:  # the next round may succeed
            report_error(error, "nathelper")
        this.reactor.call_at(this.clock.now() + interval, tick)

    this.reactor.call_at(this.clock.now() + interval, tick)


@module.mi("nh_enable_ping", (), ("status",))
def nh_enable_ping(status: int | None = None) -> dict[str, int] | str:
    """Switch pinging on (1) or off (0), or tell whether it is on."""
    if status is None:
        enabled = declared.natping_interval.value > 0 and this.store.get(_DISABLED) is None
        return {"Status": int(enabled)}
    if declared.natping_interval.value == 0:
        raise MIError(400, "Pinging disabled from the configuration (natping_interval)")
    if status:
        this.store.delete(_DISABLED)
    else:
        this.store.put(_DISABLED, b"")
    return "OK"
