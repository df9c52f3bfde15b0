"""Module object and parameters of drouting."""

from __future__ import annotations

import re

from opensips_py import db
from opensips_py.db.dialect import check_name
from opensips_py.net.destinations import hop_of_uri
from opensips_py.script.declarations import ConfigError, Module
from opensips_py.tm.probing import accepted_codes

module = Module("drouting", doc="Dynamic routing to gateways (OpenSIPS module drouting)", depends=("tm",))

database = db.DatabaseParameter.declared(module)
partitions_database = db.DatabaseParameter.declared(module, "db_partitions_url", default=False)
use_partitions = module.param(
    "use_partitions", int, 0, doc="1: there are several sets of tables, which db_partitions_table names"
)
db_partitions_table = module.param("db_partitions_table", str, "dr_partitions", doc="table of partitions")
drd_table = module.param("drd_table", str, "dr_gateways", doc="table of gateways")
drr_table = module.param("drr_table", str, "dr_rules", doc="table of rules")
drg_table = module.param("drg_table", str, "dr_groups", doc="table of the groups of callers")
drc_table = module.param("drc_table", str, "dr_carriers", doc="table of carriers")
use_domain = module.param("use_domain", int, 1, doc="0: the domain of a caller does not matter for its group")
drg_user_col = module.param("drg_user_col", str, "username", doc="column of the caller in drg_table")
drg_domain_col = module.param("drg_domain_col", str, "domain", doc="column of its domain")
drg_grpid_col = module.param("drg_grpid_col", str, "groupid", doc="column of the group")

ruri_avp = module.param("ruri_avp", str, "", doc="AVP of the R-URIs that use_next_gw() takes; default: $avp(___dr_ruri__)")
gw_id_avp = module.param("gw_id_avp", str, "", doc="AVP of the gateway's id, those that follow below it; $avp(___dr_gw_id__)")
gw_sock_avp = module.param("gw_sock_avp", str, "", doc="AVP of the sockets for ruri_avp; default: $avp(___dr_sock__)")
gw_priprefix_avp = module.param("gw_priprefix_avp", str, "", doc="AVP of what a gateway puts in front of the number")
rule_id_avp = module.param("rule_id_avp", str, "", doc="AVP of the rule's id")
rule_prefix_avp = module.param("rule_prefix_avp", str, "", doc="AVP of the rule's prefix")
carrier_id_avp = module.param("carrier_id_avp", str, "", doc="AVP of the carrier's id, or an empty text")
partition_id_pvar = module.param("partition_id_pvar", str, "", doc='variable of the partition that "*" has led to')

default_group = module.param("default_group", int, -1, doc="group of callers that drg_table does not have; -1: none")
extra_prefix_chars = module.param("extra_prefix_chars", str, "", doc="characters of prefixes besides digits")
force_dns = module.param("force_dns", int, 1, doc="0: names of gateways are not looked up when the tables are read")
persistent_state = module.param("persistent_state", int, 1, doc="0: states are not read from column state, nor written to it")
no_concurrent_reload = module.param("no_concurrent_reload", int, 0, doc="1: dr_reload is refused while another one is under way")

probing_interval = module.param("probing_interval", int, 30, doc="seconds between two probes of a gateway; 0: none is probed")
probing_method = module.param("probing_method", str, "OPTIONS", doc="method of probes")
probing_from = module.param("probing_from", str, "sip:prober@localhost", doc="URI in From of probes")
probing_socket = module.param("probing_socket", str, "", doc="[proto:]host[:port] to probe from, for gateways without a socket")
probing_reply_codes = module.param(
    "probing_reply_codes", str, "", doc="status codes, besides 200, that say that a gateway works: 501, 403"
)

_CLUSTER = "module clusterer"
module.param("cluster_id", int, 0, doc="cluster", not_yet=_CLUSTER)
module.param("cluster_sharing_tag", str, "", doc="cluster", not_yet=_CLUSTER)
module.param("define_blacklist", str, "", doc="list of forbidden destinations", not_yet="blacklists of destinations")
module.param(
    "enable_restart_persistency", int, 0, doc="memory that outlives the server", no_effect="each start reads the database"
)

_AVP = re.compile(r"\$avp\(\s*([^()$\s]+)\s*\)").fullmatch
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+").fullmatch
"""RFC 3261 25.1."""
AVP_PARAMETERS = (ruri_avp, gw_id_avp, gw_sock_avp, gw_priprefix_avp, rule_id_avp, rule_prefix_avp, carrier_id_avp)


def avp_name(text: str) -> str | None:
    """The name in ``$avp(name)``; None for another text."""
    found = _AVP(text.strip())
    return None if found is None else found[1]


@module.on_check
def configure() -> None:
    """Check the parameters."""
    if use_partitions.value:
        if not partitions_database.url:
            raise ConfigError("drouting: use_partitions needs db_partitions_url", "use_partitions")
    elif not database.url:
        raise ConfigError("drouting: there is no database: set db_url, or core parameter db_default_url")
    for name in (db_partitions_table, drd_table, drr_table, drg_table, drc_table, drg_user_col, drg_domain_col, drg_grpid_col):
        try:
            check_name(name.value)
        except db.StatementError as error:
            raise ConfigError(f"drouting: {name.name}: {error}", name.name) from None
    for avp in AVP_PARAMETERS:
        if avp.value and avp_name(avp.value) is None:
            raise ConfigError(f"drouting: {avp.name}: [{avp.value}] is not an AVP: write $avp(name)", avp.name)
    if partition_id_pvar.value and not use_partitions.value:
        raise ConfigError("drouting: partition_id_pvar needs use_partitions", "partition_id_pvar")
    if not (extra_prefix_chars.value.isascii() and extra_prefix_chars.value.isprintable()):
        raise ConfigError("drouting: extra_prefix_chars are ASCII characters", "extra_prefix_chars")
    _check_probing()


def _check_probing() -> None:
    if probing_interval.value < 0:
        raise ConfigError(f"drouting: probing_interval is not negative: {probing_interval.value}", "probing_interval")
    if _TOKEN(probing_method.value) is None or probing_method.value in ("ACK", "CANCEL"):
        raise ConfigError(f"drouting: [{probing_method.value}] is not a method of probes", "probing_method")
    if hop_of_uri(probing_from.value) is None:
        raise ConfigError(f"drouting: [{probing_from.value}] is not a SIP URI", "probing_from")
    try:
        accepted_codes(probing_reply_codes.value)
    except ValueError as error:
        raise ConfigError(f"drouting: probing_reply_codes: {error}", "probing_reply_codes") from None
