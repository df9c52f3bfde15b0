"""Module object, parameters and event of dispatcher."""

from __future__ import annotations

from opensips_py.script.declarations import Module

module = Module("dispatcher", doc="Sets of destinations: choosing one, failing over, probing (OpenSIPS module dispatcher)")

_partitions: list[str] = []
partition = module.param(
    "partition",
    str,
    _partitions,
    multiple=True,
    doc='one more table: "name: db_url = URL; table_name = TABLE; attrs_avp = $avp(x)"; "default: name" makes it the default one',
)
db_url = module.param("db_url", str, "", doc="database of the partition default; without one there is no such partition")
table_name = module.param("table_name", str, "dispatcher", doc="table of the partition default")
setid_col = module.param("setid_col", str, "setid", doc="column of the set's number")
destination_col = module.param("destination_col", str, "destination", doc="column of the destination's URI")
socket_col = module.param("socket_col", str, "socket", doc="column of the socket to send from")
state_col = module.param("state_col", str, "state", doc="column of the state: 0 active, 1 inactive, 2 probing")
weight_col = module.param("weight_col", str, "weight", doc="column of the weight")
priority_col = module.param("priority_col", str, "priority", doc="column of the priority: the highest stands first in its set")
attrs_col = module.param("attrs_col", str, "attrs", doc="column of what the script gets with a destination")
description_col = module.param("description_col", str, "description", doc="column of a text for people")
dst_avp = module.param("dst_avp", str, "$avp(ds_dst_failover)", doc="AVP of the destinations that remain, the one in use first")
grp_avp = module.param("grp_avp", str, "$avp(ds_grp_failover)", doc="AVP of their sets")
cnt_avp = module.param("cnt_avp", str, "$avp(ds_cnt_failover)", doc="AVP that tells how many these are")
sock_avp = module.param("sock_avp", str, "$avp(ds_sock_failover)", doc="AVP of their sockets")
attrs_avp = module.param("attrs_avp", str, "", doc="AVP that gets the attributes of the destination that is chosen")
script_attrs_avp = module.param("script_attrs_avp", str, "", doc="AVP that gets what `ds_push_script_attrs()` has set for it")
algo_route = module.param("algo_route", str, "", doc="route that gives the load of a destination, for algorithm 10")
hash_pvar = module.param("hash_pvar", str, "", doc='text with variables that algorithm 7 hashes, "$fU@$ci"')
setid_pvar = module.param("setid_pvar", str, "", doc="variable that gets the set in which `ds_is_in_list()` has found an address")
pvar_algo_pattern = module.param(
    "pvar_algo_pattern",
    str,
    "",
    doc='variable with the load of a destination, for algorithm 9: "$stat(load_%u)", %u is its URI',
)
_THRESHOLD = 3
_threshhold = module.param(
    "ds_probing_threshhold",
    int,
    _THRESHOLD,
    doc="failures in a row after which a destination is no more active (as OpenSIPS spells it)",
)
_threshold = module.param("ds_probing_threshold", int, _THRESHOLD, doc="the same")
ds_ping_method = module.param("ds_ping_method", str, "OPTIONS", doc="method of probes")
ds_ping_from = module.param("ds_ping_from", str, "sip:dispatcher@localhost", doc="URI in From of probes")
ds_ping_interval = module.param("ds_ping_interval", int, 0, doc="seconds between two probes of a destination; 0: none are sent")
ds_ping_maxfwd = module.param("ds_ping_maxfwd", int, -1, doc="Max-Forwards of probes; -1: as of other requests")
ds_probing_mode = module.param("ds_probing_mode", int, 0, doc="0: destinations in state probing are probed; 1: active ones too")
options_reply_codes = module.param(
    "options_reply_codes", str, "", doc='status codes that say, besides 200, that a destination works: "501, 403"'
)
ds_probing_sock = module.param("ds_probing_sock", str, "", doc="[proto:]host:port to send probes from")
ds_probing_list = module.param("ds_probing_list", str, "", doc='sets that are probed, "1,2,3"; empty: all')
NO_BLACKLISTS = "lists of forbidden destinations do not exist yet"
module.param("ds_define_blacklist", str, "", doc='blacklist of the addresses of sets, "name = 1,2"', not_yet=NO_BLACKLISTS)
persistent_state = module.param(
    "persistent_state", int, 1, doc="1: states are read from the table at the start, and written there"
)

_NO_FREESWITCH = "it needs module freeswitch, which does not exist yet"
module.param("fetch_freeswitch_stats", int, 0, doc="1: weights from FreeSWITCH", not_yet=_NO_FREESWITCH)
module.param("max_freeswitch_weight", int, 100, doc="highest weight from FreeSWITCH", no_effect=_NO_FREESWITCH)
_NO_CLUSTER = "states are those of one server: there is no module clusterer"
module.param("cluster_id", int, 0, doc="cluster with which states are shared", not_yet=_NO_CLUSTER)
module.param("cluster_sharing_tag", str, "", doc="tag of the node that probes", not_yet=_NO_CLUSTER)

status_event = module.event(
    "E_DISPATCHER_STATUS", "partition", "group", "address", "status", doc="a destination has become active, or is no more"
)

COLUMNS = (setid_col, destination_col, socket_col, state_col, weight_col, priority_col, attrs_col, description_col)


def threshold() -> int:
    """Failures in a row after which a destination is no more active."""
    return _threshold.value if _threshold.value != _THRESHOLD else _threshhold.value
