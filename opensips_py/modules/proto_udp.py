"""SIP over UDP (OpenSIPS module proto_udp). The transport itself is built in; scripts load the module to switch it on."""

from __future__ import annotations

from opensips_py.dns.rfc3263 import default_ports
from opensips_py.script.declarations import ConfigError, Module

module = Module("proto_udp", doc="SIP over UDP (OpenSIPS module proto_udp)")
udp_port = module.param("udp_port", int, 5060, doc="port of UDP sockets, and of destinations, that are given without one")


@module.on_check
@module.on_config
def check() -> None:
    """Refuse a port that does not exist; tell the one that is meant where none is said."""
    if not 0 < udp_port.value < 65536:
        raise ConfigError(f"udp_port {udp_port.value} is not a port number (1 to 65535)")
    default_ports["udp"] = udp_port.value
