"""SIP over TCP (OpenSIPS module proto_tcp). The transport itself is built in; scripts load the module to switch it on."""

from __future__ import annotations

from opensips_py.dns.rfc3263 import default_ports
from opensips_py.net.tcp import tuning
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.script.flag_names import branch_flags, message_flags
from opensips_py.server.process import this

module = Module("proto_tcp", doc="SIP over TCP (OpenSIPS module proto_tcp)")

tcp_port = module.param("tcp_port", int, 5060, doc="port of TCP sockets, and of destinations, that are given without one")
tcp_send_timeout = module.param(
    "tcp_send_timeout", int, 100, doc="without tcp_async: milliseconds for which a peer may read nothing of what waits for it"
)
tcp_max_msg_chunks = module.param("tcp_max_msg_chunks", int, 4, doc="pieces in which a message may arrive")
tcp_crlf_pingpong = module.param("tcp_crlf_pingpong", int, 1, doc="answer a double CRLF with a CRLF (RFC 5626 3.5.1)")
tcp_async = module.param(
    "tcp_async", int, 1, doc="1: what waits for a peer is limited in number; 0: in time (tcp_connect_timeout, tcp_send_timeout)"
)
tcp_async_max_postponed_chunks = module.param(
    "tcp_async_max_postponed_chunks",
    int,
    32,
    doc="with tcp_async: messages that may wait for a peer; one more breaks the connection",
)

module.param("tcp_crlf_drop", int, 0, doc="drop single CRLFs", no_effect="they are never seen by a script (RFC 3261 7.5)")
module.param(
    "tcp_async_local_connect_timeout", int, 100, doc="milliseconds of waiting for a connection", no_effect="nobody waits for one"
)
module.param("tcp_async_local_write_timeout", int, 10, doc="milliseconds of waiting for a peer", no_effect="nobody waits for one")
_NO_TRACE = "connections are not traced"
module.param("trace_destination", str, "", doc="where connections are traced to", no_effect=_NO_TRACE)
module.param("trace_on", int, 0, doc="trace connections", no_effect=_NO_TRACE)
module.param("trace_filter_route", str, "", doc="route that chooses what is traced", no_effect=_NO_TRACE)


@module.on_check
def check() -> None:
    """Refuse values that cannot be."""
    if not 0 < tcp_port.value < 65536:
        raise ConfigError(f"tcp_port {tcp_port.value} is not a port number (1 to 65535)")
    for param in (tcp_send_timeout, tcp_max_msg_chunks, tcp_async_max_postponed_chunks):
        if param.value < 1:
            raise ConfigError(f"proto_tcp: {param.name} must be at least 1, not {param.value}")


@module.on_config
def configure() -> None:
    """Give the values to the transport."""
    default_ports["tcp"] = tcp_port.value
    tuning.asynchronous = bool(tcp_async.value)
    tuning.send_timeout = tcp_send_timeout.value / 1000
    tuning.max_chunks = tcp_max_msg_chunks.value
    tuning.answer_pings = bool(tcp_crlf_pingpong.value)
    tuning.max_waiting = tcp_async_max_postponed_chunks.value
    settings = this.program.settings
    tuning.max_waiting_memory = settings.tcp_max_waiting_memory << 20
    reply_flag, branch_flag = settings.tcp_no_new_conn_rplflag, settings.tcp_no_new_conn_bflag
    tuning.open_reply_flag = message_flags.mask(str(reply_flag)) if reply_flag is not None else 0
    tuning.open_branch_flag = branch_flags.mask(str(branch_flag)) if branch_flag is not None else 0
