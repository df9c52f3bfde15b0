"""Module object and parameters of usrloc."""

from __future__ import annotations

from opensips_py.modules.usrloc import contact_events, location, ordering
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.script.flag_names import branch_flags

module = Module("usrloc", doc="Contacts of users (OpenSIPS module usrloc), kept in the shared store")

_NO_DATABASE = "contacts are kept in memory, not in a database: they are gone after a restart"
_ONE_SERVER = "contacts are those of one server"
_MEMORY_MODE = "single-instance-no-db"

preset = module.param("working_mode_preset", str, _MEMORY_MODE, doc=f"how contacts are kept: {_MEMORY_MODE}")
db_mode = module.param("db_mode", int, 0, doc="0: contacts are kept in memory only")
timer_interval = module.param("timer_interval", int, 60, doc="seconds between two removals of expired contacts")
use_domain = module.param("use_domain", int, 0, doc="user@domain is the address of record, not the user alone")
desc_time_order = module.param("desc_time_order", int, 0, doc="the newest contact comes first, not the one with the highest q")
matching_mode = module.param("matching_mode", int, 0, doc="contacts are the same: 0 by URI, 1 by URI and Call-ID")
cseq_delay = module.param("cseq_delay", int, 20, doc="seconds for which the same Call-ID and CSeq mean a retransmission")
nat_bflag = module.param("nat_bflag", str, "", doc="name of the branch flag of contacts behind NAT")
max_aor_size = module.param(
    "max_aor_size",
    int,
    65536,
    doc="bytes that all that is stored of one user's contacts may take (ours)",
)
hash_size = module.param(
    "hash_size", int, 9, doc="logarithm of what ul_dump shows", no_effect="the shared store has no hash table"
)

for _name in (
    *("contact_id_column", "user_column", "domain_column", "contact_column", "expires_column", "q_column", "callid_column"),
    *("cseq_column", "flags_column", "cflags_column", "db_url", "user_agent_column", "received_column", "path_column"),
    *("socket_column", "methods_column", "sip_instance_column", "kv_store_column", "attr_column", "sql_write_mode"),
):
    module.param(_name, str, "", doc="database", no_effect=_NO_DATABASE)
for _name in ("skip_replicated_db_ops", "max_contact_delete", "regen_broken_contactid"):
    module.param(_name, int, 0, doc="database", no_effect=_NO_DATABASE)
for _name in ("location_cluster", "shared_pinging"):
    module.param(_name, int, 0, doc="cluster", no_effect=_ONE_SERVER)
module.param("pinging_mode", str, "", doc="which server of a cluster pings", no_effect=_ONE_SERVER)
module.param("cluster_mode", str, "none", doc="what is shared in a cluster: none", not_yet=_ONE_SERVER)
module.param("cachedb_url", str, "", doc="NoSQL database of the contacts of a cluster", not_yet=_NO_DATABASE)
module.param("restart_persistency", str, "none", doc="what contacts are loaded from at start: none", not_yet=_NO_DATABASE)
module.param("contact_refresh_timer", int, 0, doc="1: E_UL_CONTACT_REFRESH is raised", not_yet="nothing wakes phones by push yet")
module.param("mi_dump_kv_store", int, 0, doc="1: ul_dump shows stored values", no_effect="contacts have no stored values")
for _name in ("latency_event_min_us", "latency_event_min_us_delta"):
    module.param(_name, int, 0, doc="microseconds of a ping that raise an event", no_effect="answers to pings are not watched")

for _event in contact_events.ALL:
    module.events[_event.name] = _event

module.statistic("registered_users", doc="addresses of record with contacts", gauge=location.users)


def nat_mask() -> int:
    """The branch flag of contacts behind NAT as a mask; 0: none."""
    return branch_flags.mask(nat_bflag.value) if nat_bflag.value else 0


@module.on_check
@module.on_config
def _configure() -> None:
    if preset.value != _MEMORY_MODE:
        raise ConfigError(f'usrloc: working_mode_preset "{preset.value}" is not supported yet: {_NO_DATABASE} ("{_MEMORY_MODE}")')
    if db_mode.value != 0:
        raise ConfigError(f"usrloc: db_mode {db_mode.value} is not supported yet: {_NO_DATABASE} (0)")
    if matching_mode.value not in (0, 1):
        raise ConfigError(f"usrloc: matching_mode is 0 or 1, not {matching_mode.value}")
    if not 0 <= hash_size.value <= 31:
        raise ConfigError(f"usrloc: hash_size is a number from 0 to 31, not {hash_size.value}")
    if timer_interval.value < 1:
        raise ConfigError(f"usrloc: timer_interval is at least 1 second, not {timer_interval.value}")
    if max_aor_size.value < 1024:
        raise ConfigError(f"usrloc: max_aor_size is at least 1024 bytes, not {max_aor_size.value}")
    location.Bounds.aor_size = max_aor_size.value
    ordering.Order.newest_first = bool(desc_time_order.value)
    nat_mask()  # names of flags get their bits before the fork
