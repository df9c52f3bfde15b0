"""Module object and parameters of usrloc."""

from __future__ import annotations

from opensips_py.db import DatabaseParameter
from opensips_py.db.dialect import check_name
from opensips_py.db.statement import StatementError
from opensips_py.modules.usrloc import contact_events, location, ordering, rows
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.script.flag_names import branch_flags

module = Module("usrloc", doc="Contacts of users (OpenSIPS module usrloc), kept in the shared store")

_NO_DATABASE = "not needed to write contacts"
_ONE_SERVER = "contacts are those of one server"
_MEMORY_MODE = "single-instance-no-db"
_PRESETS = {_MEMORY_MODE: 0, "single-instance-sql-write-through": 1, "single-instance-sql-write-back": 2}
"""The working modes, and the db_mode of each."""
_WRITE_MODES = {"none": 0, "write-through": 1, "write-back": 2}
_NOT_YET = ("sql-only", "federation-cachedb-cluster", "full-sharing-cluster", "full-sharing-cachedb-cluster")

preset = module.param("working_mode_preset", str, _MEMORY_MODE, doc=f"how contacts are kept: {', '.join(_PRESETS)}")
db_mode = module.param(
    "db_mode", int, 0, doc="0: in memory only, 1: each change is written to the database, 2: every timer_interval"
)
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

database = DatabaseParameter.declared(module)
rows.declare(module)
module.param("kv_store_column", str, "kv_store", doc="column", no_effect="contacts have no stored values")
sql_write_mode = module.param(
    "sql_write_mode", str, "none", doc="none, write-through or write-back: as the presets of these names"
)
module.param(
    "regen_broken_contactid", int, 0, doc="1: rows of other servers get new numbers", not_yet="such rows are passed over"
)
for _name in ("skip_replicated_db_ops", "max_contact_delete"):
    module.param(_name, int, 0, doc="database", no_effect=_NO_DATABASE)
for _name in ("location_cluster", "shared_pinging"):
    module.param(_name, int, 0, doc="cluster", no_effect=_ONE_SERVER)
module.param("pinging_mode", str, "", doc="which server of a cluster pings", no_effect=_ONE_SERVER)
module.param("cluster_mode", str, "none", doc="what is shared in a cluster: none", not_yet=_ONE_SERVER)
module.param("cachedb_url", str, "", doc="NoSQL database of the contacts of a cluster", not_yet=_ONE_SERVER)
restart_persistency = module.param(
    "restart_persistency",
    str,
    "",
    doc="none, or load-from-sql: contacts are read from the database at start; default: as the preset says",
)
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


def mode() -> int:
    """How contacts are written: 0 never, 1 at once, 2 by the timer. A preset that is given counts more than db_mode."""
    return _PRESETS.get(preset.value, 0) or _WRITE_MODES.get(sql_write_mode.value, 0) or int(db_mode.value)


@module.on_check
@module.on_config
def _configure() -> None:
    if preset.value in _NOT_YET or db_mode.value == 3:
        what = 'working_mode_preset "' + preset.value + '"' if preset.value in _NOT_YET else "db_mode 3"
        raise ConfigError(f"usrloc: {what} is not supported yet: {', '.join(_PRESETS)}")
    if preset.value not in _PRESETS:
        raise ConfigError(f"usrloc: invalid working_mode_preset: '{preset.value}': it is one of {', '.join(_PRESETS)}")
    if db_mode.value not in (0, 1, 2):
        raise ConfigError(f"usrloc: db_mode is 0, 1 or 2, not {db_mode.value}")
    if sql_write_mode.value not in _WRITE_MODES:
        raise ConfigError(f"usrloc: sql_write_mode is none, write-through or write-back, not {sql_write_mode.value}")
    if restart_persistency.value not in ("", "none", "load-from-sql"):
        raise ConfigError(f"usrloc: restart_persistency is none or load-from-sql, not {restart_persistency.value}")
    if mode():
        database.open()  # says what is missing
        for column in rows.parameters():
            try:
                check_name(column.value)
            except StatementError as error:
                raise ConfigError(f"usrloc: {column.name}: {error}", column.name) from None
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
