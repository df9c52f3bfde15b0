"""Probing: whether destinations that have failed answer again, and in mode 1 whether active ones still do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from opensips_py.core.functions_network import socket_named
from opensips_py.modules.dispatcher import changes, declared, live, loads, partitions
from opensips_py.modules.dispatcher.declared import module
from opensips_py.modules.dispatcher.sets import State
from opensips_py.net.destinations import hop_of_uri
from opensips_py.script import environment
from opensips_py.script.context import ListenSocket
from opensips_py.script.declarations import ConfigError
from opensips_py.server.process import this
from opensips_py.sip.forward import MAX_FORWARDS
from opensips_py.tm.probing import Probe, Prober, accepted_codes

_METHOD = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+").fullmatch
_ACTIVE_TOO = 1


class _Settings:
    """What parameters say."""

    accepted: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    """Sets that are probed; empty: all."""


@module.on_check
def check() -> None:
    """Read the parameters."""
    partitions.configure()
    loads.configure()
    try:
        _Settings.accepted = accepted_codes(declared.options_reply_codes.value)
    except ValueError as error:
        raise ConfigError(f"dispatcher: options_reply_codes: {error}", "options_reply_codes") from None
    listed = [piece.strip() for piece in declared.ds_probing_list.value.split(",") if piece.strip()]
    for piece in listed:
        if not (piece.isascii() and piece.isdecimal() and len(piece) <= 10):
            raise ConfigError(f"dispatcher: ds_probing_list: [{piece}] is not the number of a set", "ds_probing_list")
    _Settings.groups = frozenset(map(int, listed))
    if declared.ds_ping_interval.value < 0:
        raise ConfigError("dispatcher: ds_ping_interval is a number of seconds", "ds_ping_interval")
    if declared.threshold() < 1:
        raise ConfigError("dispatcher: ds_probing_threshhold is 1 or more", "ds_probing_threshhold")
    if not -1 <= declared.ds_ping_maxfwd.value <= 255:
        raise ConfigError("dispatcher: ds_ping_maxfwd is a number from 0 to 255 (-1: as of other requests)", "ds_ping_maxfwd")
    if _METHOD(declared.ds_ping_method.value) is None or declared.ds_ping_method.value in ("ACK", "CANCEL"):
        raise ConfigError(f"dispatcher: ds_ping_method: [{declared.ds_ping_method.value}] cannot be a method of probes")
    if hop_of_uri(declared.ds_ping_from.value) is None:
        raise ConfigError(f"dispatcher: ds_ping_from: [{declared.ds_ping_from.value}] is not a SIP URI", "ds_ping_from")
    script = environment.checked()
    if script is not None and declared.ds_ping_interval.value and not script.loads_module("tm"):
        raise ConfigError('dispatcher: ds_ping_interval needs module tm: add loadmodule "tm.so"', "ds_ping_interval")


@module.on_config
def begin() -> None:
    """Read the tables."""
    check()
    wanted = declared.ds_probing_sock.value
    if wanted and socket_named(wanted, this.program.sockets) is None:
        raise ConfigError(f"dispatcher: ds_probing_sock: this server has no socket {wanted}", "ds_probing_sock")
    partitions.load()


def answered(name: bytes, code: int) -> None:
    """A probe has its final reply."""
    partition_name, group, uri = name.decode("latin-1").split("\0", 2)
    partition = partitions.partitions.get(partition_name)
    if partition is None:
        return
    if code not in _Settings.accepted:
        changes.change(partition, int(group), uri, changes.failed)
        return
    kept = live.read(partition.name, int(group)).kept.get(uri)
    destination = partition.sets.find(int(group), uri)
    unchanged = destination is not None and destination.state == State.ACTIVE
    if kept is None and unchanged:
        return  # nothing to write, as with nearly all probes
    changes.change(partition, int(group), uri, changes.worked)


prober = Prober(module.name, answered)


def due() -> Iterator[tuple[bytes, Probe]]:
    """The probes of a round."""
    states = (State.PROBING, State.ACTIVE) if declared.ds_probing_mode.value == _ACTIVE_TOO else (State.PROBING,)
    forced = socket_named(declared.ds_probing_sock.value) if declared.ds_probing_sock.value else None
    for partition in partitions.each():
        for group, destinations in partition.sets.groups.items():
            if _Settings.groups and group not in _Settings.groups:
                continue
            entry = live.read(partition.name, group)
            for one in destinations:
                if live.state_of(entry, one) in states:
                    yield f"{partition.name}\0{group}\0{one.uri}".encode("latin-1"), _probe(one.uri, forced or one.socket)


def _probe(uri: str, socket: ListenSocket | None) -> Probe:
    most = declared.ds_ping_maxfwd.value
    return Probe(
        uri,
        declared.ds_ping_from.value,
        declared.ds_ping_method.value,
        socket,
        MAX_FORWARDS if most < 0 else most,
    )


@module.on_process
def start() -> None:
    """Probe in the timer process."""
    if this.kind == "timer" and declared.ds_ping_interval.value:
        prober.start(declared.ds_ping_interval.value, due)
