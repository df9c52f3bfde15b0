"""Statistics of what is received and sent (group ``core`` of OpenSIPS)."""

from __future__ import annotations

from opensips_py.script.declarations import Module

module = Module("core", doc="Statistics of received and sent messages")

rcv_requests = module.statistic("rcv_requests", doc="requests received")
rcv_replies = module.statistic("rcv_replies", doc="replies received")
fwd_requests = module.statistic("fwd_requests", doc="requests forwarded without state")
fwd_replies = module.statistic("fwd_replies", doc="replies forwarded without state")
drop_requests = module.statistic("drop_requests", doc="requests that reached no script")
drop_replies = module.statistic("drop_replies", doc="replies that belonged to nothing and were dropped")
err_requests = module.statistic("err_requests", doc="requests that were not SIP or on which the script failed")
err_replies = module.statistic("err_replies", doc="replies that were not SIP")
bad_msg_hdr = module.statistic("bad_msg_hdr", doc="messages with headers that cannot be read")
large_msgs = module.statistic(
    "large_msgs", doc="messages refused because they, or a part of them, are larger than the core parameters max_… allow (ours)"
)
refused_requests = module.statistic(
    "refused_requests", doc="requests answered 503 because the shared store was nearly full (ours)"
)
left_out_lines = module.statistic(
    "left_out_log_lines",
    doc="lines that were not logged: more of one place than `log_max_lines`, `log_max_bytes`, or standard error or syslog had no "
    "room (ours)",
)

net = Module("net", doc="Statistics of the sockets")
refused_connections = net.statistic(
    "refused_tcp", doc="connections closed at once because of `tcp_max_connections` or `tcp_max_connections_per_source` (ours)"
)
