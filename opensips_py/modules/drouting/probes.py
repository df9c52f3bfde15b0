"""Gateways are probed by the timer process: those with probe_mode 2 always, those with 1 while they are inactive.

An answer may come to any process. One that says that the gateway works enables it, unless a person has disabled it; one of 400 or
more, and none at all (408), makes it inactive.
"""

from __future__ import annotations

from collections.abc import Iterator

from ipc.prefixes import prefix
from opensips_py.core.functions_network import socket_named
from opensips_py.modules.drouting import declared, states
from opensips_py.modules.drouting.declared import module
from opensips_py.modules.drouting.partitions import partitions
from opensips_py.modules.drouting.tables import ACTIVE, DISABLED, INACTIVE, PROBE_ALWAYS, PROBE_INACTIVE
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from opensips_py.tm.probing import Probe, Prober, accepted_codes

OFF = prefix(b"mdrouting_no_probes", "that a person has switched off probes of module drouting", __name__)
_FAILED = 400


class _Codes:
    """Status codes that say that a gateway works."""

    good: frozenset[int] = accepted_codes("")


def _answered(name: bytes, code: int) -> None:
    partition_name, _, gateway_id = name.decode("latin-1").partition("\0")
    partition = partitions.get(partition_name)
    gateway = None if partition is None else partition.tables.gateways.get(gateway_id)
    if partition is None or gateway is None:  # the tables have been read again
        return
    if code in _Codes.good:
        states.change_gateway(partition, gateway, lambda state: ACTIVE if state == INACTIVE else state, f"probe: {code}")
    elif code >= _FAILED:
        states.change_gateway(partition, gateway, lambda state: INACTIVE if state == ACTIVE else state, f"probe: {code}")


prober = Prober("drouting", _answered)


def due() -> Iterator[tuple[bytes, Probe]]:
    """The gateways that are to be probed in this round."""
    if not enabled():
        return
    method, sender = declared.probing_method.value, declared.probing_from.value
    usual = declared.probing_socket.value
    for partition in partitions.values():
        down = states.current(partition).gateways
        for gateway in partition.tables.gateways.values():
            state = down.get(gateway.id, ACTIVE)
            if state == DISABLED or not (
                gateway.probe_mode == PROBE_ALWAYS or (gateway.probe_mode == PROBE_INACTIVE and state == INACTIVE)
            ):
                continue
            socket = (socket_named(gateway.socket) if gateway.socket else None) or (socket_named(usual) if usual else None)
            yield f"{partition.name}\0{gateway.id}".encode("latin-1"), Probe(gateway.uri, sender, method, socket)


def enabled() -> bool:
    """Whether gateways are probed at all."""
    return declared.probing_interval.value > 0 and this.store.get(OFF) is None


@module.on_config
def configure() -> None:
    """Take the parameters."""
    _Codes.good = accepted_codes(declared.probing_reply_codes.value)
    socket = declared.probing_socket.value
    if socket and socket_named(socket, this.program.sockets) is None:
        raise ConfigError(f"drouting: probing_socket: the server has no socket {socket}", "probing_socket")


@module.on_process
def _start() -> None:
    if this.kind == "timer" and declared.probing_interval.value:
        prober.start(declared.probing_interval.value, lambda: list(due()))
